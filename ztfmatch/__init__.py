"""ztfmatch: the lightcurve matchfile processor of the Zwicky Transient Facility.

>>> import ztfmatch
>>> store = ztfmatch.open_store("survey.store")  # doctest: +SKIP
>>> epochs = store.snapshot().lightcurves(cone=(210.8, 54.3, 2.0))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

__all__ = [
    "TABLES",
    "AppendConfig",
    "CompactConfig",
    "Query",
    "Resources",
    "Snapshot",
    "Store",
    "StoreConfig",
    "ZtfmatchError",
    "init_store",
    "open_store",
    "read_scope",
]

_HOMES = {
    "TABLES": "ztfmatch.core.schema",
    "AppendConfig": "ztfmatch.core.operations.append",
    "CompactConfig": "ztfmatch.core.config",
    "Query": "ztfmatch.query.search",
    "Resources": "ztfmatch.core.config",
    "StoreConfig": "ztfmatch.core.config",
    "ZtfmatchError": "ztfmatch.core.errors",
    "read_scope": "ztfmatch.release.io.scope",
}


def __getattr__(name: str) -> Any:
    """Import the public names when first asked for, so that workers and the command line start quickly."""
    if name not in __all__:
        raise AttributeError(f"module 'ztfmatch' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "ztfmatch.api")), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
