"""The commands that look after a store."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from commandline import Scene, call, done, report


@pytest.fixture
def nights(copied: Scene, tmp_path: Path) -> Scene:
    """A store that was appended to catalog by catalog: snapshots 1 to 4."""
    store = tmp_path / "nights"
    done("init", store, "--references", copied.sky / "references")
    for catalog in sorted((copied.sky / "catalogs").rglob("*.fits")):
        done("append", store, catalog, "--note", f"night of {catalog.name[4:12]}")
    return Scene(copied.sky, store)


def test_history_lists_every_snapshot_with_its_note(nights: Scene) -> None:
    commits = report("history", nights.store)
    assert [commit["number"] for commit in commits] == [0, 1, 2, 3, 4]
    assert [commit["operation"] for commit in commits] == ["init", *["append"] * 4]
    text = done("history", nights.store)
    assert len(text.splitlines()) == 6
    assert "night of 2018" in text


def test_compact_keeps_detections_and_says_what_it_did(nights: Scene) -> None:
    before = report("status", nights.store)["detections"]
    rehearsed = report("compact", nights.store, "--full", "--min-files", 2, "--dry-run")
    assert (rehearsed["committed"], len(rehearsed["tiles"])) == (False, 1)
    made = report("compact", nights.store, "--full", "--min-files", 2)
    assert made["committed"]
    assert made["files_after"] < made["files_before"]
    assert report("status", nights.store)["detections"] == before
    assert report("verify", nights.store, "--deep")["passed"]
    assert "Nothing to compact" in done("compact", nights.store, "--full", "--min-files", 2)


def test_diff_counts_rows_of_the_night(nights: Scene) -> None:
    rows = {row["table"]: row["rows_after"] - row["rows_before"] for row in report("diff", nights.store, 1, 2)}
    counts = report("history", nights.store)[2]["counts"]
    assert (rows["detections"], rows["exposures"]) == (counts["detections"], 1)
    assert "hold the same files" in done("diff", nights.store, 3, 3)


def test_rollback_then_append_gives_the_night_again(nights: Scene) -> None:
    whole = report("status", nights.store)["detections"]
    assert re.search(r"Would commit .*: [\d,]+ detections fewer\.", done("rollback", nights.store, 2, "--dry-run"))
    assert report("rollback", nights.store, 2, "--note", "wrong flats")["committed"]
    assert report("status", nights.store)["exposures"] == 2
    assert report("append", nights.store, nights.sky / "catalogs")["exposures"] == 2
    assert report("status", nights.store)["detections"] == whole
    assert "has that state already" in done("rollback", nights.store, 6)


def test_vacuum_frees_old_snapshots_and_they_say_so(nights: Scene) -> None:
    done("compact", nights.store, "--full", "--min-files", 2)
    for path in nights.store.rglob("*.*"):
        os.utime(path, (path.stat().st_mtime - 2 * 86400,) * 2)
    assert "Would delete" in done("vacuum", nights.store, "--keep", 1, "--dry-run")
    assert report("vacuum", nights.store, "--keep", 1)["files"] > 0
    gone = call("status", nights.store, "--snapshot", 2)
    assert gone.exit_code == 2
    assert "removed by a vacuum; the oldest is 5" in gone.stderr
    assert report("verify", nights.store, "--deep")["passed"]


@pytest.mark.parametrize(
    "command", [("rollback", 99), ("diff", 0, 99), ("vacuum", "--keep", 0), ("compact", "--min-files", 1)]
)
def test_impossible_arguments_are_usage_errors(copied: Scene, command: tuple[object, ...]) -> None:
    result = call(command[0], copied.store, *command[1:])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_rematch_says_what_became_of_objects_and_lineage_follows(
    copied: Scene, star: dict[str, Any], tmp_path: Path
) -> None:
    regenerated = shutil.copytree(copied.sky / "references", tmp_path / "references")
    for path in regenerated.rglob("*.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus[1].data["dec"] += 0.3 / 3600.0
    before = report("status", copied.store)
    first = star["objectid"]
    would = report("rematch", copied.store, "--references", regenerated, "--dry-run")
    assert (would["committed"], report("status", copied.store)["snapshot"]) == (False, before["snapshot"])
    said = done("rematch", copied.store, "--references", regenerated, "--note", "new flats")
    assert said.startswith(f"Snapshot {before['snapshot'] + 1}: 1 unit in ")
    assert "moved" in said
    assert would["units"][0]["moved"] > 0.9 * would["units"][0]["seeds"]
    assert report("history", copied.store)[-1]["note"] == "new flats"
    assert "Nothing to match again: 1 reference known." in done("rematch", copied.store, "-r", regenerated)
    links = report("lineage", copied.store, "--objectid", first)
    assert [(link["objectid"], link["kind"]) for link in links] == [(first, "moved")]
    told = call("lightcurve", copied.store, "--objectid", first)
    assert told.exit_code == 0
    assert f"object {first} is retired: moved, now {links[0]['newobjectid']}, 0.30 arcsec away" in told.stderr
    followed = call("lightcurve", copied.store, "--objectid", first, "--follow", "--json")
    assert {row["objectid"] for row in json.loads(followed.stdout)} == {links[0]["newobjectid"]}
    assert report("verify", copied.store, "--deep")["passed"]
