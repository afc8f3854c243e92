"""A product is held to its manifest; what is altered, lost or added is told."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from releases import SCOPE, SMALL, make_survey

from ztfmatch.cli import main
from ztfmatch.core.errors import BadInputError, ConfigError
from ztfmatch.release import check_product
from ztfmatch.release.io.scope import read_scope


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("products")
    snapshot = make_survey(tmp_path_factory.mktemp("survey")).snapshot()
    snapshot.publish_hats(place / "hats", SCOPE, SMALL)
    snapshot.publish_objects(place / "objects", SCOPE, SMALL)
    snapshot.publish_bulk(place / "bulk", SCOPE)
    return place


@pytest.mark.parametrize("name", ["hats", "objects", "bulk"])
def test_check_of_a_whole_product_passes_and_every_damage_is_told(products: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / "copied"
    shutil.copytree(products / name, place)
    report = check_product(place)
    assert report.passed, report.checks
    assert all(check.checked > 0 for check in report.checks)
    data = next(
        path for path in sorted(place.rglob("*.parquet")) if "margin" not in str(path) and "index" not in str(path)
    )

    def failed() -> set[str]:
        return {check.check for check in check_product(place).checks if check.wrong}

    content = data.read_bytes()
    data.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert "checksums" in failed()
    rows = pq.ParquetFile(products / name / data.relative_to(place)).read()
    pq.write_table(rows.slice(1), data)
    assert {"checksums", "counts", "files"} <= failed()
    pq.write_table(rows.append_column("programid", rows.column(1)), data)
    assert "columns" in failed()
    key = rows.column_names.index("oid" if name == "objects" else "objectid")
    pq.write_table(rows.set_column(key, rows.column_names[key], rows.column(key).cast("string")), data)
    assert {"checksums", "columns"} <= failed()
    words = pa.array(["x"] * rows.num_rows)
    pq.write_table(rows.set_column(key, rows.column_names[key], words), data)
    assert {"checksums", "columns", "counts"} <= failed()
    data.unlink()
    assert {"files", "counts"} <= failed()
    data.write_bytes(content)
    assert not failed()
    (place / "stray.txt").write_text("x")
    assert failed() == {"files"}
    sums = (place / "sha256sums.txt").read_bytes()
    (place / "sha256sums.txt").write_bytes(sums + b"\xff\xfe")
    assert {"files", "checksums"} <= failed()
    (place / "sha256sums.txt").unlink()
    wrong = {check.check: check.wrong for check in check_product(place).checks}
    assert wrong["files"] == ["sha256sums.txt is missing, which names the files of the product"]


def test_check_of_a_manifest_without_a_checksum_is_refused(products: Path, tmp_path: Path) -> None:
    place = tmp_path / "copied"
    shutil.copytree(products / "bulk", place)
    manifest = json.loads((place / "release.json").read_text())
    (place / "release.json").write_text(json.dumps(manifest | {"checksums": {}}))
    with pytest.raises(BadInputError, match=r"release\.json is not a manifest of a product: KeyError: 'sha256'"):
        check_product(place)


def test_init_writes_a_scope_of_the_public_program_and_never_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dr9.toml"
    run = CliRunner()
    assert run.invoke(main, ["publish", "init", str(path), "--label", "dr9"]).exit_code == 0
    scope = read_scope(path)
    assert (scope.release, list(scope.programs)) == ("dr9", [1])
    every = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", path.read_text())
    (tmp_path / "every.toml").write_text(every.replace('"..."', '"what"'))
    assert read_scope(tmp_path / "every.toml").quality.only_good_exposures
    before = path.read_bytes()
    assert run.invoke(main, ["publish", "init", str(path)]).exit_code == 2
    assert path.read_bytes() == before
    lost = run.invoke(main, ["publish", "init", str(tmp_path / "nowhere" / "dr9.toml")])
    assert (lost.exit_code, "nowhere' does not exist" in lost.stderr) == (2, True)


def test_check_of_what_is_no_such_product_says_what_it_is(products: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"not a product of 'publish': it has no release\.json"):
        check_product(tmp_path)
    with pytest.raises(ConfigError, match="is not a directory that 'publish hats', 'objects' or 'bulk' made"):
        check_product(tmp_path / "x.tar")
    (tmp_path / "release.json").write_text('{"product": "tar"}')
    with pytest.raises(ConfigError, match=r"unpacked of a tar file: run 'md5sum -c checksum\.md5' in it"):
        check_product(tmp_path)
