"""The page on references: its figures, its maps against the places of quadrants, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import hpgeom
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers import append, epochal_file, make_store, rows_at
from reference_scene import quadrant, write_reference
from test_plan import audit_rows, images, planned
from widths import check_fits, on_terminal

from ztfmatch.cli import main
from ztfmatch.core.camera import Plane, Pointing, field_centre, quadrant_corners, sky_positions
from ztfmatch.core.errors import ConfigError, MetadataError, OutputExistsError
from ztfmatch.plot.footprint import COVERAGE_ORDER
from ztfmatch.references.page import PAGE, PageInputs, make_page
from ztfmatch.references.pictures import draw_flatness, sky_values
from ztfmatch.references.schema import AUDIT
from ztfmatch.references.schema.settings import ReferenceSettings

SETTINGS = ReferenceSettings()
FLAT = {"delta": 0.02, "rms": 0.02, "nwon": 7, "nmissing": 1, "nspurious": 2}


def written(place: Path) -> PageInputs:
    flags = {rcid: {"rcid": rcid, "suspect": rcid == 3, "suspect_ps1": rcid == 3, "rank": rcid} for rcid in (3, 4)}
    units = [(field, rcid, fid) for field in (500, 501) for rcid in (3, 4) for fid in (1, 2)]
    rows = [{"field": field, "fid": fid, **FLAT, **flags[rcid]} for field, rcid, fid in units]
    pq.write_table(audit_rows(*rows), place / "audit.parquet")
    pq.write_table(planned(place, images({500: 20, 501: 3}), audit_rows(*rows)).table, place / "plan.parquet")
    return PageInputs(place / "page", place / "audit.parquet", place / "plan.parquet")


def test_page_has_its_figures_and_needs_nothing_else(tmp_path: Path) -> None:
    report = make_page(written(tmp_path), SETTINGS)
    text = (tmp_path / "page" / PAGE).read_text()
    assert (report.references, report.suspect) == (8, 4)
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        *("Quality", "On the sky", "Flatness", "What is planned", "To be mended first")
    ]
    assert text.count("data:image/png;base64,") == 5
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "000500_zg_c01_q4" in text


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    inputs = written(tmp_path)
    make_page(inputs, SETTINGS)
    make_page(PageInputs(tmp_path / "again", inputs.audit, inputs.plan), SETTINGS)
    assert (tmp_path / "page" / PAGE).read_bytes() == (tmp_path / "again" / PAGE).read_bytes()


def test_page_of_a_store_has_the_survey_in_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = quadrant(n_side=5)
    write_reference(tmp_path / "r", scene)
    storage = make_store(tmp_path / "store", [tmp_path / "r"])
    append(
        storage,
        [epochal_file(tmp_path / "c", rows_at(scene.ra[:9], scene.dec[:9]), night, scene.unit) for night in range(3)],
    )
    written(tmp_path)
    words = [
        str(tmp_path / "store"),
        "--audit",
        str(tmp_path / "audit.parquet"),
        "--output",
        str(tmp_path / "p"),
        "--visits",
        "3",
    ]
    on_terminal(monkeypatch, 80)
    done = CliRunner().invoke(main, ["references", "page", *words])
    assert done.exit_code == 0, done.output
    check_fits(done.stdout, 80)
    text = (tmp_path / "p" / PAGE).read_text()
    row = re.search(r"<td[^>]*>zr</td>(.*?)</tr>", text, re.DOTALL)
    assert row is not None
    assert re.findall(r">([\d,]+)<", row[1])[:6] == ["3", "3", "1", "1", "27", "25"]


@pytest.mark.parametrize("mean", [True, False])
def test_values_are_where_quadrants_lie(mean: bool) -> None:
    """Corners, drawn in a little, are in their quadrant."""
    table = pa.table({"field": [500, 500, 501], "rcid": [3, 4, 4], "fid": [1, 1, 2]})
    values = sky_values(table, 1, np.array([2.0, np.nan, 5.0]), mean)
    assert set(values[np.isfinite(values)].tolist()) == {2.0}
    corners = 0.7 * quadrant_corners(3) + 0.3 * quadrant_corners(3).mean(axis=0)
    inside = sky_positions(Pointing(*field_centre(500)).deproject(Plane(corners[:, 0], corners[:, 1])))
    pixels = hpgeom.angle_to_pixel(2**COVERAGE_ORDER, *inside)
    area = np.isfinite(values).sum() * hpgeom.nside_to_pixel_area(2**COVERAGE_ORDER)
    assert np.isfinite(values[pixels]).all()
    assert area == pytest.approx(0.75, rel=0.1)


def test_flatness_is_drawn_with_its_thresholds_in_sight() -> None:
    """Of references far better than these."""
    audit = pa.table({"fid": [1, 2], "suspect": [False, False], "delta": [0.01, 0.012], "rms": [0.01, 0.009]})
    figure = draw_flatness(audit, SETTINGS)
    for axes, limits in zip(figure.axes, (SETTINGS.flatness.limits.g, SETTINGS.flatness.limits.r), strict=True):
        assert 1000.0 * limits.delta < axes.get_xlim()[1]
        assert 1000.0 * limits.rms < axes.get_ylim()[1]


class TestBadInput:
    def test_output_that_is_there(self, tmp_path: Path) -> None:
        inputs = written(tmp_path)
        inputs.output.mkdir()
        with pytest.raises(OutputExistsError, match="is there already: give a new place for the page"):
            make_page(inputs, SETTINGS)

    def test_audit_that_is_none(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
        with pytest.raises(MetadataError, match="is not an audit: it has no column field"):
            make_page(PageInputs(tmp_path / "p", tmp_path / "a.parquet"), SETTINGS)

    def test_audit_without_references(self, tmp_path: Path) -> None:
        pq.write_table(AUDIT.schema.empty_table(), tmp_path / "a.parquet")
        with pytest.raises(ConfigError, match="has no reference"):
            make_page(PageInputs(tmp_path / "p", tmp_path / "a.parquet"), SETTINGS)
