"""Release scopes: what a file may say, what it means, and one clear line for what it may not say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.time import Time

from ztfmatch.core.errors import ConfigError, ScopeError
from ztfmatch.release.io.scope import Quality, ReleaseScope, Window, parse_scope, read_scope

FULL = """
release = "dr2"
description = "the second"
filters = ["zr", "zg"]
fields = [250, "600-699"]
private_corrections = true

[[programs]]
id = 1
until = 2018-12-31

[[programs]]
id = 2
since = 2018-03-17T12:00:00Z
until = 58299.5

[quality]
only_good_exposures = true
reject_catflags = 32768
max_magerr = 0.5
max_airmass = 2
"""


def write(place: Path, text: str) -> Path:
    path = place / "scope.toml"
    path.write_text(text)
    return path


def test_read_scope_full_file_means_what_it_says(tmp_path: Path) -> None:
    scope = read_scope(write(tmp_path, FULL))
    assert scope == ReleaseScope(
        "dr2",
        (Window(1, None, Time("2019-01-01").mjd), Window(2, Time("2018-03-17T12:00:00").mjd, 58299.5)),
        fids=(1, 2),
        fields=((250, 250), (600, 699)),
        quality=Quality(True, 32768, 0.5, 2),
        description="the second",
        private_corrections=True,
    )
    assert scope.programs == {1, 2}


def test_of_programs_window_includes_its_start_and_not_its_end() -> None:
    scope = ReleaseScope("x", (Window(1, 100.0, 200.0), Window(1, 300.0), Window(2, None, 50.0)))
    programs = np.array([1, 1, 1, 1, 1, 2, 2, 3, 0])
    start = np.array([99.9, 100.0, 199.9, 200.0, 300.0, 49.9, 50.0, 120.0, 120.0])
    assert scope.of_programs(programs, start).tolist() == [False, True, True, False, True, True, False, False, False]


def test_of_units_takes_ranges_and_filters() -> None:
    scope = ReleaseScope("x", (Window(1),), fids=(2,), fields=((250, 250), (600, 699)))
    field, fid = np.array([250, 250, 251, 600, 699, 700]), np.array([2, 1, 2, 2, 2, 2])
    assert scope.of_units(field, fid).tolist() == [True, False, False, True, True, False]
    assert ReleaseScope("x", (Window(1),)).of_units(field, fid).all()


def test_within_clips_every_window_and_drops_what_is_outside() -> None:
    scope = ReleaseScope("x", (Window(1), Window(2, 100.0, 200.0), Window(3, 500.0, 600.0)))
    assert scope.within(150.0, 400.0).windows == (Window(1, 150.0, 400.0), Window(2, 150.0, 200.0))
    assert scope.within(None, None) == scope
    with pytest.raises(ScopeError, match="the dates end before they start: since MJD 2"):
        scope.within(2.0, 1.0)
    with pytest.raises(ScopeError, match="no program of release 'y' has epochs between MJD 700"):
        ReleaseScope("y", (Window(3, 500.0, 600.0),)).within(700.0, None)


def test_digest_is_the_one_that_earlier_versions_wrote(tmp_path: Path) -> None:
    """Also of a cut that is a whole number."""
    assert read_scope(write(tmp_path, FULL)).digest == "524df74f73f1c168"


def test_digest_follows_the_meaning_and_not_the_spelling(tmp_path: Path) -> None:
    first = read_scope(write(tmp_path, FULL))
    assert read_scope(write(tmp_path, FULL.replace('["zr", "zg"]', '["zg","zr"]  # both'))).digest == first.digest
    assert read_scope(write(tmp_path, FULL.replace("58299.5", "58299.6"))).digest != first.digest


PROGRAM = "\n[[programs]]\nid = 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("release = ", "not TOML"),
        ('release = "Data Release"' + PROGRAM, "release is 'Data Release'; expected a label such as 'dr2'"),
        (PROGRAM, "release is missing; expected a label"),
        ('release = "a/b"' + PROGRAM, "release is 'a/b'"),
        ('release = "x"', r"programs is missing; expected at least one table \[\[programs\]\], else the scope"),
        ('release = "x"\nprograms = []', "the scope is empty"),
        ('release = "x"\n[[programs]]\nid = 4', r"id in \[\[programs\]\] is 4; expected one of 1 \(public\), 2 \(part"),
        ('release = "x"\n[[programs]]\nid = "1"', r"id in \[\[programs\]\] is '1'; expected a whole number, one of 1"),
        ('release = "x"\n[[programs]]\nid = true', r"id in \[\[programs\]\] is True; expected a whole number"),
        ('release = "x"\n[[programs]]\nsince = 58000.0', r"id is missing in \[\[programs\]\]; expected one of 1"),
        (
            'release = "x"\n[[programs]]\nid = 2\nsince = 2019-01-02\nuntil = 2019-01-01',
            "the window of program 2 ends before it starts: since 2019-01-02, until 2019-01-01",
        ),
        ('release = "x"\n[[programs]]\nid = 2\nsince = 58300.0\nuntil = 58300', "ends before it starts"),
        ('release = "x"\n[[programs]]\nid = 1\nuntil = "June"', "until of program 1 is 'June'; expected a date"),
        ('release = "x"\n[[programs]]\nid = 1\nuntil = 2458300.5', "until of program 1 is 2458300.5; expected an MJD"),
        ('release = "x"\n[[programs]]\nid = 1\nfrom = 2018-01-01', r"unknown key 'from' in \[\[programs\]\]"),
        ('release = "x"\nfilter = ["zg"]' + PROGRAM, "unknown key 'filter'; there are: release, programs"),
        ('release = "x"\nfilters = ["g"]' + PROGRAM, r"filters\[0\] is 'g'; expected one of zg, zr, zi"),
        ('release = "x"\nfilters = []' + PROGRAM, r"filters is \[\]; expected a list that is not empty"),
        ('release = "x"\nfields = "all"' + PROGRAM, "fields is 'all'; expected a list"),
        ('release = "x"\nfields = ["20-10"]' + PROGRAM, "field '20-10'; expected a number of 1 to 9999, or a range"),
        ('release = "x"\nfields = [0]' + PROGRAM, "field 0; expected a number"),
        ('release = "x"\nfields = [1.5]' + PROGRAM, r"fields\[0\] is 1\.5; expected a whole number or text"),
        ('release = "x"\nfields = ["250"]' + PROGRAM, "field '250'; expected a number"),
        ('release = "x"\nfields = [true]' + PROGRAM, r"fields\[0\] is True; expected a whole number or text"),
        ('release = "x"' + PROGRAM + '[quality]\nseeing = 2', r"unknown key 'seeing' in \[quality\]"),
        ('release = "x"' + PROGRAM + '[quality]\nmax_magerr = "x"', r"max_magerr in \[quality\] is 'x'; expected a n"),
        ('release = "x"' + PROGRAM + '[quality]\nmax_magerr = 0.0', "nothing would be left"),
        ('release = "x"' + PROGRAM + '[quality]\nreject_catflags = 65536', "expected bits below 65536"),
        ('release = "x"' + PROGRAM + '[quality]\nreject_catflags = true', "expected a whole number, bits below 65536"),
        ('release = "x"' + PROGRAM + '[quality]\nonly_good_exposures = 1', "expected true or false"),
        ('release = "x"\ndescription = 1' + PROGRAM, "description is 1; expected text"),
        ('release = "x"\nprivate_corrections = 1' + PROGRAM, "private_corrections is 1; expected true or false"),
        ('release = "x"\nquality = 1' + PROGRAM, "quality is 1; expected a table"),
    ],
)  # fmt: skip
def test_read_scope_bad_file_is_one_line_with_file_and_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScopeError, match=message) as caught:
        read_scope(write(tmp_path, text))
    assert str(tmp_path / "scope.toml") in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_read_scope_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match="cannot be read: No such file"):
        read_scope(tmp_path / "none.toml")


def test_parse_scope_window_of_a_date_ends_with_its_day() -> None:
    import datetime

    day = datetime.date(2018, 6, 30)
    assert parse_scope({"release": "x", "programs": [{"id": 1, "since": day, "until": day}]}).windows == (
        Window(1, Time("2018-06-30").mjd, Time("2018-07-01").mjd),
    )
