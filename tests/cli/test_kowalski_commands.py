"""The commands for Kowalski."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Scene, call, done, report
from corrected import ENOUGH, calibrated_survey
from kowalski_oracle import differences
from mongoserver import Fault, Faults, documents, mongo_server
from widths import check_fits, on_terminal

from ztfmatch.photometry.calibrate import CalibrateInputs


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Faults]]:
    with mongo_server() as started:
        monkeypatch.setenv("ZTFMATCH_MONGO_URI", started[0])
        yield started


def test_export_then_append_then_export_says_what_it_wrote(scene: Scene, tmp_path: Path) -> None:
    store, out, cursor = tmp_path / "store", tmp_path / "out", tmp_path / "cursor.json"
    catalogs = sorted((scene.sky / "catalogs").rglob("*.fits"))
    done("init", store, "--references", scene.sky / "references")
    done("append", store, *catalogs[:2])
    text = done("export", "kowalski", store, out, "--cursor", cursor)
    assert text.startswith("Exported snapshot 1: 2 exposures to upsert, ")
    assert text.rstrip().endswith(f"in {out}/0000000001-full.")
    assert done("export", "kowalski", store, out, "--cursor", cursor).startswith("Nothing to export: the store is at")
    done("append", store, *catalogs[2:])
    made = report("export", "kowalski", store, out, "--cursor", cursor)
    assert (made["since"], made["snapshot"], made["written"]) == (1, 2, True)
    assert made["counts"]["sources"]["update"] > 50
    assert made["counts"]["exposures"] == {"remove": 0, "upsert": 2, "update": 0}
    again = done("export", "kowalski", store, out, "--since", 1)
    assert again == f"Exported before: snapshot 2 since 1, in {made['export']}.\n"


def test_export_with_load_fills_the_database(scene: Scene, tmp_path: Path, server: tuple[str, Faults]) -> None:
    both = report("export", "kowalski", scene.store, tmp_path, "--load", "--tag", "now", "--compression", "gzip")
    sources = documents(server[0], "ZTF_sources_now")
    assert both["load"]["snapshot"] == both["export"]["snapshot"]
    assert len(sources) == both["export"]["counts"]["sources"]["upsert"] > 100
    server[1].faults.append(Fault("update", 1))
    result = call("load", tmp_path, "--tag", "other", "-q")
    assert result.stdout.startswith(f"Loaded {Path(both['export']['export']).name}: ")
    assert re.search(r" s, [\d,]+ documents/s, 1 request repeated\.$", result.stdout)
    assert re.fullmatch(r"ztfmatch: \S+: MongoDB failed: .*; try 2 of 8 in 0.5 s\n", result.stderr)
    assert differences(documents(server[0], "ZTF_sources_other"), sources) == []
    assert done("load", tmp_path, "--tag", "other").startswith(
        "Nothing to load: the collections of other hold snapshot"
    )


def test_export_of_some_programs_says_whose_epochs_its_corrections_are_derived_from(tmp_path: Path) -> None:
    store = calibrated_survey(tmp_path / "survey", 1, 6)
    inputs = CalibrateInputs(tmp_path / "survey" / "ps1.parquet", tmp_path / "set")
    name = store.calibrate(inputs, ENOUGH).corrections
    store.correct(tmp_path / "set")
    public = call("export", "kowalski", store.path, tmp_path / "public", "--only", "program=1")
    assert f"magnitudes have corrections {name}, derived from epochs of program 3, which are not" in public.stderr
    assert call("export", "kowalski", store.path, tmp_path / "both", "--only", "program=1,3", "-q").stderr == ""
    assert report("export", "kowalski", store.path, tmp_path / "all")["private_corrections"] == {}


def test_load_takes_the_uri_of_a_file(scene: Scene, tmp_path: Path, server: tuple[str, Faults],
                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("ZTFMATCH_MONGO_URI", "mongodb://127.0.0.1:9/")
    (tmp_path / "uri").write_text(server[0])
    done("export", "kowalski", scene.store, tmp_path / "out", "--load", "--mongo-uri-file", tmp_path / "uri")
    assert documents(server[0], "ZTF_sources_ztfmatch")


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--only", "program=9"], "'9' is not a number from 1 to 3"), (["--since", "77"], "has no snapshot 77"),
     (["--since", "1", "--full"], "give one of them"), (["--load"], "set ZTFMATCH_MONGO_URI, or give")],
)  # fmt: skip
def test_wrong_command_exits_2_with_one_line_and_writes_nothing(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.delenv("ZTFMATCH_MONGO_URI", raising=False)
    result = call("export", "kowalski", scene.store, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_load_of_a_damaged_export_exits_1_and_says_so_in_json(
    scene: Scene, tmp_path: Path, server: tuple[str, Faults]
) -> None:
    made = Path(report("export", "kowalski", scene.store, tmp_path)["export"])
    victim = max(made.glob("sources-*"))
    victim.write_bytes(b"\0" * victim.stat().st_size)
    result = call("load", tmp_path, "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)
    assert (error["error"], error["exit"]) == ("BadInputError", 1)
    assert victim.name in error["message"]


def test_load_where_no_service_is_exits_1_within_seconds_and_before_the_export(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZTFMATCH_MONGO_URI", "mongodb://me:secret@127.0.0.1:9/")
    began = time.monotonic()
    result = call("export", "kowalski", scene.store, tmp_path / "out", "--load")
    assert time.monotonic() - began < 20.0
    assert result.exit_code == 1
    assert re.fullmatch(r"ztfmatch: no MongoDB answers within 5 s \(127.0.0.1:9: .*\): check .*\n", result.stderr)
    assert not (tmp_path / "out").exists()


def test_exports_are_listed_and_those_before_the_newest_full_one_pruned(scene: Scene, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    catalogs = sorted((scene.sky / "catalogs").rglob("*.fits"))
    done("init", store, "--references", scene.sky / "references")
    for number, some in enumerate(([catalogs[0]], [catalogs[1]], [catalogs[2]], [catalogs[3]])):
        done("append", store, *some)
        words = [] if number in (0, 2) else ["--since", number]
        preview = report("export", "kowalski", store, out, *words, "--dry-run")
        assert (preview["since"], preview["snapshot"], preview["there"]) == (
            number if words else None,
            number + 1,
            False,
        )
        assert not Path(preview["export"]).exists()
        assert report("export", "kowalski", store, out, *words)["export"] == preview["export"]
        assert report("export", "kowalski", store, out, *words, "--dry-run")["there"]
    (out / "0000000009-full").mkdir()
    (out / "0000000009-full" / "sources-upsert-0.jsonl.zst").write_bytes(b"broken off")
    (out / "cursor.json").write_text("{}")
    names = ["0000000001-full", "0000000002-since-0000000001", "0000000003-full", "0000000004-since-0000000003"]
    listed = report("exports", "list", out)
    assert [one["name"] for one in listed] == [*names, "0000000009-full"]
    assert [one["whole"] for one in listed] == [True] * 4 + [False]
    manifest = json.loads((out / names[0] / "manifest.json").read_text())
    assert listed[0]["documents"] == sum(manifest["counts"].values())
    assert re.search(r"^0000000009-full +unfinished", done("exports", "list", out), re.MULTILINE)
    assert report("exports", "prune", out, "--keep", 2, "--dry-run")["deleted"] == ["0000000009-full"]
    would = report("exports", "prune", out, "--dry-run")
    assert all((out / name).is_dir() for name in names)
    pruned = report("exports", "prune", out)
    assert pruned == would
    assert pruned["deleted"] == [*names[:2], "0000000009-full"]
    assert sorted(path.name for path in out.iterdir()) == [*names[2:], "cursor.json"]
    assert call("exports", "list", tmp_path).exit_code == 2


def test_load_status_says_what_is_in_and_what_would_be_and_writes_nothing(
    scene: Scene, tmp_path: Path, server: tuple[str, Faults], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = report("export", "kowalski", scene.store, tmp_path)
    name = Path(made["export"]).name
    before = report("load", tmp_path, "--tag", "st", "--status")
    assert (before["snapshot"], before["next"]) == (None, [name])
    assert set(before["collections"].values()) == {0}
    assert not documents(server[0], "ZTF_sources_st")
    loaded = report("load", tmp_path, "--tag", "st")
    assert loaded["documents"] == before["documents"]
    after = report("load", tmp_path, "--tag", "st", "--status")
    assert (after["snapshot"], after["next"], after["documents"]) == (made["snapshot"], [], 0)
    assert after["collections"]["ZTF_sources_st"] == made["counts"]["sources"]["upsert"]
    on_terminal(monkeypatch, 80)
    text = done("load", tmp_path, "--tag", "st", "--status")
    assert "A load would take nothing." in text
    check_fits(text, 80)
