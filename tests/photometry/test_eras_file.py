"""Files of the camera's eras: dates that are taken, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.time import Time

from ztfmatch.core.errors import MetadataError
from ztfmatch.photometry.io.eras import read_eras


def test_read_eras_dates_and_mjd_agree_with_astropy(tmp_path: Path) -> None:
    path = tmp_path / "eras.csv"
    path.write_text(
        "# cleaned, new waveforms\n"
        "begin,end,what\n2018-03-17,2018-09-30,first light\n2018-10-02T12:00:00,,waveforms\n58900.25,59000,cleaned\n"
    )
    want = [Time("2018-10-02T12:00:00", scale="utc").mjd, 58_900.25]
    assert read_eras(path) == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("begin,end\n2018-03-17,2018-09-30\n2018-08-01,\n", "era 2 begins 2018-08-01, before the one above it ends"),
        ("begin\n2018-03-17\n2018-01-01\n", "era 2 begins 2018-01-01, before the one above it ends or begins"),
        ("begin,end\n2018-09-30,2018-03-17\n", "era 1 ends 2018-03-17, not after its begin 2018-09-30.*reversed"),
        ("begin\n2018-03-17\n2018-03-17\n", "era 2 begins 2018-03-17, as the one above it"),
        ("begin\nyesterday\n", "era 1, begin: 'yesterday' is neither an ISO date nor an MJD"),
        ("begin\n2458300.5\n", "2458300.5 is not an MJD of 2000 to 2099"),
        ("start\n58000\n", "a column begin"), ("", "at least one era"), ("begin\n", "at least one era"),
    ],
)  # fmt: skip
def test_read_eras_bad_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "eras.csv"
    path.write_text(text)
    with pytest.raises(MetadataError, match=complaint):
        read_eras(path)


def test_read_eras_of_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="no readable file of eras"):
        read_eras(tmp_path / "none.csv")
