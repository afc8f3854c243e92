"""Functions on catalogs that need no store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from ztfmatch.api.running import Place, Places, Running, places_of, runs_tasks
from ztfmatch.api.store import open_store
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.runner import open_runner

if TYPE_CHECKING:
    from ztfmatch.core.config import AppendConfig
    from ztfmatch.core.operations.catalogcheck import CheckReport


@runs_tasks
def check_catalogs(
    catalogs: Places,
    store: Place | None = None,
    config: AppendConfig | None = None,
    **running: Unpack[Running],
) -> CheckReport:
    """Check how an append would treat catalogs; see :mod:`ztfmatch.core.operations.catalogcheck`."""
    from ztfmatch.core.config import AppendConfig
    from ztfmatch.core.operations.catalogcheck import check_catalogs as check

    snapshot = None if store is None else open_snapshot(open_store(store).storage)
    with open_runner(**running) as runner:
        return check(places_of(catalogs), snapshot, config or AppendConfig(), runner)
