"""HDF5 files of anyone: nothing in them runs, leads elsewhere or takes more than it has; errors say what is wrong."""

from __future__ import annotations

import fcntl
import random
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matchfiles import make_content, write_matchfile

from ztfmatch.core.errors import CatalogError, ConfigError
from ztfmatch.matchfile.io import hdf5
from ztfmatch.matchfile.io.reader import open_matchfile
from ztfmatch.matchfile.tasks.inspect import InspectMatchfile, inspect_matchfile

h5py = pytest.importorskip("h5py", reason="matchfiles need h5py: pip install 'ztfmatch[matchfile]'")
tables = pytest.importorskip("tables", reason="PyTables makes the tests' matchfiles: pip install 'ztfmatch[test]'")

ROWS = np.dtype([("number", "<i4"), ("value", "<f8")])


def quarantined(path: Path) -> tuple[str, str] | None:
    """Code and reason for which a matchfile is refused; None if it is good."""
    found = inspect_matchfile(InspectMatchfile("inspect", str(path)))
    return next(((row.code, row.reason) for row in found.refused), None)


class Payload:
    """An object that makes a file as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self._mark,)


PLACES = {
    "root": ("/", "note", None),
    "group": ("/matches", "note", None),
    "TITLE": ("/matches", "TITLE", None),
    "table": ("/matches/sources", "note", None),
    "fill": ("/matches/sourcedata", "FIELD_0_FILL", None),
    "identity": ("/matches", "fieldID", "pickle"),
    "text": ("/matches", "datetimeMatched", "pickle"),
    "error model": ("/matches/sourcedata", "A", "pickle"),
}
"""Node and attribute, and the code for which a matchfile with a payload there is refused: if it is one that is read."""


@pytest.mark.parametrize("place", PLACES)
def test_open_matchfile_with_a_pickled_attribute_runs_nothing(tmp_path: Path, place: str) -> None:
    where, name, code = PLACES[place]
    path, mark = write_matchfile(tmp_path, make_content()), tmp_path / "mark"
    with tables.open_file(str(path), "a") as file:
        file.get_node(where)._v_attrs._g__setattr(name, Payload(mark))
    mark.unlink(missing_ok=True)
    refused = quarantined(path)
    assert not mark.exists()
    assert (refused and refused[0]) == code
    if code:
        assert f"attribute {name} is a pickled Python object" in str(refused)
    with warnings.catch_warnings(), tables.open_file(str(path)) as file:
        warnings.simplefilter("ignore")  # PyTables complains of what it got, after it ran it
        assert name in file.get_node(where)._v_attrs
        getattr(file.get_node(where)._v_attrs, name)
    assert mark.exists(), "the payload is none"


def made(path: Path, rows: np.ndarray | None = None, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("table", data=np.ones(1000, ROWS) if rows is None else rows, **options)
    return path


def read(path: Path) -> np.ndarray:
    with hdf5.open_hdf5(str(path)) as file:
        table = hdf5.Table(hdf5.child(file, "table"), "/table")
        return table.read(0, table.nrows)


@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (7,)}, {"chunks": (100,), "compression": "gzip"},
     {"chunks": (64,), "compression": "gzip", "shuffle": True, "fletcher32": True}],
)  # fmt: skip
def test_table_reads_what_was_written(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = np.empty(1000, ROWS)
    rows["number"], rows["value"] = np.arange(1000), np.random.default_rng(0).normal(size=1000)
    path = made(tmp_path / "x.h5", rows, **options)
    np.testing.assert_array_equal(read(path), rows)
    with hdf5.open_hdf5(str(path)) as file:
        table = hdf5.Table(hdf5.child(file, "table"), "/table")
        into = np.empty(5, ROWS)
        assert table.read(990, 995, into) is into
        np.testing.assert_array_equal(into, rows[990:995])
        assert len(table.read(3, 3)) == 0


def _external(path: Path) -> None:
    made(path.with_name("other.h5"))
    with h5py.File(path, "w") as file:
        file["table"] = h5py.ExternalLink(str(path.with_name("other.h5")), "/table")


def _soft(path: Path) -> None:
    with h5py.File(made(path), "a") as file:
        file.move("table", "elsewhere")
        file["table"] = h5py.SoftLink("/elsewhere")


def _outside(path: Path) -> None:
    """Rows that are another file's bytes, whatever they are."""
    secret = path.with_name("secret")
    secret.write_bytes(b"s" * 1000 * ROWS.itemsize)
    made(path, external=[(str(secret), 0, secret.stat().st_size)])


def _virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((1000,), ROWS)
    layout[:] = h5py.VirtualSource(str(made(path.with_name("other.h5"))), "table", (1000,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("table", layout)


def _claimed(path: Path) -> None:
    """A terabyte of rows in two kilobytes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("table", (2**36,), ROWS, chunks=(1000,))


def _dense(path: Path) -> None:
    rows = np.zeros(200_000, ROWS)
    rows["value"] = np.random.default_rng(0).normal(size=len(rows))
    made(path, rows, chunks=(200_000,), compression="gzip")


BAD = {
    "external link": (_external, "link", "table is a link to elsewhere"),
    "soft link": (_soft, "link", "table is a link to elsewhere"),
    "bytes of another file": (_outside, "link", "the rows of /table are in other files"),
    "virtual": (_virtual, "link", "the rows of /table are in other files"),
    "rows that are not there": (_claimed, "too-large", "claims 68719476736 rows of 12 bytes, and has 0 bytes"),
    "large chunks": (
        lambda path: made(path, np.ones(400_000, ROWS), chunks=(400_000,)), "too-large", "in chunks of 400000",
    ),
    "large chunks, inflated": (_dense, "too-large", r"a compressed chunk of \d+ bytes"),
    "large rows": (
        lambda path: made(path, np.ones(2, [("x", "u1", 5000)])), "too-large", "has rows of 5000 bytes",
    ),
    "unknown filter": (lambda path: made(path, compression="lzf"), "compression", "compressed by lzf; .*ptrepack"),
    "plain numbers": (lambda path: made(path, np.ones(5)), "layout", "/table is not a table"),
    "two dimensions": (lambda path: made(path, np.ones((5, 2), ROWS)), "layout", "/table is not a table"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_table_that_is_elsewhere_or_larger_than_it_may_be_is_refused(tmp_path: Path, what: str) -> None:
    make, code, reason = BAD[what]
    make(tmp_path / "x.h5")
    with pytest.raises(CatalogError, match=reason) as refused:
        read(tmp_path / "x.h5")
    assert refused.value.code == code


@pytest.mark.parametrize(("compression", "code"), [("zlib", None), ("blosc", "compression"), ("bzip2", "compression")])
def test_matchfile_compressed_is_read_if_by_zlib_else_refused_with_what_to_do(
    tmp_path: Path, compression: str, code: str | None
) -> None:
    content = make_content(sources=200)
    path = write_matchfile(tmp_path, content, compression=compression)
    refused = quarantined(path)
    assert (refused and refused[0]) == code
    if refused:
        assert f"is compressed by {compression}; expected none, or zlib" in refused[1]
        plain = tmp_path / "plain" / path.name
        plain.parent.mkdir()
        ptrepack = str(Path(sysconfig.get_path("scripts")) / "ptrepack")
        subprocess.run([sys.executable, ptrepack, "--complevel=0", f"{path}:/", f"{plain}:/"], check=True)
        path = plain
    with open_matchfile(str(path)) as file:
        rows = np.concatenate([batch.rows.copy() for batch in file.batches() if batch.transient is None])
    np.testing.assert_array_equal(rows, content.tables["sourcedata"])


def test_attribute_is_what_pytables_says_it_is(tmp_path: Path) -> None:
    values = {
        "integer": np.int64(-7), "single": np.float32(0.1), "double": np.float64(np.inf), "python": 5,
        "text": "Größe 7.", "numpy_text": np.str_("2020-10-22"), "empty": "",
        "numpy_empty": np.str_(""), "u1": np.uint8(255),
    }  # fmt: skip
    with tables.open_file(str(tmp_path / "x.h5"), "w") as file:
        for name, value in values.items():
            file.root._v_attrs[name] = value
        file.root._v_attrs["array"] = np.arange(3)
        file.root._v_attrs["truth"] = np.bool_(True)
    with hdf5.open_hdf5(str(tmp_path / "x.h5")) as file:
        got = {name: hdf5.attribute(file, name) for name in values}
        assert hdf5.attribute(file, "array") is hdf5.attribute(file, "truth") is hdf5.attribute(file, "nothing") is None
    assert got == {name: getattr(value, "item", lambda value=value: value)() for name, value in values.items()}
    assert {type(value) for value in got.values()} == {int, float, str}


def test_open_hdf5_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    good = made(tmp_path / "good.h5").read_bytes()
    for name, content, code, words in (
        ("empty", b"", "empty", "the file is empty"),
        ("foreign", b"SIMPLE  =  T" * 999, "not-hdf5", "no HDF5 file: it begins with b'SIMPLE  '"),
        ("cut", good[:5000], "truncated", f"it ends after 5000 of {len(good)} bytes: copy it again"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CatalogError) as refused:
            read(tmp_path / name)
        assert (refused.value.code, refused.value.message) == (code, words)
    with pytest.raises(CatalogError, match="cannot be read: No such file or directory"):
        read(tmp_path / "nothing")
    with pytest.raises(CatalogError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_open_hdf5_of_a_file_that_is_being_written_says_that_it_is_locked(tmp_path: Path) -> None:
    path = made(tmp_path / "x.h5")
    with path.open("rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(CatalogError, match=r"another program has it open .*HDF5_USE_FILE_LOCKING=FALSE") as refused:
            read(path)
    assert refused.value.code == "locked"
    assert len(read(path)) == 1000


def _hdf5s(what: str, number: int, text: str) -> str:
    return f"Unable to synchronously open file (unable to {what} file, errno = {number}, error message = '{text}')"


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [(_hdf5s("lock", 37, "No locks available"), "locked",
      r"has no locks \(No locks available\), as some NFS: set HDF5_USE_FILE_LOCKING=FALSE"),
     (_hdf5s("lock", 95, "Operation not supported"), "locked", r"has no locks .*HDF5_USE_FILE_LOCKING=FALSE"),
     (_hdf5s("open", 13, "Permission denied").replace("file,", "file: name = 'x',"), "unreadable",
      "cannot be read: Permission denied"),
     ("Unable to synchronously open file (file is already open for write (may use <h5clear file> ...", "locked",
      "has not closed it; if none does, 'h5clear -s'"),
     ("Unable to synchronously open file (bad object header version number)", "damaged", "not a whole HDF5 file: ")],
)  # fmt: skip
def test_open_hdf5_tells_apart_what_hdf5_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: str, words: str
) -> None:
    """What a file system without locks or a user without rights makes HDF5 say, in its words."""
    path = made(tmp_path / "x.h5")

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(said)

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(CatalogError, match=words) as refused:
        read(path)
    assert refused.value.code == code


def test_h5py_missing_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"matchfiles need h5py: pip install 'ztfmatch\[matchfile\]'"):
        hdf5.h5py()


def test_matchfile_with_altered_bytes_is_read_or_refused_with_a_code(tmp_path: Path) -> None:
    """In its first bytes, which say where and what the rest is."""
    good = write_matchfile(tmp_path, make_content()).read_bytes()
    path, chance, seen = tmp_path / "ztf_000300_zr_c06_q1_match.pytable", random.Random(7), set()
    for _ in range(300):
        altered = bytearray(good)
        for place in chance.sample(range(40_000), chance.choice([1, 8])):
            altered[place] = chance.randrange(256)
        path.write_bytes(altered)
        refused = quarantined(path)
        seen.add(refused and refused[0])
    assert {None, "damaged", "layout"} <= seen
