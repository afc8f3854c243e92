"""Selection of images: every criterion at its exact edges, the choice against brute force, bad input."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers import append, epochal_file, make_store, reference_file, rows_at
from hypothesis import given
from hypothesis import strategies as st

from ztfmatch.cli import main
from ztfmatch.core.errors import ConfigError, MetadataError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.references.io.images import ImageSource
from ztfmatch.references.kernels.selection import CRITERIA, OUTCOMES, choose, failures
from ztfmatch.references.schema.settings import FlatOverride, ReferenceSettings
from ztfmatch.references.selection import select_images, with_limits

SETTINGS = ReferenceSettings()
NIGHT = 20180601
GOOD: dict[str, Any] = {
    "field": 500, "rcid": 3, "fwhm": 2.0, "status": 1, "infobits": 0, "maglimit": 20.5, "median": 200.0, "rms": 10.0,
    "flatdelta": 0.02, "flatrms": 0.02,
}  # fmt: skip
BY_FILTER = {
    1: {"magzp": 26.0, "clrcoeff": 0.0},
    2: {"magzp": 26.0, "clrcoeff": 0.1},
    3: {"magzp": 25.5, "clrcoeff": 0.1},
}


def exposureids(n: int, night: int = NIGHT) -> np.ndarray:
    return (night * 10**6 + 200_000 + np.arange(n)) * 100 + 3


def metadata(n: int = 1, fid: int = 1, **columns: Any) -> pa.Table:
    """Good images of one unit but for some columns."""
    values = {"exposureid": exposureids(n), "fid": fid, **GOOD, **BY_FILTER.get(fid, BY_FILTER[1]), **columns}
    return pa.table({name: np.broadcast_to(np.asarray(value), (n,)) for name, value in values.items()})


def failing(fid: int = 1, settings: ReferenceSettings = SETTINGS, **columns: Any) -> str:
    """First criterion that an image fails; 'selected' if none."""
    table = metadata(1, fid, **columns)
    images = {name: table[name].to_numpy() for name in table.column_names}
    return OUTCOMES[
        int(
            choose(
                np.zeros(1, int), images["fwhm"], images["exposureid"], failures(images, settings), (1, 1, 9)
            ).outcome[0]
        )
    ]


RANGES = {
    "fwhm": {1: (1.7, 5.0), 2: (1.7, 5.0), 3: (1.7, 4.5)},
    "magzp": {1: (25.3, 26.5), 2: (25.3, 26.5), 3: (25.25, 25.85)},
    "clrcoeff": {1: (-0.20, 0.15), 2: (-0.05, 0.22), 3: (0.05, 0.30)},
}
EDGES = [
    *((name, name, fid, side, edge) for name, ranges in RANGES.items() for fid, edges in ranges.items()
      for side, edge in zip(("low", "high"), edges, strict=True)),
    *(("maglimit", "maglimit", fid, "low", edge) for fid, edge in {1: 19.0, 2: 19.0, 3: 18.0}.items()),
    *(("median", "median", fid, "high", edge) for fid, edge in {1: 1900.0, 2: 1600.0, 3: 1200.0}.items()),
    *(("rms", "rms", fid, "high", edge) for fid, edge in {1: 100.0, 2: 100.0, 3: 80.0}.items()),
    *(("flatness", "flatrms", fid, "high", edge) for fid, edge in {1: 0.035, 2: 0.030, 3: 0.030}.items()),
    *(("flatness", "flatdelta", fid, "high", edge) for fid, edge in {1: 0.047, 2: 0.045, 3: 0.045}.items()),
]  # fmt: skip
"""Criterion, column, filter, bound and its value, as the survey has them."""


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("criterion", "column", "fid", "side", "edge"), EDGES)
def test_edge_of_criterion_is_inclusive(
    criterion: str, column: str, fid: int, side: str, edge: float, kind: type
) -> None:
    at = kind(edge)
    beyond = np.nextafter(at, kind(-np.inf if side == "low" else np.inf))
    assert failing(fid, **{column: at}) == "selected"
    assert failing(fid, **{column: beyond}) == criterion
    assert failing(fid, **{column: kind(np.nan)}) == criterion


@pytest.mark.parametrize(("status", "outcome"), [(1, "selected"), (0, "status"), (-1, "status")])
def test_status_is_1(status: int, outcome: str) -> None:
    assert failing(status=status) == outcome


@pytest.mark.parametrize(
    ("infobits", "outcome"),
    [
        (0, "selected"),
        (16, "selected"),
        (1 << 24, "selected"),
        (1 << 25, "infobits"),
        (1 << 31, "infobits"),
        (-1, "infobits"),
    ],
)
def test_no_bad_infobit_is_set(infobits: int, outcome: str) -> None:
    assert failing(infobits=infobits) == outcome


@pytest.mark.parametrize(("night", "outcome"), [(20180205, "selected"), (20180204, "night"), (20171231, "night")])
def test_night_is_the_first_or_later(night: int, outcome: str) -> None:
    assert failing(exposureid=exposureids(1, night)[0]) == outcome


@pytest.mark.parametrize(("n", "selected"), [(14, 0), (15, 15), (40, 40), (41, 40)])
def test_unit_has_at_least_nmin_images_and_the_best_nmax(n: int, selected: int, tmp_path: Path) -> None:
    """The fifteenth makes it, the forty-first is too many: the blurriest, whatever their order."""
    fwhm = np.random.default_rng(1).permutation(np.linspace(1.8, 3.0, n))
    pq.write_table(
        pa.concat_tables([metadata(n, fwhm=fwhm), metadata(20, 2, exposureid=exposureids(20, 20190101))]),
        tmp_path / "m.parquet",
    )
    rows = select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS).image_table().to_pylist()[:n]
    taken = sorted((row for row in rows if row["outcome"] == "selected"), key=lambda row: row["place"])
    assert [row["fwhm"] for row in taken] == sorted(fwhm)[:selected]
    assert [row["place"] for row in taken] == list(range(1, selected + 1))
    assert {row["outcome"] for row in rows} - {"selected"} <= ({"nmin"} if n < 15 else {"nmax"})


def test_first_failing_criterion_is_told() -> None:
    assert failing(fwhm=1.0, magzp=20.0) == "fwhm"
    assert failing(status=0, rms=1e9) == "status"
    assert [criterion.name for criterion in CRITERIA] == [
        *("fwhm", "status", "infobits", "magzp", "clrcoeff", "maglimit", "median", "rms", "night", "flatness")
    ]


def test_criterion_that_is_left_out_is_not_applied() -> None:
    without = with_limits(SETTINGS, without=("flatness",))
    assert failing(settings=without, flatrms=1.0) == "selected"


def test_override_of_flatness_is_of_its_fields_and_filter() -> None:
    own = FlatOverride((500,), "g", 0.1, 0.1)
    settings = replace(SETTINGS, flatness=replace(SETTINGS.flatness, overrides=(own,)))
    assert failing(settings=settings, flatrms=0.1, flatdelta=0.1) == "selected"
    assert failing(settings=settings, flatrms=0.1, field=501) == "flatness"
    assert failing(2, settings=settings, flatrms=0.1) == "flatness"


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 120), nmin=st.integers(1, 8), more=st.integers(0, 8))
def test_choice_is_that_of_brute_force(seed: int, n: int, nmin: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    unit, fwhm = rng.integers(0, 6, n), rng.integers(1, 6, n) / 2.0
    exposureid = rng.permutation(n).astype(np.int64)
    bits = np.where(rng.random(n) < 0.6, 0, rng.integers(0, 1 << len(CRITERIA), n)).astype(np.uint16)
    got = choose(unit, fwhm, exposureid, bits, (6, nmin, nmin + more))
    for u in range(6):
        passing = sorted((i for i in range(n) if unit[i] == u and bits[i] == 0), key=lambda i: (fwhm[i], exposureid[i]))
        taken = passing[: nmin + more] if len(passing) >= nmin else []
        assert got.order[got.offsets[u] : got.offsets[u + 1]].tolist() == taken
        assert got.passed[u] == len(passing)
    for i in range(n):
        name = OUTCOMES[got.outcome[i]]
        if bits[i]:
            assert name == next(c.name for k, c in enumerate(CRITERIA) if bits[i] >> k & 1)
        else:
            assert (name == "selected") == (i in got.order.tolist())


class TestTable:
    def test_units_have_the_counts_by_criterion(self, tmp_path: Path) -> None:
        table = pa.concat_tables([metadata(16), metadata(3, exposureid=exposureids(3, 20190101), magzp=20.0)])
        pq.write_table(table, tmp_path / "m.parquet")
        (row,) = select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS).unit_table().to_pylist()
        assert (row["field"], row["rcid"], row["fid"], row["nimages"], row["npassed"]) == (500, 3, 1, 19, 16)
        assert (row["n_selected"], row["n_magzp"], row["n_fwhm"]) == (16, 3, 0)
        assert row["predicted"] == pytest.approx(20.5 + 1.25 * np.log10(16))

    def test_csv_and_the_names_of_others_are_read(self, tmp_path: Path) -> None:
        table = metadata(16)
        fracday = pa.array(exposureids(16) // 100)
        table = table.drop_columns(["exposureid"]).append_column("filefracday", fracday)
        names = {"fwhm": "SEEING", "maglimit": "limitmag", "median": "gmedian", "rms": "grms"}
        table = table.rename_columns([names.get(name, name) for name in table.column_names])
        pyarrow.csv.write_csv(table, tmp_path / "m.csv")
        selection = select_images(ImageSource(table=tmp_path / "m.csv"), SETTINGS)
        assert len(selection.choice.order) == 16
        assert selection.images.exposureid.tolist() == exposureids(16).tolist()

    def test_store_and_the_table_beside_it_complete_each_other(self, tmp_path: Path) -> None:
        reference_file(tmp_path, rows_at([10.0], [10.0]))
        storage = make_store(tmp_path / "store", [tmp_path])
        nights = [
            epochal_file(tmp_path / "c", rows_at([10.0], [10.0]), night, MAGZP=26.0, CLRCOEFF=0.1, MAGLIM=20.5)
            for night in range(16)
        ]
        append(storage, nights)
        ids = open_snapshot(storage).read("exposures", ["exposureid"])["exposureid"].to_pylist()
        beside = metadata(15, 2, exposureid=ids[:15]).drop_columns(["magzp", "clrcoeff", "maglimit"])
        pq.write_table(beside, tmp_path / "m.parquet")
        settings = with_limits(SETTINGS, without=("infobits",))
        selection = select_images(ImageSource(open_snapshot(storage), tmp_path / "m.parquet"), settings)
        assert len(selection.choice.order) == 15
        assert selection.figures()[0]["fwhm"] == 1  # of which the table says nothing
        lacking = r"no column status \(looked for status\), and criterion status needs it; no column rms .*"
        with pytest.raises(MetadataError, match=lacking + r"\(--without status --without rms\)"):
            select_images(ImageSource(open_snapshot(storage)), settings)
        left_out = with_limits(SETTINGS, without=("infobits", "status", "median", "rms"))
        with pytest.raises(MetadataError, match=r"column fwhm is empty in 16 images, and criterion fwhm needs it"):
            select_images(ImageSource(open_snapshot(storage)), left_out)


class TestBadInput:
    @pytest.mark.parametrize("criterion", [c for c in CRITERIA if c.columns], ids=lambda c: c.name)
    def test_column_that_is_not_there_is_named_with_its_criterion(self, criterion: Any, tmp_path: Path) -> None:
        for column in criterion.columns:
            pq.write_table(metadata(20).drop_columns([column]), tmp_path / "m.parquet")
            with pytest.raises(MetadataError, match=f"no column {column} .*criterion {criterion.name} needs it"):
                select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    @pytest.mark.parametrize("key", ["field", "rcid", "fid", "exposureid"])
    def test_key_that_is_not_there_is_named(self, key: str, tmp_path: Path) -> None:
        pq.write_table(metadata(20).drop_columns([key]), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match=r"has no column (fracday|field|rcid|fid)"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    @pytest.mark.parametrize(("column", "value"), [("fid", 4), ("fid", 0), ("rcid", 64), ("field", 0)])
    def test_unknown_filter_channel_or_field(self, column: str, value: int, tmp_path: Path) -> None:
        pq.write_table(metadata(2, **{column: value}), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match=rf"image {exposureids(1)[0]} has {column} {value}; expected"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    def test_empty_selection_says_why(self, tmp_path: Path) -> None:
        pq.write_table(metadata(14), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match=r"an empty selection: none of 14 images .*: nmin 14"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)
        pq.write_table(metadata(14).slice(0, 0), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match="there are none"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    def test_column_without_any_value(self, tmp_path: Path) -> None:
        table = metadata(20)
        at = table.schema.get_field_index("flatrms")
        pq.write_table(table.set_column(at, "flatrms", pa.nulls(20, pa.float32())), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match=r"column flatrms is empty in 20 images"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    def test_null_and_nan_fail_their_criterion(self, tmp_path: Path) -> None:
        table = metadata(20)
        for name, values in {"rms": [None, np.nan] + [10.0] * 18, "status": [1, 1, None] + [1] * 17}.items():
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
        pq.write_table(table, tmp_path / "m.parquet")
        (row,) = select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS).unit_table().to_pylist()
        assert (row["n_rms"], row["n_status"], row["n_selected"]) == (2, 1, 17)

    def test_image_that_is_there_twice(self, tmp_path: Path) -> None:
        pq.write_table(pa.concat_tables([metadata(20), metadata(2)]), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match=f"image {exposureids(1)[0]} is there more than once, as are 1 others"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    def test_text_in_place_of_numbers(self, tmp_path: Path) -> None:
        table = metadata(20)
        at = table.schema.get_field_index("magzp")
        pq.write_table(table.set_column(at, "magzp", pa.array(["high"] * 20)), tmp_path / "m.parquet")
        with pytest.raises(MetadataError, match=r"m\.parquet: column magzp: .*; expected numbers"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)

    def test_what_is_no_table(self, tmp_path: Path) -> None:
        (tmp_path / "m.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(MetadataError, match="not a readable table of metadata"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), SETTINGS)
        with pytest.raises(MetadataError, match="no such table of metadata"):
            select_images(ImageSource(table=tmp_path / "none.parquet"), SETTINGS)

    def test_unknown_criterion(self, tmp_path: Path) -> None:
        pq.write_table(metadata(20), tmp_path / "m.parquet")
        with pytest.raises(ConfigError, match="there is no criterion 'seeing'; there are: fwhm, status"):
            select_images(ImageSource(table=tmp_path / "m.parquet"), with_limits(SETTINGS, without=("seeing",)))


def test_defaults_are_those_of_the_survey() -> None:
    select = SETTINGS.select
    assert select.first_night == datetime.date(2018, 2, 5)
    assert (select.nmin, select.nmax, SETTINGS.plan.nmax, select.status) == (15, 40, 50, 1)


class TestCommand:
    def test_select_writes_images_and_units(self, tmp_path: Path) -> None:
        pq.write_table(
            pa.concat_tables([metadata(16), metadata(20, 2, exposureid=exposureids(20, 20190101))]),
            tmp_path / "m.parquet",
        )
        command = ["references", "select", "--metadata", str(tmp_path / "m.parquet")]
        files = ["--images", str(tmp_path / "i.parquet"), "--counts", str(tmp_path / "u.csv")]
        done = CliRunner().invoke(main, [*command, *files])
        assert done.exit_code == 0, done.output
        assert "36 of 36 images selected" in done.stdout
        assert pq.read_table(tmp_path / "i.parquet").num_rows == 36
        assert len((tmp_path / "u.csv").read_text().splitlines()) == 3
        as_json = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
        assert [row["selected"] for row in as_json["figures"]] == [16, 20]

    def test_select_without_images_is_refused(self) -> None:
        done = CliRunner().invoke(main, ["references", "select"])
        assert (done.exit_code, "give a STORE, or --metadata" in done.output) == (2, True)

    def test_empty_selection_is_an_error(self, tmp_path: Path) -> None:
        pq.write_table(metadata(3), tmp_path / "m.parquet")
        done = CliRunner().invoke(
            main, ["references", "select", "--metadata", str(tmp_path / "m.parquet"), "--nmin", "4"]
        )
        assert (done.exit_code, "an empty selection" in done.stderr) == (2, True)
