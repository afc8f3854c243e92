"""A tiny store in every state, its content, and a process whose children are killed at any step of an operation.

Run as a program it is that process: it loads everything once and forks for each job that it reads, one a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corrected
import numpy as np
import pyarrow as pa
from click.testing import CliRunner, Result
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at, runner
from matchfiles import make_content, write_matchfile

from ztfmatch.cli import main
from ztfmatch.core.config import CompactConfig, StoreConfig
from ztfmatch.core.io import paths
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.storage import Entry, Storage
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.correct import correct
from ztfmatch.core.operations.history import rollback
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.operations.link import link_stars
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.repair import repair
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.transients import update_transients
from ztfmatch.core.operations.vacuum import vacuum
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.schema import TABLES
from ztfmatch.matchfile.export import UnitFilter, export_matchfiles
from ztfmatch.matchfile.ingest import ImportConfig, import_matchfiles
from ztfmatch.query.tables import stream_parquet
from ztfmatch.stars.statistics import update_star_statistics
from ztfmatch.views.delta import view_delta
from ztfmatch.views.hats import view_hats

AT_A_BORDER = (90.0, 66.4)
"""Where two tiles of order 0 meet."""


@dataclass(frozen=True)
class Sky:
    """Catalogs of a few objects in two tiles, with orphans in both, and one catalog that is none."""

    references: list[str]
    catalogs: list[str]
    regenerated: list[str]
    """The reference anew: one object moved, one gone, one added."""
    matchfiles: list[str]
    """Of another unit, with transients."""
    corrections: str
    """Of the unit."""
    reprocessed: list[str]
    """The first catalog anew, with other values and one row less."""


def make_sky(place: Path, nights: int = 2, brightness: float = 0.0) -> Sky:
    """Write the catalogs; of another brightness they are as long, with other values in them."""
    ra = AT_A_BORDER[0] + np.array([-0.03, -0.02, -0.01, 0.01, 0.02, 0.03])
    dec = np.full(6, AT_A_BORDER[1])
    seen = [rows_at(np.append(ra, [89.95, 90.05]), np.append(dec, [66.5, 66.5])) for _ in range(nights)]
    for night, rows in enumerate(seen):
        rows["flux"] += 1000.0 * night + brightness
    bad = place / "ztf_20190301250000_000500_zr_c06_o_q1_psfcat.fits"
    bad.write_bytes(b"junk")
    catalogs = [str(epochal_file(place, rows, night)) for night, rows in enumerate(seen)]
    reference = rows_at(ra, dec, mag=-6.0 - brightness)
    (place / "regenerated").mkdir()
    anew = rows_at(np.append(ra[1:], 90.01), np.append(dec[1:] + np.array([1.0 / 3600.0, 0, 0, 0, 0]), 66.5), mag=-6.0)
    regenerated = reference_file(place / "regenerated", anew)
    legacy = make_content(sources=4, exposures=3, transients=2, centre=(AT_A_BORDER[0] - 0.1, AT_A_BORDER[1]))
    legacy.tables["sources"]["refmag"] += np.float32(brightness)
    for name in ("sourcedata", "transientdata"):
        legacy.tables[name]["magerrmodel"] += np.float32(brightness)
        legacy.tables[name]["mag"] += np.float32(brightness)
    legacy.attributes["globalMaglimit"] = np.float32(20.0 + brightness)
    matchfile = write_matchfile(place, legacy)
    measured = {2019020125000020: (0.01, 0.02, 5)}
    corrected.write_set(place / "corrections", [UNIT], exposures=measured, data=corrected.data_of(UNIT, [*measured]))
    references = [str(reference_file(place, reference))]
    files = [references, [*catalogs, str(bad)], [str(regenerated)], [str(matchfile)]]
    (place / "reprocessed").mkdir()
    anew = seen[0][1:].copy()
    anew["flux"] += 77.0
    reprocessed = [str(epochal_file(place / "reprocessed", anew, 0))]
    return Sky(*files, corrections=str(place / "corrections"), reprocessed=reprocessed)


def init(store: Path, sky: Sky) -> None:
    make_store(store, sky.references)


def init_unlinked(store: Path, sky: Sky) -> None:
    init_store(Storage.at(store), sky.references, StoreConfig(), runner(), link=False)


def append_first(store: Path, sky: Sky) -> None:
    append(Storage.at(store), sky.catalogs[:1])


def append_rest(store: Path, sky: Sky) -> None:
    append(Storage.at(store), sky.catalogs)


def replace_first(store: Path, sky: Sky) -> None:
    append(Storage.at(store), sky.reprocessed, replace=True)


def compact_all(store: Path, sky: Sky) -> None:
    compact(Storage.at(store), CompactConfig(2, full=True), runner())


def statistics(store: Path, sky: Sky) -> None:
    update_statistics(Storage.at(store), runner())


def transients(store: Path, sky: Sky) -> None:
    update_transients(Storage.at(store), runner())


def link(store: Path, sky: Sky) -> None:
    link_stars(Storage.at(store), runner())


def stars(store: Path, sky: Sky) -> None:
    update_star_statistics(Storage.at(store), runner())


def match_again(store: Path, sky: Sky) -> None:
    rematch(Storage.at(store), sky.regenerated, RematchConfig(), runner())


def correct_all(store: Path, sky: Sky) -> None:
    correct(Storage.at(store), Path(sky.corrections), runner())


def roll_back(store: Path, sky: Sky) -> None:
    rollback(Storage.at(store), 1)


def vacuum_old(store: Path, sky: Sky) -> None:
    vacuum(Storage.at(store), 1, 0.0)


def import_legacy(store: Path, sky: Sky) -> None:
    import_matchfiles(Storage.at(store), sky.matchfiles, ImportConfig(create=StoreConfig()), runner())


def lose_first(store: Path, sky: Sky) -> None:
    (store / open_snapshot(Storage.at(store)).of_table("detections")[0].path).unlink()


def bring_back(store: Path, sky: Sky) -> None:
    repair(Storage.at(store), sky.catalogs, runner())


Operation = Callable[[Path, Sky], None]
OPERATIONS: dict[str, tuple[Operation, list[Operation]]] = {
    "init": (init, []),
    "init without stars": (init_unlinked, []),
    "append": (append_rest, [init, append_first]),
    "replace": (replace_first, [init, append_rest, transients, statistics]),
    "rematch": (match_again, [init, append_first, append_rest]),
    "rematch without stars": (match_again, [init_unlinked, append_first, append_rest]),
    "link": (link, [init_unlinked, append_first, append_rest]),
    "stars": (stars, [init, append_first, append_rest]),
    "import": (import_legacy, [init, append_first]),
    "import of a new store": (import_legacy, []),
    "correct": (correct_all, [init, append_first, append_rest, statistics]),
    "compact": (compact_all, [init, append_first, append_rest]),
    "statistics": (statistics, [init, append_first, append_rest]),
    "transients": (transients, [init, append_first, append_rest]),
    "rollback": (roll_back, [init, append_first, append_rest]),
    "vacuum": (vacuum_old, [init, append_first, append_rest, compact_all]),
}
"""Each operation, and what comes before it."""


def product_of(store: Path) -> Path:
    """Where a product of a store is made, alone in its directory."""
    return Path(f"{store}-products") / "product"


def corrections(store: Path, sky: Sky) -> None:
    corrected.write_set(product_of(store), [UNIT], others={"errormodel_zr.dat": b"# fieldid ccdid qid A B C D"})


def matchfile(store: Path, sky: Sky) -> None:
    export_matchfiles(open_snapshot(Storage.at(store)), product_of(store), UnitFilter(), runner())


def delta_view(store: Path, sky: Sky) -> None:
    view_delta(open_snapshot(Storage.at(store)), product_of(store))


def hats_view(store: Path, sky: Sky) -> None:
    view_hats(open_snapshot(Storage.at(store)), product_of(store), runner())


def table_of_rows(store: Path, sky: Sky) -> None:
    rows = open_snapshot(Storage.at(store)).read("objects")
    stream_parquet([rows], rows.schema, product_of(store))


PRODUCTS: dict[str, tuple[Operation, list[Operation]]] = {
    name: (make, [init, append_first, append_rest, compact_all])
    for name, make in {
        "set of corrections": corrections,
        "matchfile": matchfile,
        "delta view": delta_view,
        "hats view": hats_view,
        "table": table_of_rows,
    }.items()
}
"""What is made of a store, as one file or directory, and what comes before it."""

REPAIR: dict[str, tuple[Operation, list[Operation]]] = {
    "repair": (bring_back, [init, append_first, append_rest, lose_first])
}
"""What is done to a store that lost a file."""

ALL = {**OPERATIONS, **PRODUCTS, **REPAIR}


def content(store: Path, number: int | None = None, tables: Iterable[str] = TABLES) -> dict[str, str]:
    """Digest of the sorted rows of tables of a snapshot."""
    snapshot = open_snapshot(Storage.at(store), number)
    return {name: rows_digest(snapshot.read(name)) for name in tables}


def rows_digest(rows: pa.Table) -> str:
    """Digest of rows, whatever their order."""
    return hashlib.sha256("\n".join(sorted(map(repr, rows.to_pylist()))).encode()).hexdigest()


def command(*arguments: object) -> Result:
    """Run a command of the command line in this process; a traceback is an error."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def verified(store: Path) -> bool:
    return verify_store(Storage.at(store), runner(), deep=True).passed


class Judge:
    """Content of the newest snapshot of a store, which must pass verify; the same bytes are judged once."""

    def __init__(self) -> None:
        self._judged: dict[str, dict[str, str]] = {}

    def content(self, store: Path) -> dict[str, str]:
        snapshot = open_snapshot(Storage.at(store))
        manifests = [paths.manifest(part.id) for part in snapshot.commit.manifests]
        named = sorted([*snapshot.files.paths(), *manifests, paths.tiling(snapshot.commit.tiling)])
        state = hashlib.sha256(repr(snapshot.commit.manifests).encode())
        for path in named:
            state.update(path.encode() + (store / path).read_bytes())
        if state.hexdigest() not in self._judged:
            assert verified(store)
            self._judged[state.hexdigest()] = content(store)
        return self._judged[state.hexdigest()]


def files_named(store: Path) -> set[str]:
    """Every file of a store after a vacuum that keeps all snapshots and spares no file for its youth."""
    vacuum(Storage.at(store), 1000, 0.0)
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


class Zygote:
    """The process that forks a child for each job."""

    def __init__(self) -> None:
        here = Path(__file__)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[1]), *sys.path])}
        arguments = [sys.executable, str(here)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment)

    def run(self, operation: str, store: Path, sky: Sky, kill_at: int = -1) -> tuple[int, int]:
        """Run an operation in a child to be killed at a step; its exit code or negative signal, and steps passed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([operation, str(store), sky.__dict__, kill_at]), file=self._process.stdin, flush=True)
        code, steps = json.loads(self._process.stdout.readline())
        return code, steps

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


class Killer:
    """Counts what a process does to the files of a store, and kills it at one of these steps; a write is cut short."""

    def __init__(self, store: str, kill_at: int, pipe: int) -> None:
        self._store, self._kill_at, self._pipe, self.steps = store, kill_at, pipe, 0
        self._write, self._open = os.write, os.open
        self._handles: set[int] = set()
        os.open, os.write = self._opening, self._tearing  # type: ignore[assignment]
        for name in ("replace", "link", "unlink"):
            setattr(os, name, self._before(getattr(os, name)))

    def report(self) -> None:
        self._write(self._pipe, b"%d" % self.steps)

    def _step(self, torn: Callable[[], Any] | None = None) -> None:
        if self.steps == self._kill_at:
            if torn is not None:
                torn()
            self.report()
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if str(path).startswith(self._store):
                self._step()
            return real(path, *args, **options)

        return call

    def _opening(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        writes = bool(flags & os.O_CREAT) and str(path).startswith(self._store)
        if writes:
            self._step()
        handle = self._open(path, flags, *args, **options)
        (self._handles.add if writes else self._handles.discard)(handle)
        return handle

    def _tearing(self, handle: int, data: Any) -> int:
        if handle in self._handles:
            self._step(lambda: self._write(handle, data[: len(data) // 2]))
        return self._write(handle, data)


def _child(job: list[Any], pipe: int) -> None:
    operation, store, sky, kill_at = job
    killer = Killer(store, kill_at, pipe)
    ALL[operation][0](Path(store), Sky(**sky))
    killer.report()


def _warm_up() -> None:
    """Do everything once, so that no child has anything to load; without obstore, whose threads no fork survives."""
    real = Storage.entries
    Storage.entries = _entries_by_glob  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place:
        sky = make_sky(Path(place))
        for name, (operation, _) in ALL.items():
            operation(prepare(Path(place), sky, name), sky)
    Storage.entries = real  # type: ignore[method-assign]


def _entries_by_glob(storage: Storage, prefix: str) -> Iterator[Entry]:
    for path in (Path(storage.root) / prefix).rglob("*.*"):
        yield Entry(str(path.relative_to(storage.root)), path.stat().st_size, path.stat().st_mtime)


def _serve() -> None:
    _warm_up()
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _child(json.loads(line), writer)
            except BaseException:  # noqa: BLE001  (a forked child must not go on as its parent)
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            steps = int(pipe.read() or -1)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), steps]), flush=True)


def prepare(place: Path, sky: Sky, name: str) -> Path:
    """A store to which all has been done that comes before an operation."""
    store = place / name
    for step in ALL[name][1]:
        step(store, sky)
    if name in PRODUCTS:
        product_of(store).parent.mkdir()
    return store


def copy(store: Path, to: Path) -> Path:
    """A copy of a store in place of an earlier one; of no store nothing."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(store, to)) if store.exists() else to


if __name__ == "__main__":
    _serve()
