"""The Python interface: the same as the command line, for notebooks and scripts.

>>> store = ztfmatch.open_store("survey.store")  # doctest: +SKIP
>>> store.snapshot().lightcurves(cone=(210.8, 54.3, 2.0)).to_pandas()  # doctest: +SKIP
"""

from ztfmatch.api.snapshot import Snapshot
from ztfmatch.api.store import Store, create, import_matchfiles, init_store, open_store

__all__ = ["Snapshot", "Store", "create", "import_matchfiles", "init_store", "open_store"]
