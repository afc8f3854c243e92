"""The guides on corrections and references: their commands run in order, on a small sky that has what they name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from test_docs import PROJECT, blocks, commands, typed

from ztfmatch.cli import main
from ztfmatch.photometry.surveyform import export_survey_tables
from ztfmatch.simulate import SimulationConfig, regenerate_references, simulate
from ztfmatch.simulate.metadata import MetadataConfig, simulate_metadata

SKY = SimulationConfig(
    seed=3, fields=(679,), rcids=(16,), filters=(2,), n_exposures=30, stars_per_quadrant=10_000, bad_references=1.0
)
STORE = "survey.store"
CATALOG = "ztf_20190107351123_000679_zr_c05_o_q1_psfcat.fits"
ONE_YEAR = 10**12
"""In exposureids."""


def run(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, (words, done.output)
    return done.output


def append(catalogs: list[str]) -> str:
    return run("append", STORE, *catalogs, "--exposures", "sky/exposures.csv")


def images() -> pa.Table:
    """Metadata of images of many units, one of which is that of the sky."""
    table, _ = simulate_metadata(MetadataConfig(4_000, 40, 0.2, seed=1))
    columns = {name: table[name].to_numpy() for name in table.column_names}
    field, rcid = columns["field"], columns["rcid"]
    mine = (field == field[0]) & (rcid == rcid[0]) & (columns["fid"] == columns["fid"][0])
    columns["exposureid"] = columns["exposureid"] + np.where(mine, 16 - rcid.astype(np.int64), 0)
    for name, value in (("field", 679), ("rcid", 16), ("fid", 2)):
        columns[name] = np.where(mine, value, columns[name]).astype(columns[name].dtype)
    return pa.table(columns).filter(pa.array(mine | (rcid != 16)))  # exposureids are of a channel


def pixels() -> pa.Table:
    """What the ledger of the store lacks."""
    import ztfmatch

    ledger = ztfmatch.open_store(STORE).snapshot().files.read("exposures", ["exposureid", "field", "rcid", "fid"])
    return ledger.append_column("status", pa.array([1] * len(ledger))).append_column(
        "median", pa.array([300.0] * len(ledger))).append_column("rms", pa.array([15.0] * len(ledger)))  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A store with a part of the catalogs of a sky, in the current directory; the other catalogs."""
    monkeypatch.chdir(tmp_path)
    simulate(tmp_path / "sky", SKY)
    regenerate_references(tmp_path / "sky", SKY)
    Path("ps1.parquet").symlink_to("sky/truth/ps1.parquet")
    catalogs = sorted(map(str, Path("sky/catalogs").rglob("*_psfcat.fits")))
    run("init", STORE, "--references", "sky/references")
    append(catalogs[:15])
    table = images()
    pq.write_table(table, "images.parquet")
    later = pa.array(table["exposureid"].to_numpy() + 9 * ONE_YEAR)
    pq.write_table(table.set_column(0, "exposureid", later).slice(0, 500), "yesterday.parquet")
    return catalogs[15:]


def words_of(page: str) -> list[list[str]]:
    text = (PROJECT / "docs" / "guides" / page).read_text()
    return [typed(words) for block in blocks(text) if block.language == "sh" for words in commands(block.text)]


def run_all(page: str, places: dict[str, str], before: dict[str, Callable[[], object]]) -> None:
    """Run the commands of a guide, with places that are here; some need something to be done before."""
    for words in words_of(page):
        for word in words:
            before.pop(word, lambda: None)()
        run(*(places.get(word, word) for word in words))
    assert not before


@pytest.mark.slow
def test_commands_of_the_guide_on_photometry_run(scene: list[str]) -> None:
    catalog = shutil.copy(scene[0], ".")
    places = {"/data/ztf/calibration/tables": "tables", "/data/ztf/sci/2020/0107": scene[10], CATALOG: catalog}
    before = {
        "--update": lambda: append(scene[:10]),
        "--extend": lambda: append(scene[11:]),
        "/data/ztf/calibration/tables": lambda: export_survey_tables("corrections-2019", "tables"),
        "11": lambda: [run("correct", STORE, *way) for way in (["--none"], ["corrections-2019"])],
    }
    run_all("photometry.md", places, before)
    assert Path("corrections-2020-01/about.json").is_file()
    assert Path(catalog.replace("psfcat", "psfcatscorr")).is_file()
    assert Path("compared/index.html").is_file()


@pytest.mark.slow
def test_commands_of_the_guide_on_references_run(scene: list[str]) -> None:
    append(scene)
    pq.write_table(pixels(), "pixels.parquet")
    places = {"/data/ztf/ref": "sky/references", "/data/ztf/ref/new": "sky/references_1"}
    run_all("references.md", places, {})
    plan = {row["action"]: row for row in pq.read_table("plan.parquet").to_pylist() if row["field"] == 679}
    assert plan.keys() == {"regenerate"}
    assert "same" in run("lineage", STORE)
