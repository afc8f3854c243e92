"""The demonstration of a regenerated reference: what it finds is what the store holds, and the picture shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from click.testing import CliRunner
from matplotlib.figure import Figure

import ztfmatch
from ztfmatch.cli import main
from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.runner import no_progress
from ztfmatch.core.survey import objectid_range
from ztfmatch.demo import RegenerationReport, run_regeneration
from ztfmatch.demo.regeneration import UNIT, demo_config
from ztfmatch.plot import Story, plot_regenerations
from ztfmatch.plot.regeneration import regeneration_figure
from ztfmatch.query.regeneration import Regeneration, regeneration_of
from ztfmatch.simulate import Defects, Simulator
from ztfmatch.simulate.catalogs import UnitSky
from ztfmatch.simulate.defects import blended_part, spoilt_reference, write_spoilt_reference
from ztfmatch.simulate.variability import TRANSIENT

DEFECTS = Defects(58340.0, 3.0)


@dataclass(frozen=True)
class Shown:
    """What the demonstration did and said."""

    report: RegenerationReport
    said: str

    @property
    def store(self) -> ztfmatch.Store:
        return ztfmatch.open_store(self.report.store)

    def regenerations(self) -> list[Regeneration]:
        return self.store.regenerations(self.report.objectids)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    lines: list[str] = []
    place = tmp_path_factory.mktemp("demo") / "demo"
    return Shown(run_regeneration(place, 1, Resources(), no_progress, lines.append), "\n".join(lines))


@pytest.fixture(scope="module")
def sky() -> UnitSky:
    return next(sky for sky in Simulator(demo_config(1)).units() if sky.unit == UNIT)


def test_run_regeneration_mends_both_stars_and_loses_no_detection(shown: Shown) -> None:
    report = shown.report
    assert report.verified
    assert report.before["matched"] + report.before["orphans"] == report.matched + report.orphans
    assert report.matched > 1.1 * report.before["matched"]
    misplaced, blended = shown.regenerations()
    assert misplaced.regained > 15
    assert misplaced.now.sum() > 50
    assert blended.given_up > 15
    assert blended.now.sum() > 50
    assert blended.regained > 15


def test_run_regeneration_says_beforehand_what_the_rematch_does(shown: Shown) -> None:
    report = shown.report
    assert report.forecast == [report.unit]
    assert f"{report.unit.lost:,} lost" in shown.said
    assert f"{report.matched:,} would be matched" in shown.said
    for old, new in zip(report.objectids, report.newobjectids, strict=True):
        assert f"object {old} is retired: moved, now {new}" in shown.said
    assert Path(report.plots[0]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_run_regeneration_says_lines_of_80_columns_but_for_its_directory(shown: Shown) -> None:
    said = "\n".join([shown.said, *shown.report.guide]).replace(str(Path(shown.report.store).parent), "demo")
    assert max(map(len, said.splitlines())) <= 80


def test_run_regeneration_leaves_the_other_filter_as_it_was(shown: Shown) -> None:
    low, high = objectid_range(UNIT)
    before, after = (shown.store.snapshot(number).table("detections") for number in (1, 2))
    ids = [rows["objectid"].to_numpy() for rows in (before, after)]
    others = [rows.filter((i < low) | (i > high)) for rows, i in zip((before, after), ids, strict=True)]
    assert others[0].num_rows > 1000
    assert (
        others[0]
        .sort_by([("objectid", "ascending"), ("hmjd", "ascending")])
        .equals(others[1].sort_by([("objectid", "ascending"), ("hmjd", "ascending")]))
    )


def test_run_regeneration_in_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty and not of an earlier demo"):
        run_regeneration(tmp_path, 1, Resources(), no_progress, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_run_regeneration_finds_the_supernova_as_a_transient(shown: Shown) -> None:
    blended = shown.regenerations()[1]
    epochs = shown.store.snapshot().lightcurves(objectid=shown.report.transientid)
    keys = [set(zip(rows["exposureid"].to_pylist(), rows["sourceid"].to_pylist(), strict=True))
            for rows in (epochs, blended.epochs.filter(pa.array(blended.was & ~blended.now)))]  # fmt: skip
    assert len(keys[0]) > 15
    assert len(keys[1] & keys[0]) >= 0.9 * len(keys[1])


def test_regeneration_of_has_the_epochs_of_both_snapshots(shown: Shown) -> None:
    for change, old, new in zip(shown.regenerations(), shown.report.objectids, shown.report.newobjectids, strict=True):
        expected = []
        for number, objectid in ((1, old), (2, new)):
            rows = shown.store.snapshot(number).table("detections").to_pylist()
            expected.append({(r["exposureid"], r["sourceid"]) for r in rows if r["objectid"] == objectid})
        keys = list(zip(change.epochs["exposureid"].to_pylist(), change.epochs["sourceid"].to_pylist(), strict=True))
        assert len(set(keys)) == len(keys)
        for mask, there in zip((change.was, change.now), expected, strict=True):
            assert {key for key, member in zip(keys, mask.tolist(), strict=True) if member} == there
        assert np.all(np.diff(change.epochs["hmjd"].to_numpy()) >= 0)
        assert (change.old["generation"], change.new and change.new["generation"]) == (0, 1)


def test_regeneration_of_a_lost_object_has_no_successor(shown: Shown) -> None:
    links = shown.store.snapshot().lineage().to_pylist()
    lost = next(link["objectid"] for link in links if link["kind"] == "lost")
    change = regeneration_of(shown.store.storage, lost)
    assert change.new is None
    assert not change.now.any()
    assert change.was.sum() == shown.store.snapshot(1).lightcurves(objectid=lost).num_rows


def test_regeneration_of_an_active_object_is_refused(shown: Shown) -> None:
    active = shown.report.newobjectids[0]
    assert active is not None
    with pytest.raises(ConfigError, match=f"object {active} is not a retired one"):
        regeneration_of(shown.store.storage, active)


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_regeneration_figure_counts_what_it_draws(shown: Shown) -> None:
    changes = shown.regenerations()
    figure = regeneration_figure([Story("one", changes[0], 0.5), Story("two", changes[1])], "title")
    said = _texts(figure)
    for change in changes:
        assert f"BEFORE: {change.was.sum()} epochs ({change.regained} missed" in said
        assert f"AFTER: {change.now.sum()} epochs" in said
        assert f"{change.old['objectid']} \N{RIGHTWARDS ARROW} {change.new and change.new['objectid']} (moved)" in said
    figure.draw_without_rendering()
    place, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= place.x0 < place.x1 <= whole.x1
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == ["epoch of the star", "missed by the old seed", "another source, taken for it"]
    before = figure.axes[3]
    points = {}
    for line in before.get_lines():
        if line.get_marker() in ("o", "D"):
            key = (line.get_marker(), line.get_markerfacecolor() == "none")
            points[key] = points.get(key, 0) + len(line.get_xdata())
    change = changes[1]
    assert points == {("o", False): change.kept, ("o", True): change.regained, ("D", False): change.given_up}


def test_regeneration_figure_puts_east_left_and_bright_up(shown: Shown) -> None:
    figure = regeneration_figure([Story("one", shown.regenerations()[1])], "title")
    before, after, on_sky = figure.axes
    assert before.get_ylim()[0] > before.get_ylim()[1]
    assert before.get_ylim() == after.get_ylim()
    assert on_sky.get_xlim()[0] > on_sky.get_xlim()[1]
    assert [patch.get_radius() for patch in on_sky.patches] == [1.5, 1.5]


def test_plot_regenerations_same_stories_give_the_same_bytes(shown: Shown, tmp_path: Path) -> None:
    stories = [Story("one", shown.regenerations()[0], 0.5)]
    for name in ("a.svg", "b.svg"):
        plot_regenerations(stories, tmp_path / name, "title")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_plot_regenerations_nothing_to_draw_is_refused_and_writes_nothing(shown: Shown, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no object to draw"):
        plot_regenerations([], tmp_path / "a.png", "title")
    with pytest.raises(ConfigError, match=r"cannot draw to .*a\.txt"):
        plot_regenerations([Story("one", shown.regenerations()[0])], tmp_path / "a.txt", "title")
    assert not list(tmp_path.iterdir())


def test_draw_hosts_puts_transients_beside_fainter_stars(sky: UnitSky) -> None:
    stars = sky.stars
    transient = stars.kind == TRANSIENT
    places = SkyCoord(stars.ra, stars.dec, unit="deg")
    nearest, away, _ = places[transient].match_to_catalog_sky(places[~transient])
    hosted = away < 2.6 * u.arcsec
    assert hosted.sum() > 50
    assert away[hosted].min() > 2.03 * u.arcsec
    fainter = stars.g[~transient][nearest][hosted] - stars.g[transient][hosted]
    assert 0.3 < np.median(fainter) < 1.6
    assert len(np.unique(nearest[hosted])) == hosted.sum()


def test_spoilt_reference_is_misplaced_in_the_east_and_holds_what_shone(sky: UnitSky, tmp_path: Path) -> None:
    path = write_spoilt_reference(sky, DEFECTS, tmp_path)
    with fits.open(path) as hdus:
        rows = np.array(hdus[1].data)
    good, star_id = sky.reference(0)
    assert rows["sourceid"].tolist() == list(range(len(rows)))
    stars, now = sky.stars, sky.magnitudes_at(DEFECTS.mjd)
    places = SkyCoord(stars.ra, stars.dec, unit="deg")
    bright = (stars.kind == TRANSIENT) & (now < 21.0)
    away = places[~bright].match_to_catalog_sky(places[bright])[1]
    clear = {int(i) for i in stars.star_id[~bright][away > 30 * u.arcsec]}
    kept = np.array([int(i) in clear for i in star_id])
    old = SkyCoord(good["ra"][kept], good["dec"][kept], unit="deg")
    found, separation, _ = old.match_to_catalog_sky(SkyCoord(rows["ra"], rows["dec"], unit="deg"))
    plane = sky.region.pointing.project(np.stack(old.cartesian.xyz.value))
    half = 3072 * 1.012 / 2 / 3600
    expected = 3.0 * np.clip((plane.east - sky.region.quadrant.origin[0]) / half, 0.0, None)
    right = np.abs(separation.arcsec - expected) < 0.02
    assert right.mean() > 0.998  # of the others a neighbour's seed has come nearer than their own
    assert (expected == 0).sum() > 500
    assert (expected > 1.5).sum() > 500
    assert len(np.unique(found[right])) == right.sum()
    assert len(rows) - len(good) > 5


def test_blended_part_is_the_centre_of_light() -> None:
    assert blended_part(np.array([18.0]), np.array([18.0]))[0] == 0.5
    assert blended_part(np.array([18.0]), np.array([15.5]))[0] == pytest.approx(10 / 11)


def test_spoilt_reference_blend_stands_between_star_and_transient(sky: UnitSky) -> None:
    _, star_id = sky.reference(0)
    rows = spoilt_reference(sky, Defects(DEFECTS.mjd, 0.0))
    stars, now = sky.stars, sky.magnitudes_at(DEFECTS.mjd)
    bright = np.flatnonzero((stars.kind == TRANSIENT) & (now < 20.5))
    seeded = np.flatnonzero(np.isin(stars.star_id, star_id))
    places = SkyCoord(stars.ra, stars.dec, unit="deg")
    nearest, away, _ = places[bright].match_to_catalog_sky(places[seeded])
    blended = np.flatnonzero(away < 2.5 * u.arcsec)
    assert len(blended) > 10
    catalog = SkyCoord(rows["ra"], rows["dec"], unit="deg")
    right = 0
    for pair in blended.tolist():
        star, guest = seeded[nearest[pair]], bright[pair]
        part = 1.0 / (1.0 + 10.0 ** (0.4 * (now[guest] - now[star])))
        angle = places[star].position_angle(places[guest])
        middle = places[star].directional_offset_by(angle, part * away[pair])
        right += bool(catalog.separation(middle).min() < 0.05 * u.arcsec)
    assert right >= 0.9 * len(blended)


def test_lineage_plot_draws_retired_objects_and_refuses_others(shown: Shown, tmp_path: Path) -> None:
    picture = tmp_path / "mended.png"
    words = ["lineage", shown.report.store, "--plot", str(picture)]
    old, new = shown.report.objectids[0], shown.report.newobjectids[0]
    done = CliRunner().invoke(main, [*words, "--objectid", str(old)])
    assert done.exit_code == 0
    assert str(new) in done.stdout
    assert picture.read_bytes()[:4] == b"\x89PNG"
    picture.unlink()
    refused = CliRunner().invoke(main, [*words, "--objectid", str(new)])
    assert isinstance(refused.exception, SystemExit)
    assert refused.exit_code == 2
    assert f"object {new} is not a retired one" in refused.stderr
    nameless = CliRunner().invoke(main, words)
    assert nameless.exit_code == 2
    assert "--plot draws retired objects: name them with --objectid" in nameless.stderr
    assert not picture.exists()
