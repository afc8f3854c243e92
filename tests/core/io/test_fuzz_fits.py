"""Damaged catalogs: refused with the project's error, or read as astropy reads them; never a crash, hang or bomb.

A few thousand in every build, always the same; more by ``pytest -m slow`` (CONTRIBUTING.md).
"""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from damage import BLOCK, CARD, cards_of, damaged
from helpers import UNIT, epochal_file, reference_file, rows_at

from ztfmatch.core.errors import CatalogError
from ztfmatch.core.io.catalogs import read_epochal, read_reference
from ztfmatch.core.io.fits import read_table
from ztfmatch.core.kernels.rows import MEASURED
from ztfmatch.core.survey import psfcat_name, refpsfcat_name
from ztfmatch.core.tasks.inspect import CatalogInput, FoundCatalogs, InspectTask, inspect_epochal, inspect_references

CASES = 5000
SLOW_CASES = int(os.environ.get("ZTFMATCH_FUZZ_CASES", "100000"))
CASE_S = 2.0
"""Longest that a damaged catalog of a few kilobytes may take."""

EPOCHAL, REFERENCE = psfcat_name(UNIT, 20190201250000), refpsfcat_name(UNIT)
USED = {column for column, _ in MEASURED.values()}
CODES = {"empty", "not-fits", "truncated", "damaged", "compressed", "layout", "contradiction", "unreadable"}
CODES |= {"too-large", "positions"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small catalog of each kind, by the name that it must have."""
    place = tmp_path_factory.mktemp("originals")
    rows = rows_at(10.0 + np.arange(90) / 50.0, np.full(90, 20.0))
    written = (epochal_file(place, rows), reference_file(place, rows))
    inspect_epochal(InspectTask("warm", (CatalogInput(str(written[0])),)))  # compiles what is not timed below
    inspect_references(InspectTask("warm", (CatalogInput(str(written[1])),)))
    return {path.name: path.read_bytes() for path in written}


def judge(data: bytes, path: Path) -> str:
    """Give a file to the readers; return ``read`` or the code of the refusal. Anything else is raised."""
    path.write_bytes(data)
    read, inspect = (read_epochal, inspect_epochal) if path.name == EPOCHAL else (read_reference, inspect_references)
    began = time.monotonic()
    try:
        catalog: Any = read(str(path))
    except CatalogError as refusal:
        outcome, message = refusal.code, refusal.message
    else:
        message = ""
        assert_is_astropys(data, catalog.records)
        outcome = "read"
    assert outcome in {"read", *CODES}
    assert len(message) < 1000
    assert message.isprintable()
    # What an append does with it: a row of the ledger, or an entry that names the file.
    found = inspect(InspectTask("fuzz", (CatalogInput(str(path)),)))
    usable = len(found.table) if isinstance(found, FoundCatalogs) else len(found.usable)
    assert usable + len(found.refused) == 1
    assert all((row.source, row.code in CODES) == (str(path), True) for row in found.refused)
    assert outcome == "read" or not usable
    assert time.monotonic() - began < CASE_S
    return outcome


def assert_is_astropys(data: bytes, records: np.ndarray) -> None:
    """Columns that are used equal to those that astropy reads from the same bytes, to the bit; if it reads them at all.

    Where a damaged card made astropy take a column for scaled or masked, the values it makes of it are compared.
    """
    theirs = read_by_astropy(data)
    if theirs is None:
        return
    stored, scaled = theirs
    assert len(stored) == len(records)
    names = {name.lower(): name for name in stored.dtype.names or ()}
    for ours in USED & names.keys():
        same = np.ascontiguousarray(records[ours]).tobytes() == np.ascontiguousarray(stored[names[ours]]).tobytes()
        wrapped = ours == "ra" and bool(np.any((stored[names[ours]] < 0) | (stored[names[ours]] > 360)))
        assert same or wrapped or np.array_equal(records[ours], scaled[names[ours]], equal_nan=True), ours


def read_by_astropy(data: bytes) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """First extension's rows, as stored, and its columns; None where astropy refuses them or finds no table there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(io.BytesIO(data), memmap=False) as hdus:
                if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
                    return None
                content = hdus[1].data
                return np.array(content.view(np.ndarray)), {name: np.array(content[name]) for name in content.names}
        except Exception:  # noqa: BLE001  (an oracle that breaks has nothing to say)
            return None


def run_cases(originals: dict[str, bytes], directory: Path, seeds: range) -> Counter[str]:
    """Judge one damaged catalog a seed; the seed and the original name the case that fails."""
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        name = list(originals)[seed % len(originals)]
        kind = EPOCHAL if "_psfcat" in name else REFERENCE
        try:
            outcomes[judge(damaged(originals[name], seed), directory / kind)] += 1
        except BaseException as error:
            error.add_note(f"damaged({name}, seed={seed}), in {directory / kind}")
            raise
    return outcomes


def test_damaged_catalogs_are_refused_or_read_as_astropy_reads_them(
    originals: dict[str, bytes], tmp_path: Path
) -> None:
    outcomes = run_cases(originals, tmp_path, range(CASES))
    assert outcomes["read"] > CASES / 20
    assert all(outcomes[code] > CASES / 100 for code in ("not-fits", "truncated", "layout")), outcomes


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_damaged_catalogs_are_refused_or_read_as_astropy_reads_them(
    originals: dict[str, bytes], tmp_path: Path
) -> None:
    start = random.randrange(2**40)
    run_cases(originals, tmp_path, range(start, start + SLOW_CASES))


def test_damaged_real_catalogs_are_refused_or_read_as_astropy_reads_them(data_dir: Path, tmp_path: Path) -> None:
    files = [next((data_dir / "refpsfcat").glob("*.fits")), *sorted((data_dir / "replay").rglob("*_psfcat.fits"))[:3]]
    for seed in range(160):
        source = files[seed % len(files)]
        path = tmp_path / source.name
        data = damaged(source.read_bytes(), seed)
        try:
            records = read_table(data).records
            assert_is_astropys(data, records)
            path.write_bytes(data)
            (read_reference if "refpsfcat" in path.name else read_epochal)(str(path))
        except CatalogError:
            continue
        except BaseException as error:
            error.add_note(f"damaged({source.name}, seed={seed})")
            raise


@pytest.mark.parametrize("name", [EPOCHAL, REFERENCE])
def test_catalog_cut_after_any_card_or_block_is_refused_until_its_rows_are_there(
    originals: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    data = originals[name]
    needed = cards_of(data)[-1] // BLOCK * BLOCK + BLOCK + 90 * 58
    ends = {end + beside for end in range(0, len(data), CARD) for beside in (-1, 0, 1)} | {needed - 1, needed}
    for end in sorted(ends):
        if end >= 0:
            expected = "empty" if end == 0 else "not-fits" if end < 9 else "truncated" if end < needed else "read"
            assert judge(data[:end], tmp_path / name) == expected, end


def other_fits(kind: str, path: Path) -> bytes:
    """FITS that is not a catalog."""
    rows = np.zeros(5, [("sourceid", ">i4"), ("ra", ">f8")])
    hdu = {
        "image": lambda: fits.PrimaryHDU(np.zeros((50, 50), ">f4")),
        "image extension": lambda: fits.ImageHDU(np.zeros((50, 50), ">f4")),
        "compressed image": lambda: fits.CompImageHDU(np.zeros((50, 50), ">f4"), compression_type="RICE_1"),
        "ASCII table": lambda: fits.TableHDU.from_columns([fits.Column("ra", "E15.7", array=np.zeros(5))]),
        "other table": lambda: fits.BinTableHDU(rows),
        "variable arrays": lambda: fits.BinTableHDU.from_columns(
            [fits.Column("ra", "PD()", array=np.array([[1.0], [2.0, 3.0]], object))]
        ),
        "groups": lambda: fits.GroupsHDU(fits.GroupData(np.zeros((3, 1, 1, 2, 2)), parnames=["u"], pardata=[[0] * 3])),
    }[kind]()
    fits.HDUList([hdu] if isinstance(hdu, fits.PrimaryHDU) else [fits.PrimaryHDU(), hdu]).writeto(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "kind", ["image", "image extension", "compressed image", "ASCII table", "other table", "variable arrays", "groups"]
)
def test_fits_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    data = other_fits(kind, tmp_path / "other.fits")
    for name in (EPOCHAL, REFERENCE):
        assert judge(data, tmp_path / name) == "layout"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><title>503 Service Unavailable</title></html>" * 200, "not-fits"),
        ("Zugriff verweigert: für heute ist Schluß\n".encode(), "not-fits"),
        (b"SIMPLE  =                    T", "truncated"),
        (b" " * 10 * BLOCK, "not-fits"),
        (b"SIMPLE  =" + b"\n" * 10 * BLOCK, "truncated"),
        (b"SIMPLE  =" + b"\n" * 100 * BLOCK, "not-fits"),
        (gzip.compress(bytes(1 << 20), mtime=0), "not-fits"),
        (b"PK\x03\x04" + bytes(BLOCK), "not-fits"),
    ],
    ids=["nothing", "page", "message", "card", "blanks", "lines", "many lines", "gzip", "zip"],
)
def test_what_is_no_fits_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    for name in (EPOCHAL, REFERENCE):
        assert judge(data, tmp_path / name) == code


def test_a_directory_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        for read in (read_epochal, read_reference):
            with pytest.raises(CatalogError) as caught:
                read(str(path))
            assert caught.value.code == "unreadable"


# Memory

LIMITED = """
import resource, sys
from pathlib import Path
from ztfmatch.core.errors import CatalogError
from ztfmatch.core.tasks.inspect import CatalogInput, InspectTask, inspect_epochal, inspect_references
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
inputs = [tuple(CatalogInput(str(p)) for p in sorted(Path(sys.argv[1]).glob(g))) for g in ("warm*", "bomb*")]
for inspect in (inspect_epochal, inspect_references):
    inspect(InspectTask("warm", inputs[0]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (96 << 20),) * 2)
for inspect in (inspect_epochal, inspect_references):
    found = inspect(InspectTask("bombs", inputs[1]))
    assert len(found.refused) == len(inputs[1]), found
    print(*sorted(f"{row.filename}:{row.code}" for row in found.refused))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def bombs(data: bytes) -> dict[str, bytes]:
    """Small files that promise to be huge."""

    def changed(key: str, value: str, source: bytes = data) -> bytes:
        at = source.index(f"{key:<8}= ".encode(), BLOCK)
        return source[:at] + f"{key:<8}= {value:>20}".ljust(CARD).encode() + source[at + CARD :]

    no_fields = changed("TFIELDS", "0", changed("NAXIS1", "0", changed("NAXIS2", "1000000000000")))
    zeros = bytes(64 << 20)
    return {
        "rows": changed("NAXIS2", "1000000000000"),
        "rows2": changed("NAXIS2", "9223372036854775807"),
        "rows3": changed("NAXIS2", "9" * 60),
        "width": changed("NAXIS1", "1000000000000"),
        "fields": changed("TFIELDS", "1000000000000"),
        "heap": changed("NAXIS2", "1000000000000", changed("PCOUNT", "1000000000000")),
        "repeat": changed("TFORM4", "'999999999999D'"),
        "no-fields": no_fields,
        "gzip": gzip.compress(zeros, 9),
        "gzip2": gzip.compress(gzip.compress(zeros, 9), 9),
    }


def test_bombs_are_refused_before_anything_is_allocated(originals: dict[str, bytes], tmp_path: Path) -> None:
    """In a process that may take 96 MiB more than it has; what it takes is far less."""
    for name, data in originals.items():
        (tmp_path / f"warm-{name}").write_bytes(data)
    for name, data in bombs(originals[EPOCHAL]).items():
        (tmp_path / f"bomb-{name}").write_bytes(data)
    with (tmp_path / "bomb-sparse").open("wb") as file:
        file.truncate(1 << 40)
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    *codes, grown = child.stdout.split()
    assert {code.split(":")[1] for code in codes} <= CODES
    assert len(codes) == 2 * 11
    assert int(grown) < 32 << 10, f"{grown} KiB"
