"""Tables beside the catalogs that match nothing, or contradict each other."""

from __future__ import annotations

from pathlib import Path

import corrected
import pytest
from helpers import UNIT, append, epochal_file, make_store, reference_file, rows_at
from test_notices import exposures_csv, told

from ztfmatch.core.errors import BadInputError, MetadataError
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.survey import Unit

ROWS = rows_at([10.0, 10.1, 10.2], [20.0, 20.0, 20.0])


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return make_store(tmp_path / "s", [reference_file(tmp_path, ROWS)])


def model(path: Path, field: int, slope: float = -5e-4) -> Path:
    path.write_text(f"{field} {UNIT.ccdid} {UNIT.qid} 0.02 {slope} 1e-9 -4e-18\n")
    return path


def rule(path: Path, code: str, upper: float = 26.75) -> Path:
    path.write_text(f"[{code}]\nupper = {upper}\n")
    return path


def test_append_exposure_table_that_matches_nothing_is_told(tmp_path: Path, storage: Storage) -> None:
    catalogs = [epochal_file(tmp_path, ROWS, night) for night in range(2)]
    other = exposures_csv(tmp_path, {tmp_path / catalogs[0].name.replace("20190201", "20190301"): 1})
    empty = tmp_path / "empty.csv"
    empty.write_text("filefracday,rcid,programid\n")
    for path in (other, empty):
        with pytest.raises(BadInputError, match=f"--strict: 2 of 2 catalogs have no row in {path}"):
            append(storage, catalogs, exposures=path, strict=True)
    assert told(append(storage, catalogs, exposures=other)) == [("no-row", [path.name for path in catalogs])]


def test_append_catalog_of_another_name_has_no_row(tmp_path: Path, storage: Storage) -> None:
    catalog = epochal_file(tmp_path, ROWS, name="odd.fits", PROGRMID=None)
    files = exposures_csv(tmp_path, {tmp_path / "ztf_20190201250000_000500_zr_c06_o_q1_psfcat.fits": 1})
    assert [code for code, _ in told(append(storage, [catalog], exposures=files))] == ["no-row", "no-program"]


def test_append_tables_that_match_nothing_are_told_each(tmp_path: Path, storage: Storage) -> None:
    catalog = epochal_file(tmp_path, ROWS)
    corrected.write_set(tmp_path / "corrections", [Unit(UNIT.field, UNIT.rcid, 1)])
    given = {
        "error_models": (model(tmp_path / "a_zr.dat", 501), model(tmp_path / "b_zg.dat", UNIT.field)),
        "quality_rule": rule(tmp_path / "rule.toml", "zg"),
        "corrections": tmp_path / "corrections",
    }
    with pytest.raises(BadInputError, match=r"--strict: .*a_zr.dat has nothing for these catalogs"):
        append(storage, [catalog], strict=True, **given)
    report = append(storage, [catalog], **given)
    assert [notice.message for notice in report.warnings] == [
        f"{tmp_path / name} has nothing for these catalogs"
        for name in ("a_zr.dat", "b_zg.dat", "rule.toml", "corrections")
    ]


def test_append_tables_that_match_are_not_told(tmp_path: Path, storage: Storage) -> None:
    catalog = epochal_file(tmp_path, ROWS)
    corrected.write_set(tmp_path / "corrections", [UNIT])
    given = {
        "exposures": exposures_csv(tmp_path, {catalog: 1}),
        "error_models": (model(tmp_path / "zr.dat", UNIT.field),),
        "quality_rule": rule(tmp_path / "rule.toml", "zr"),
        "corrections": tmp_path / "corrections",
    }
    assert append(storage, [catalog], strict=True, **given).warnings == []


def test_append_error_models_that_contradict_each_other_are_refused(tmp_path: Path, storage: Storage) -> None:
    one, same = model(tmp_path / "a_zr.dat", UNIT.field), model(tmp_path / "b_zr.dat", UNIT.field)
    catalog = epochal_file(tmp_path, ROWS)
    other = model(tmp_path / "c_zr.dat", UNIT.field, slope=1.0)
    with pytest.raises(MetadataError, match=f"{other} and {one} contradict each other on unit 000500_zr_c06_q1"):
        append(storage, [catalog], error_models=(one, same, other))
    assert append(storage, [catalog], error_models=(one, same)).exposures == 1
