"""ztfmatch: the lightcurve matchfile processor of the Zwicky Transient Facility.

>>> import ztfmatch
>>> store = ztfmatch.open_store("survey.store")  # doctest: +SKIP
>>> epochs = store.snapshot().lightcurves(cone=(210.8, 54.3, 2.0))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"

_HOMES = {
    "api": "Snapshot Store import_matchfiles init_store open_store",
    "api.catalogs": "check_catalogs",
    "api.planning": "forecast",
    "core.config": "AppendConfig CalibrateConfig CompactConfig Resources StoreConfig",
    "core.errors": "BadInputError BucketNotFoundError CatalogError CommitConflictError ConfigError CorrectionsError "
    "JobFailedError MemoryBudgetError MetadataError OutputExistsError ScopeError ServiceError SnapshotNotFoundError "
    "StorageError StoreDamagedError StoreExistsError StoreFormatError StoreNotFoundError "
    "WorkDividedError ZtfmatchError",
    "core.io.log": "Commit",
    "core.io.refused": "Refused",
    "core.operations.appendreport": "AppendReport",
    "core.operations.catalogcheck": "CheckReport CheckedCatalog",
    "core.operations.compact": "CompactReport",
    "core.operations.correct": "CorrectReport",
    "core.operations.forecast": "Forecast",
    "core.operations.history": "Difference RollbackReport",
    "core.operations.link": "LinkReport",
    "core.operations.rematch": "RematchConfig RematchReport",
    "core.operations.repair": "LostExposure RepairReport",
    "core.operations.statistics": "StatisticsReport",
    "core.operations.status": "Status",
    "core.operations.transients": "TransientsReport",
    "core.operations.vacuum": "VacuumReport",
    "core.operations.verify": "VerifyReport",
    "core.schema": "TABLES",
    "kowalski.export": "KowalskiConfig KowalskiReport",
    "matchfile.export": "ExportReport UnitFilter",
    "matchfile.ingest": "ImportConfig ImportReport",
    "photometry.calibrate": "CalibrateInputs CalibrateReport",
    "photometry.extend": "ExtendReport",
    "photometry.catalog": "CatalogInputs CatalogReport correct_catalog",
    "photometry.report": "ReportInputs ReportSummary",
    "photometry.surveyform": "ChannelForm SurveyFormReport export_survey_tables",
    "query.area": "cone_region moc_region polygon_region",
    "query.regeneration": "Regeneration",
    "query.near": "Near",
    "query.request": "Query",
    "query.answer": "Answer",
    "query.stars": "Named",
    "references.audit": "AuditInputs AuditReport",
    "references.flatness": "FlatnessInputs FlatnessReport",
    "references.io.images": "ImageSource",
    "references.page": "PageInputs PageReport make_page",
    "references.pictures": "draw_flatness",
    "references.plan": "PlanReport make_plan update_plan",
    "references.returned": "ReturnedReport check_returned",
    "references.schema.settings": "ReferenceSettings",
    "references.selection": "Selection select_images",
    "release": "CheckedProduct HatsConfig Part PublishReport ReleasePreview check_product",
    "release.io.scope": "ReleaseScope Window read_scope",
    "stars.internal": "InternalReport",
    "stars.offsets": "OffsetsReport",
    "stars.statistics": "StarStatisticsReport",
    "views": "DeltaReport HatsViewReport",
}
"""Public names by the module that has them."""

_HOME_OF = {name: f"ztfmatch.{home}" for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """Import the public names when first asked for, so that workers and the command line start quickly."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ztfmatch' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
