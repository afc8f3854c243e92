"""Compile every kernel ahead of time: ``python -m ztfmatch.precompile``.

Which types a kernel is compiled for depends on who calls it, so each operation and product that has kernels is run, on
a sky of a few stars in a temporary directory. What is kept of them is where :mod:`ztfmatch.core.kernelfiles` says.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Final

from ztfmatch.api import Store, import_matchfiles, init_store
from ztfmatch.core.config import AppendConfig, CalibrateConfig, StoreConfig
from ztfmatch.core.tasks import preload  # noqa: F401  (compiles, too, what so small a sky does not call)
from ztfmatch.matchfile.ingest import ImportConfig
from ztfmatch.photometry.calibrate import CalibrateInputs
from ztfmatch.photometry.report import ReportInputs
from ztfmatch.photometry.surveyform import export_survey_tables
from ztfmatch.references.audit import AuditInputs
from ztfmatch.references.flatness import FlatnessInputs
from ztfmatch.release.io.scope import ReleaseScope, Window
from ztfmatch.simulate import SimulationConfig, regenerate_references, simulate

_SKY: Final = SimulationConfig(rcids=(16, 29), filters=(1,), n_exposures=8, stars_per_quadrant=400, epoch_depth=0.8)
_LENIENT: Final = CalibrateConfig(cells_x=2, cells_y=2, min_stars=5, min_epochs=3, max_error=1.0)
_ALL: Final = ReleaseScope("all", tuple(map(Window, (1, 2, 3))), private_corrections=True)


def compile_kernels(place: Path) -> None:
    """Run what has kernels, in a directory."""
    sky, ps1 = place / "sky", place / "sky" / "truth" / "ps1.parquet"
    simulate(sky, _SKY)
    store = init_store(place / "store", str(sky / "references"))
    store.append(str(sky / "catalogs"), AppendConfig(exposures=sky / "exposures.csv"))
    store.update_statistics()
    store.update_transients()
    store.update_star_statistics()
    _correct(store, place, ps1)
    store.audit_references(AuditInputs(ps1))
    store.measure_flatness(FlatnessInputs(ps1))
    regenerate_references(sky, _SKY)
    store.rematch(str(sky / "references_1"))
    store.compact()
    store.verify(deep=True)
    _make_products(store, place)


def _correct(store: Store, place: Path, ps1: Path) -> None:
    """Sets of each kind: of offsets alone, continuous, and as the survey's tables."""
    offsets, corrections, tables = (place / name for name in ("offsets", "corrections", "tables"))
    store.update_offsets()
    store.calibrate_internal(offsets)
    store.correct(offsets)
    store.calibrate(CalibrateInputs(ps1, corrections), _LENIENT)
    store.correct(corrections)
    store.report(ReportInputs(place / "report", ps1), _LENIENT)
    export_survey_tables(corrections, tables)
    store.correct(tables)


def _make_products(store: Store, place: Path) -> None:
    snapshot = store.snapshot()
    store.export_kowalski(place / "kowalski")
    snapshot.publish_objects(place / "objects", _ALL)
    snapshot.publish_bulk(place / "bulk", _ALL)
    if importlib.util.find_spec("h5py"):
        (place / "matchfiles").mkdir()
        snapshot.export_matchfiles(place / "matchfiles")
        import_matchfiles(place / "imported", str(place / "matchfiles"), ImportConfig(StoreConfig()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        compile_kernels(Path(directory))
