"""Tables given with the catalogs of an append, and a check that they were used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ztfmatch.core.config import AppendConfig
from ztfmatch.core.errors import MetadataError
from ztfmatch.core.io.metadata import (
    ErrorModels,
    ExposureTable,
    Extra,
    quality_rules,
    read_error_models,
    read_exposure_table,
)
from ztfmatch.core.kernels.calibration import (
    VERDICT_BAD,
    VERDICT_GOOD,
    VERDICT_OPEN,
    ExposureQuality,
    QualityRule,
)
from ztfmatch.core.operations.common import units_of
from ztfmatch.core.operations.corrections import Applied
from ztfmatch.core.operations.notices import Notice
from ztfmatch.core.schema.ledger import BAD, CATALOG, GOOD, UNKNOWN
from ztfmatch.core.survey import parse_catalog_name
from ztfmatch.core.tasks.inspect import CatalogInput

UNUSED: Final = "unused-table"

_QUALITY: Final = {VERDICT_GOOD: GOOD, VERDICT_BAD: BAD, VERDICT_OPEN: UNKNOWN}


@dataclass(frozen=True)
class Auxiliary:
    """Tables beside the catalogs, read."""

    rules: dict[int, QualityRule]
    exposures: ExposureTable = field(default_factory=lambda: ExposureTable({}))
    errors: ErrorModels = field(default_factory=lambda: ErrorModels({}))
    error_files: dict[Path, ErrorModels] = field(default_factory=dict)
    """The same file by file."""

    @classmethod
    def read(cls, config: AppendConfig) -> Auxiliary:
        """Read the files that the config names.

        Raises
        ------
        MetadataError
            If one cannot be used, or two contradict each other.
        """
        files = {path: read_error_models(path) for path in config.error_models}
        table = ExposureTable({}) if config.exposures is None else read_exposure_table(config.exposures)
        rules = quality_rules(config.zp_thresholds, config.quality_rule)
        return cls(rules, table, _together(files), files)

    def input(self, source: str) -> CatalogInput:
        """A catalog with the metadata that the table has of it."""
        return CatalogInput(source, (self.row_of(source) or {}) if self.exposures.rows else {})

    def completed(self, found: pa.Table, applied: Applied | None) -> pa.Table:
        """Rows of FOUND as the ledger has them: with quality, error model and the name of their corrections."""
        units, which = units_of(found)
        models = np.array([self.errors.coefficients.get(unit, (np.nan,) * 4) for unit in units]).reshape(-1, 4)[which]
        names = pa.array([None if applied is None else applied.name_for(unit) for unit in units], pa.string())
        verdicts = pa.array([_QUALITY[verdict] for verdict in self._verdicts(found).tolist()], pa.string())
        made = {
            "origin": pa.array([CATALOG] * len(which)).dictionary_encode(),
            "quality": verdicts.dictionary_encode(),
            **{f"error{x}": pa.array(models[:, i], from_pandas=True) for i, x in enumerate("abcd")},
            "corrections": names.take(pa.array(which)),
        }
        return pa.table({**{name: found[name] for name in found.column_names}, **made})

    def _verdicts(self, found: pa.Table) -> npt.NDArray[np.int8]:
        names = ("magzp", "magzprms", "nmatches", "airmass")
        quality = [found[name].cast(pa.float64()).to_numpy() for name in names]
        fid, rcid = found["fid"].to_numpy(), found["rcid"].to_numpy()
        verdicts = np.zeros(len(fid), np.int8)
        for one in np.unique(fid).tolist():
            of_filter = fid == one
            got = ExposureQuality(*(values[of_filter] for values in quality))
            verdicts[of_filter] = self.rules[one].verdicts(rcid[of_filter], got)
        return verdicts

    def row_of(self, source: str) -> Extra | None:
        """What the table says of a catalog, by its name; None where it has no row of it."""
        try:
            name = parse_catalog_name(PurePosixPath(source).name)
        except ValueError:
            return None
        if name is None or name.fracday is None:
            return None
        return self.exposures.find(name.fracday, name.unit.rcid)


def _together(files: dict[Path, ErrorModels]) -> ErrorModels:
    models = ErrorModels({})
    for path, file in files.items():
        for unit, model in file.coefficients.items():
            if models.coefficients.setdefault(unit, model) != model:
                other = next(p for p, f in files.items() if unit in f.coefficients)
                raise MetadataError(f"{path} and {other} contradict each other on unit {unit}; give one of them")
    return models


def table_notices(
    config: AppendConfig,
    auxiliary: Auxiliary,
    sources: Sequence[str],
    found: pa.Table,
    applied: Applied | None,
) -> list[Notice]:
    """Tables that were given and matched nothing, and catalogs that the exposure table has no row of.

    Parameters
    ----------
    config, auxiliary
        What was given, and read.
    sources : sequence of str
        All catalogs.
    found : pa.Table
        The usable ones.
    applied : Applied, optional
        Corrections that they get.
    """
    notices = []
    without = [] if config.exposures is None else [source for source in sources if auxiliary.row_of(source) is None]
    if without:
        text = f"{len(without):,} of {len(sources):,} catalogs have no row in {config.exposures}"
        notices.append(Notice("no-row", text, without))
    units = set(units_of(found)[0])
    unused = [str(path) for path, models in auxiliary.error_files.items() if units.isdisjoint(models.coefficients)]
    if config.quality_rule is not None:
        plain = quality_rules(config.zp_thresholds)
        if all(auxiliary.rules[unit.fid] == plain[unit.fid] for unit in units):
            unused.append(str(config.quality_rule))
    if config.corrections is not None and applied is not None and not any(map(applied.name_for, units)):
        unused.append(str(config.corrections))
    if units:
        notices += [Notice(UNUSED, f"{path} has nothing for these catalogs") for path in unused]
    return notices
