"""Surveys drawn at random, most with too few stars for something: what cannot be measured is told, nothing breaks."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ztfmatch import AppendConfig, CalibrateConfig, Store, init_store
from ztfmatch.core.errors import JobFailedError, ZtfmatchError
from ztfmatch.photometry.calibrate import CalibrateInputs
from ztfmatch.photometry.report import ReportInputs
from ztfmatch.photometry.surveyform import export_survey_tables
from ztfmatch.references.audit import AuditInputs
from ztfmatch.references.flatness import FlatnessInputs
from ztfmatch.simulate import SimulationConfig, regenerate_references, simulate

EXAMPLES = int(os.environ.get("ZTFMATCH_STATEFUL_EXAMPLES", "60"))


def _one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


SKIES = st.builds(
    SimulationConfig,
    seed=st.integers(0, 2**31),
    rcids=_one_of((16,), (16, 29), (0, 63)),
    filters=_one_of((1,), (1, 2), (1, 2, 3)),
    n_exposures=_one_of(1, 3, 8, 20),
    stars_per_quadrant=_one_of(1, 20, 100, 400, 1500),
    epoch_depth=_one_of(0.0, 0.3, 0.8, 1.0),
    n_nights=_one_of(1, 3, 10, 400),
    variable_fraction=_one_of(0.0, 0.02, 1.0),
    transients_per_quadrant=_one_of(0.0, 6.0, 50.0),
    lost_fraction=_one_of(0.0, 0.02, 0.5, 1.0),
    spurious_fraction=_one_of(0.0, 0.01, 0.5),
    bad_fraction=_one_of(0.0, 0.1, 1.0),
    nonpositive_fraction=_one_of(0.0, 1e-4, 0.3),
    systematics=_one_of(0.0, 1.0, 5.0),
    flat_step=_one_of(0.0, 1.0),
    flat_drift=_one_of(0.0, 0.02),
    colour_bias=_one_of(0.0, 0.02),
    cloudy_fraction=_one_of(0.0, 0.2, 1.0),
    ps1_outliers=_one_of(0.005, 0.3),
    bad_references=_one_of(0.0, 1.0),
)
SETTINGS = st.builds(
    CalibrateConfig,
    faint=_one_of(19.25, 22.0),
    magnitude_step=_one_of(0.25, 0.05),
    cells_x=_one_of(2, 6, 30),
    cells_y=_one_of(2, 5, 30),
    min_epochs=_one_of(3, 5),
    min_stars=_one_of(1, 5, 20),
    min_cell_stars=_one_of(1, 5),
    max_error=_one_of(0.01, 1.0, 100.0),
    eras=_one_of((), (58_302.5,), (58_300.1, 58_300.2)),
    find_eras=st.booleans(),
    terms=_one_of(None, (), ("time",), ("colour", "exposure")),
    beyond=_one_of("constant", "fade"),
)


def told(what: Callable[..., Any], *arguments: Any) -> bool:
    """Whether it was done; else it says in one error why it cannot be."""
    try:
        what(*arguments)
    except JobFailedError:
        raise
    except ZtfmatchError:
        return False
    return True


def measured(store: Store, place: Path, config: CalibrateConfig) -> None:
    """All that is measured of a store, and put into it."""
    ps1 = place / "sky" / "truth" / "ps1.parquet"
    store.update_statistics()
    store.update_transients()
    told(store.update_star_statistics)
    if told(store.update_offsets) and told(store.calibrate_internal, place / "offsets"):
        store.correct(place / "offsets")
    if told(store.calibrate, CalibrateInputs(ps1, place / "set"), config):
        store.correct(place / "set")
        if told(export_survey_tables, place / "set", place / "tables"):
            store.correct(place / "tables")
    for name, inputs in (("alone", ReportInputs(place / "alone")), ("ps1", ReportInputs(place / "ps1", ps1))):
        assert told(store.report, inputs, config) == (place / name / "index.html").exists()
    store.audit_references()
    store.audit_references(AuditInputs(ps1))
    told(store.measure_flatness, FlatnessInputs(ps1))


@pytest.mark.slow
@pytest.mark.timeout(0)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
@given(sky=SKIES, config=SETTINGS, part=st.floats(0.1, 1.0))
def test_surveys_of_few_stars_are_measured_or_told_why_not(
    sky: SimulationConfig, config: CalibrateConfig, part: float
) -> None:
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        place = Path(directory)
        simulate(place / "sky", sky)
        exposures = AppendConfig(exposures=place / "sky" / "exposures.csv")
        catalogs = sorted(map(str, (place / "sky" / "catalogs").rglob("*.fits")))
        store = init_store(place / "store", str(place / "sky" / "references"))
        store.append(catalogs[: max(1, int(part * len(catalogs)))], exposures)
        measured(store, place, config)
        store.append(catalogs, exposures)
        for how, new in ((store.extend_corrections, place / "extended"), (store.calibrate, place / "updated")):
            inputs = CalibrateInputs(place / "sky" / "truth" / "ps1.parquet", new, update=place / "set")
            if (place / "set").exists() and told(how, inputs, config):
                store.correct(new)
        regenerate_references(place / "sky", sky)
        store.rematch(str(place / "sky" / "references_1"))
        store.correct(None)
        store.compact()
        assert store.verify(deep=True).passed
