"""The Python interface: the same as the command line, for notebooks and scripts.

>>> store = ztfmatch.open_store("survey.store")  # doctest: +SKIP
>>> store.snapshot().lightcurves(cone=(210.8, 54.3, 2.0)).to_pandas()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ztfmatch.api.store import Store, create, import_matchfiles, init_store, open_store

if TYPE_CHECKING:
    from ztfmatch.api.snapshot import Snapshot

__all__ = ["Snapshot", "Store", "create", "import_matchfiles", "init_store", "open_store"]


def __getattr__(name: str) -> Any:
    """Import snapshots, with all that queries need, when they are first asked for."""
    if name != "Snapshot":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ztfmatch.api.snapshot import Snapshot

    return Snapshot
