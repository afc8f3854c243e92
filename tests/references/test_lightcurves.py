"""What lightcurves say of references: on a store of which it is known by construction which seeds are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import append, epochal_file, make_store, rows_at, runner
from hypothesis import given
from hypothesis import strategies as st
from reference_scene import Quadrant, quadrant, write_ps1, write_reference
from test_flatness import plain_flatness

from ztfmatch.core.config import Resources
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.operations.transients import update_transients
from ztfmatch.core.runner import open_runner
from ztfmatch.references.audit import AuditInputs, audit_files, audit_store
from ztfmatch.references.kernels.flatness import bin_of
from ztfmatch.references.schema.settings import ReferenceSettings
from ztfmatch.references.tasks.lightcurves import _chance_of_span

SETTINGS = ReferenceSettings()
NO_PS1 = AuditInputs()
NIGHTS, SPURIOUS, MISSING = 8, 90, 120
OFFSET_ARCSEC = 0.5
SCATTER = (np.arange(NIGHTS) - (NIGHTS - 1) / 2) * 0.004
"""Of magnitudes from night to night: their median is 0."""


def scene_store(place: Path, scene: Quadrant, group: bool = True, **bad: float) -> Storage:
    """Seeds 0..SPURIOUS are of no source, the next MISSING sources have no seed; those of x > 2048 are misplaced."""
    offset = np.where(scene.x > 2050.0, bad.get("offset", 0.0), 0.0) / 3600.0
    seeds = np.ones(len(scene.x), bool)
    seeds[SPURIOUS : SPURIOUS + MISSING] = not bad.get("missing")
    parts = {name: getattr(scene, name)[seeds] for name in ("x", "y", "ra", "dec", "mag", "colour", "difference")}
    write_reference(place, replace(scene, **parts) if bad.get("missing") else scene)
    seen = np.ones(len(scene.x), bool)
    seen[:SPURIOUS] = not bad.get("spurious")
    storage = make_store(place / "store", [place])
    nights = []
    for night in range(NIGHTS):
        mag = scene.mag + scene.difference + SCATTER[night] - (26.0 + night / 64.0)
        flux = 10.0 ** (-0.4 * mag[seen])
        rows = rows_at(scene.ra[seen], (scene.dec + offset)[seen], flux=flux, sigflux=flux * 0.01, flags=0)
        nights.append(epochal_file(place / "catalogs", rows, night, scene.unit))
    append(storage, nights)
    if group:
        update_transients(storage, runner())
    return storage


def row_of(storage: Storage, inputs: AuditInputs = NO_PS1, settings: ReferenceSettings = SETTINGS) -> dict:
    (row,) = audit_store(open_snapshot(storage), inputs, settings, runner()).table.to_pylist()
    return row


def inner(scene: Quadrant) -> np.ndarray:
    return (scene.x > 160) & (scene.x < 3072 - 160) & (scene.y > 160) & (scene.y < 3080 - 160)


def test_metrics_are_those_of_plain_numpy(tmp_path: Path) -> None:
    scene = quadrant(tilt=0.08)
    row = row_of(scene_store(tmp_path, scene))
    delta, rms, _ = plain_flatness(scene.difference, bin_of(scene.x, scene.y), SETTINGS.flatness.min_bin)
    assert (row["lcdelta"], row["lcrms"]) == pytest.approx((delta, rms), abs=5e-6)  # magnitudes are of single precision
    assert (row["nlc"], row["nexposures"], row["nmissing"], row["nwon"]) == (1600, NIGHTS, 0, 0)
    assert row["nlcbin"] == np.bincount(bin_of(scene.x, scene.y)).tolist()
    assert (row["suspect_lightcurves"], row["suspect_ps1"], row["suspect"]) == (True, None, True)


def test_workers_find_the_same(tmp_path: Path) -> None:
    scene = quadrant(tilt=0.08)
    storage = scene_store(tmp_path, scene)
    inputs = AuditInputs(write_ps1(tmp_path / "ps1.parquet", scene))
    with open_runner(Resources(workers=1)) as workers:
        found = audit_store(open_snapshot(storage), inputs, SETTINGS, workers)
    assert found.table.equals(audit_store(open_snapshot(storage), inputs, SETTINGS, runner()).table)
    assert found.suspect == 1


def test_good_reference_is_not_suspect(tmp_path: Path) -> None:
    row = row_of(scene_store(tmp_path, quadrant()))
    assert (row["suspect"], row["unknown"], row["nspurious"]) == (False, False, 0)
    assert row["seedoffset"] < 0.01


def test_seeds_of_no_source_are_spurious(tmp_path: Path) -> None:
    scene = quadrant()
    row = row_of(scene_store(tmp_path, scene, spurious=1.0))
    judged = inner(scene) & (scene.mag < 17.5)  # the bright end of the faintest half magnitude
    assert row["njudged"] == judged.sum()
    assert row["nspurious"] == judged[:SPURIOUS].sum()
    assert row["suspect"] == (row["nspurious"] > SETTINGS.lightcurves.max_spurious * row["njudged"])


def test_sources_without_seed_are_missing_and_their_epochs_are_won(tmp_path: Path) -> None:
    row = row_of(scene_store(tmp_path, quadrant(), missing=1.0))
    assert (row["nmissing"], row["nwon"], row["nseen"]) == (MISSING, MISSING * NIGHTS, 1600 - MISSING)
    assert row["suspect"]


@given(n=st.integers(2, 6), part=st.floats(0.05, 1.0), seed=st.integers(0, 1000))
def test_chance_of_span_is_that_of_a_draw(n: int, part: float, seed: int) -> None:
    times = np.random.default_rng(seed).random((20_000, n))
    drawn = np.mean(np.ptp(times, axis=1) <= part)
    assert _chance_of_span(np.array([n]), np.array([part]))[0] == pytest.approx(drawn, abs=0.02)


def test_misplaced_seeds_are_told_by_their_offset(tmp_path: Path) -> None:
    row = row_of(scene_store(tmp_path, quadrant(), offset=OFFSET_ARCSEC))
    assert row["seedoffset"] == pytest.approx(OFFSET_ARCSEC, abs=0.01)
    assert row["suspect"]


def test_offset_across_the_meridian_is_no_offset(tmp_path: Path) -> None:
    """A field at right ascension 0."""
    from ztfmatch.core.camera import field_grid
    from ztfmatch.core.survey import Unit

    field = next(f for f, (ra, dec) in sorted(field_grid().items()) if (ra < 0.3 or ra > 359.7) and abs(dec) < 40)
    scene = min(
        (quadrant(Unit(field, rcid, 2)) for rcid in range(64)),
        key=lambda one: abs(np.median(np.where(one.ra > 180, one.ra - 360, one.ra))),
    )
    assert scene.ra.min() < 1.0
    assert scene.ra.max() > 359.0
    row = row_of(scene_store(tmp_path, scene))
    assert row["seedoffset"] < 0.01
    assert row["njudged"] > 500


def test_orphans_that_were_never_grouped_are_told(tmp_path: Path) -> None:
    storage = scene_store(tmp_path, quadrant(), group=False, missing=1.0)
    report = audit_store(open_snapshot(storage), AuditInputs(), SETTINGS, runner())
    assert report.notes == ["no orphans are grouped, so missing seeds are not known: run 'ztfmatch transients'"]
    (row,) = report.table.to_pylist()
    assert (row["nmissing"], row["nwon"]) == (None, None)


def test_both_audits_are_told_apart(tmp_path: Path) -> None:
    scene = quadrant(tilt=0.09)
    storage = scene_store(tmp_path, scene)
    ps1 = write_ps1(tmp_path / "ps1.parquet", scene)
    row = row_of(storage, AuditInputs(ps1))
    assert (row["suspect_ps1"], row["suspect_lightcurves"]) == (True, True)
    row = row_of(storage, AuditInputs(ps1, against="ps1"))
    assert (row["suspect_ps1"], row["suspect_lightcurves"], row["nexposures"]) == (True, None, None)
    row = row_of(storage, AuditInputs(ps1, against="lightcurves"))
    assert (row["suspect_ps1"], row["suspect_lightcurves"], row["nps1"]) == (None, True, None)


def test_too_few_exposures_are_unknown(tmp_path: Path) -> None:
    few = replace(SETTINGS, lightcurves=replace(SETTINGS.lightcurves, min_exposures=NIGHTS + 1))
    row = row_of(scene_store(tmp_path, quadrant(tilt=0.09)), settings=few)
    assert (row["unknown"], row["suspect"], row["suspect_lightcurves"]) == (True, False, None)


def test_store_without_exposures_is_unknown(tmp_path: Path) -> None:
    write_reference(tmp_path, quadrant(n_side=10))
    row = row_of(make_store(tmp_path / "store", [tmp_path]))
    assert (row["nexposures"], row["unknown"], row["seedoffset"]) == (0, True, None)


@pytest.mark.parametrize("against", ["ps1", "both"])
def test_ps1_that_is_not_given_is_missed(against: str) -> None:
    with pytest.raises(ConfigError, match=f"against {against} needs a PS1 catalog"):
        AuditInputs(against=against)  # type: ignore[arg-type]


def test_catalogs_alone_have_no_lightcurves(tmp_path: Path) -> None:
    write_reference(tmp_path, quadrant(n_side=10))
    with pytest.raises(ConfigError, match="catalogs alone have no lightcurves"):
        audit_files([str(tmp_path)], AuditInputs(against="lightcurves"), SETTINGS, runner())
