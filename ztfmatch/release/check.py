"""Check a product on disk, wherever it was copied to: complete, unaltered, and consistent with its manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ztfmatch.core.display import Displayable
from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.core.progress import tracked
from ztfmatch.release.publication import CHECKSUM_FILE, MANIFEST_FILE, noun_of_rows
from ztfmatch.release.schema import BULK, RELEASED_LIGHTCURVES, RELEASED_OBJECTS, RELEASED_STARS

_READ_BYTES: Final = 1 << 22
_TABLES: Final = {
    "hats lightcurves": RELEASED_LIGHTCURVES,
    "hats stars": RELEASED_STARS,
    "hats objects": RELEASED_OBJECTS,
    "bulk": BULK,
}
"""Table of the rows of each product."""


@dataclass(frozen=True)
class ProductCheck:
    """Outcome of one check."""

    check: str
    checked: int
    wrong: list[str]
    """What is wrong, each in one line."""


@dataclass(frozen=True, kw_only=True)
class CheckedProduct(Displayable):
    """What was found of a product."""

    output: str
    product: str
    release: str
    snapshot: int
    passed: bool
    checks: list[ProductCheck]


def check_product(output: str | os.PathLike[str]) -> CheckedProduct:
    """Compare the files of a product with its checksums, its manifest and the declared columns.

    Parameters
    ----------
    output : Path
        Directory that ``publish`` made.

    Raises
    ------
    ConfigError
        If there is no such directory.
    BadInputError
        If it has no manifest that can be read.
    """
    output = Path(output)
    manifest = read_manifest(output)
    listed = _listed(output)
    data = [name for name in listed if name.endswith(".parquet") and (output / name).is_file()]
    checks = [
        _files(output, manifest, listed),
        _checksums(output, manifest, listed),
        _columns(output, manifest, data),
        _counts(output, manifest, data),
    ]
    return CheckedProduct(
        output=str(output),
        product=manifest.product,
        release=manifest.release,
        snapshot=manifest.snapshot.number,
        passed=not any(check.wrong for check in checks),
        checks=checks,
    )


@dataclass(frozen=True)
class ManifestSnapshot:
    """The snapshot of which a product was made, as far as it is checked."""

    number: int


@dataclass(frozen=True)
class _Kind:
    """What kind of product a manifest is of; that of a tar file has less."""

    product: str = ""


@dataclass(frozen=True)
class Manifest:
    """What a product says of itself, as far as it is checked."""

    product: str
    release: str
    snapshot: ManifestSnapshot
    counts: dict[str, int | None]
    files: int
    bytes: int
    checksums: dict[str, str]


def read_manifest(output: Path) -> Manifest:
    """What a product says of itself.

    Raises
    ------
    ConfigError
        If there is no such directory, or it was a tar file.
    BadInputError
        If it has no manifest that can be read.
    """
    if not output.is_dir():
        raise ConfigError(f"{output} is not a directory that 'publish hats', 'objects' or 'bulk' made")
    path = output / MANIFEST_FILE
    try:
        content = path.read_bytes()
        of_tar = msgspec.json.decode(content, type=_Kind).product == "tar"
        manifest = None if of_tar else msgspec.json.decode(content, type=Manifest)
        _ = manifest and (manifest.counts["objects"], manifest.counts["epochs"], manifest.checksums["sha256"])
    except FileNotFoundError:
        raise BadInputError(f"{output} is not a product of 'publish': it has no {MANIFEST_FILE}") from None
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(f"{path} is not a manifest of a product: {type(error).__name__}: {error}") from None
    if manifest is None:
        raise ConfigError(f"{output} was unpacked of a tar file: run 'md5sum -c checksum.md5' in it")
    return manifest


def _listed(output: Path) -> dict[str, str]:
    """SHA-256 of each file that the list of checksums names."""
    try:
        lines = (output / CHECKSUM_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _files(output: Path, manifest: Manifest, listed: dict[str, str]) -> ProductCheck:
    """Every file that is listed is there, no other, and as many and as large as the manifest says."""
    there = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    if CHECKSUM_FILE not in there:
        return ProductCheck("files", len(there), [f"{CHECKSUM_FILE} is missing, which names the files of the product"])
    strange = there.keys() - listed.keys() - {MANIFEST_FILE, CHECKSUM_FILE}
    wrong = [f"{name} is missing" for name in listed if name not in there]
    wrong += [f"{name} does not belong to it" for name in sorted(strange)]
    size = sum(there[name].stat().st_size for name in listed if name in there)
    if len(listed) != manifest.files or (not wrong and size != manifest.bytes):
        wrong.append(f"{len(listed)} files of {size} bytes; {MANIFEST_FILE} says {manifest.files}, {manifest.bytes}")
    return ProductCheck("files", len(there), wrong)


def _checksums(output: Path, manifest: Manifest, listed: dict[str, str]) -> ProductCheck:
    expected = {CHECKSUM_FILE: manifest.checksums["sha256"], **listed}
    wrong = [
        f"{name}: SHA-256 is {made}, expected {digest}"
        for name, digest in tracked(list(expected.items()), "checksums of files")
        if (output / name).is_file() and (made := _sha256(output / name)) != digest
    ]
    return ProductCheck("checksums", len(expected), wrong)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256(usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def files_of_rows(output: Path) -> list[str]:
    """Files of a product that hold its rows, as its list of checksums names them."""
    return _rows_of(name for name in _listed(output) if name.endswith(".parquet"))


def _rows_of(data: Iterable[str]) -> list[str]:
    """Files of the rows themselves, not of margins and indices."""
    return [name for name in data if "_margin_" not in name.split("/")[0] and "_index_" not in name.split("/")[0]]


def _columns(output: Path, manifest: Manifest, data: list[str]) -> ProductCheck:
    """The columns of every file and their types are those declared, and none gives the program."""
    table = _TABLES.get(manifest.product)
    names = _rows_of(data)
    wrong = []
    for name in tracked(names, "columns of files"):
        schema = _schema(output / name)
        if schema is None:
            wrong.append(f"{name} is no Parquet file")
        elif table is not None and not schema.equals(table.schema):
            wrong.append(f"{name} has {_columns_text(schema)}; expected {_columns_text(table.schema)}")
        elif "programid" in schema.names:
            wrong.append(f"{name} gives programs: a release has no column programid")
    return ProductCheck("columns", len(names), wrong)


def _columns_text(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _schema(path: Path) -> pa.Schema | None:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return None


def _counts(output: Path, manifest: Manifest, data: list[str]) -> ProductCheck:
    """Objects or stars, each once, and epochs are as many as the manifest says."""
    seen = list(_counted(output, _rows_of(data)))
    ids = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in seen)])
    epochs = sum(part[1] for part in seen)
    wrong = []
    if (repeated := len(ids) - len(np.unique(ids))) > 0:
        wrong.append(f"{repeated:,} {noun_of_rows(manifest.product)}s are repeated")
    said = manifest.counts
    tells = bool(said["epochs"]) and all(part[2] for part in seen)  # a product of objects does not count their epochs
    if len(ids) != said["objects"] or (tells and epochs != said["epochs"]):
        expected = f"{said['objects']:,}, {said['epochs'] or 0:,}"
        wrong.append(
            f"{len(ids):,} {noun_of_rows(manifest.product)}s, {epochs:,} epochs; {MANIFEST_FILE} says {expected}"
        )
    return ProductCheck("counts", len(ids), wrong)


def _counted(output: Path, names: Sequence[str]) -> Iterator[tuple[Any, int, bool]]:
    """Ids of the objects of each file, its epochs, and whether it tells these."""
    for name in tracked(names, "counting rows of files"):
        try:
            file = pq.ParquetFile(output / name)
            known = file.schema_arrow.names
            key = next(one for one in ("objectid", "oid", "starid") if one in known)
            number = next((one for one in ("nepochs", "nobsrel") if one in known), None)
            rows = file.read([key, *([number] if number else [])], use_threads=False)
            ids = rows[key].cast(pa.int64()).to_numpy()
            counted = 0 if number is None else int(pc.sum(rows[number]).as_py() or 0)
        except (pa.ArrowException, OSError, StopIteration):
            continue  # reported by the other checks
        yield ids, counted, number is not None
