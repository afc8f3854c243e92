"""Matchfiles that are written are what PyTables would write, to the types of every attribute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matchfiles import UNIT, make_content, read_matchfile

from ztfmatch.core.errors import StorageError, StoreDamagedError
from ztfmatch.matchfile import schema as layout
from ztfmatch.matchfile.io.writer import writing_matchfile

h5py = pytest.importorskip("h5py", reason="matchfiles need h5py: pip install 'ztfmatch[matchfile]'")
tables = pytest.importorskip("tables", reason="PyTables is the oracle: pip install 'ztfmatch[test]'")

SET = {"rfid": 5, "datetimecalibrated": "2020-01-01", "globalmaglimit": 20.5, "errora": 0.5, "errord": -1e-18}


def by_pytables(path: Path, content: dict[str, np.ndarray]) -> None:
    """The same by PyTables."""
    with tables.open_file(str(path), "w", filters=tables.Filters(complevel=0)) as file:
        plain = tables.Filters(complevel=0)
        group = file.create_group("/", "matches", "Matched Sources", plain)
        for name, rows in content.items():
            title = layout.TITLES[name].format(field=UNIT.field, rcid=UNIT.rcid)
            file.create_table(group, name, rows.dtype, title, plain, track_times=False).append(rows)
        group.transientdata.attrs["deletedRows"] = np.bool_(False)
        group.sourcedata.attrs["A"], group.sourcedata.attrs["D"] = np.float64(0.5), np.float64(-1e-18)
        attributes = {
            "fieldID": np.int64(300), "rcID": np.int64(20), "filterID": np.int64(2), "ccdID": np.int64(6),
            "quadrantID": np.int64(1), "referenceImageID": np.int64(5), "datetimeMatched": np.str_(""),
            "datetimeCalibrated": np.str_("2020-01-01"), "globalMaglimit": np.float32(20.5),
            "referenceZeroPoint": np.float64(np.nan), "referenceZeroPointErr": np.float64(0.0),
            "saturatedMagnitude": np.float64(np.inf), "goodSystematicErrorLimit": np.float64(np.inf),
            "calibratedSinceLastMatch": np.int64(-1), "nCalibrationSources": np.int64(0),
        }  # fmt: skip
        for name, value in attributes.items():
            group._v_attrs[name] = value


def described(path: Path) -> dict[str, Any]:
    """All that HDF5 knows of groups, tables and attributes."""
    found: dict[str, Any] = {}

    def attributes(name: str, node: Any) -> None:
        for key in node.attrs:
            one = h5py.h5a.open(node.id, key.encode())
            found[f"{name}@{key}"] = (one.get_type().encode(), one.shape, repr(node.attrs[key]))
        if isinstance(node, h5py.Dataset):
            plist = node.id.get_create_plist()
            times = plist.get_fill_time(), plist.get_alloc_time(), plist.fill_value_defined(), plist.get_nfilters()
            kind = node.id.get_type()
            found[name] = (node.shape, node.maxshape, node.chunks, kind.encode(), times)
        else:
            found[name] = list(node)

    with h5py.File(path) as file:
        attributes("/", file)
        file.visititems(attributes)
    return found


def test_written_matchfile_is_what_pytables_writes(tmp_path: Path) -> None:
    content = make_content(exposures=2000).tables
    with writing_matchfile(tmp_path / "ours", UNIT) as writer:
        writer.describe(SET)
        for name, rows in content.items():
            for part in np.array_split(rows, 3):
                writer.add(name, part)
    by_pytables(tmp_path / "theirs", content)
    assert described(tmp_path / "ours") == described(tmp_path / "theirs")
    got = read_matchfile(tmp_path / "ours")
    assert set(got) == set(content)
    for name, rows in content.items():
        assert got[name].dtype == rows.dtype
        assert got[name].tobytes() == rows.tobytes(), name


def test_written_matchfile_can_be_appended_to_and_searched_by_pytables(tmp_path: Path) -> None:
    content = make_content().tables
    with writing_matchfile(tmp_path / "x.pytable", UNIT) as writer:
        writer.describe({})
        writer.add("sourcedata", content["sourcedata"])
    with tables.open_file(str(tmp_path / "x.pytable"), "a") as file:
        table = file.root.matches.sourcedata
        table.append(content["sourcedata"][:7])
        table.flush()
        found = table.read_where("matchid == 3")
        table.cols.matchid.create_index()
        np.testing.assert_array_equal(np.sort(table.read_where("matchid == 3")), np.sort(found))
    rows = np.concatenate([content["sourcedata"], content["sourcedata"][:7]])
    assert read_matchfile(tmp_path / "x.pytable")["sourcedata"].tobytes() == rows.tobytes()
    assert len(found) == (rows["matchid"] == 3).sum() > 0


def test_matchfile_without_rows_has_all_tables(tmp_path: Path) -> None:
    with writing_matchfile(tmp_path / "x.pytable", UNIT) as writer:
        writer.describe({})
    assert {name: len(rows) for name, rows in read_matchfile(tmp_path / "x.pytable").items()} == dict.fromkeys(
        layout.TABLES, 0
    )


def test_writing_the_same_gives_the_same_bytes(tmp_path: Path) -> None:
    content = make_content().tables
    for name in ("one", "two"):
        with writing_matchfile(tmp_path / name, UNIT) as writer:
            writer.describe(SET)
            for table, rows in content.items():
                writer.add(table, rows)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_writing_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"missing/x\.pytable cannot be written: .*No such file") as failed,
        writing_matchfile(tmp_path / "missing" / "x.pytable", UNIT),
    ):
        pass
    assert "\n" not in str(failed.value)


def test_an_error_of_what_is_read_meanwhile_is_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreDamagedError, match=r"^a file of the store$"), writing_matchfile(tmp_path / "x", UNIT):
        raise StoreDamagedError("a file of the store")
    assert list(tmp_path.iterdir()) == []


_FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from ztfmatch.core.errors import StorageError
from ztfmatch.matchfile.io.writer import writing_matchfile
from ztfmatch.matchfile import schema as layout
from ztfmatch.core.survey import Unit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with writing_matchfile(Path(sys.argv[1]), Unit(300, 20, 2)) as writer:
        writer.describe({})
        for number in range(40):
            print(number)
            writer.add("sourcedata", np.zeros(10_000, layout.SOURCEDATA))
        print("end")
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize(("room", "closing"), [(100, False), (10_000_000, False), (32_005_000, True)])
def test_writing_onto_a_full_device_is_one_line_and_leaves_nothing(tmp_path: Path, room: int, closing: bool) -> None:
    """In a process of its own, which ends as others do: no file may grow beyond so many bytes."""
    words = [sys.executable, "-c", _FULL, str(tmp_path / "x.pytable"), str(room)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    *_, said, line = ended.stdout.splitlines()
    assert line == f"{tmp_path}/x.pytable cannot be written: File too large"
    assert (said == "end") == closing, "as soon as it is written, or at the end"
    assert list(tmp_path.iterdir()) == []
