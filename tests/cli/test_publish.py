"""Releases and views on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commandline import Scene, call, done, report
from corrected import calibrated_survey
from widths import check_fits, on_terminal

import ztfmatch

SCOPE = """
release = "dr2"
[[programs]]
id = 1
[[programs]]
id = 2
until = 2018-12-31
"""


@pytest.fixture
def scope(tmp_path: Path) -> Path:
    path = tmp_path / "dr2.toml"
    path.write_text(SCOPE)
    return path


@pytest.mark.parametrize("product", ["hats", "objects", "bulk"])
def test_publish_says_what_it_made_and_where(scene: Scene, scope: Path, tmp_path: Path, product: str) -> None:
    text = done("publish", product, scene.store, tmp_path / "out", "--release", scope)
    assert text.startswith("Release dr2 of snapshot 2: ")
    assert str(tmp_path / "out") in text
    made = report("publish", product, scene.store, tmp_path / "again", "--release", scope)
    assert (made["release"], made["snapshot"], made["output"]) == ("dr2", 2, str(tmp_path / "again"))
    assert made["objects"] > 100
    rows = sum(
        pq.read_metadata(path).num_rows
        for path in (tmp_path / "again").rglob("*.parquet")
        if product == "bulk" or path.is_relative_to(next((tmp_path / "again").glob("*-hats")))
    )
    assert rows == made["objects"]


@pytest.mark.parametrize(
    "product",
    [("hats",), ("objects",), ("bulk",), ("tess", "--sector", 14, "--cone", 0, 0, "180deg", "--since", 50000, "--until",
                                          60000), ("tar", "--cone", 0, 0, "180deg")],
)  # fmt: skip
def test_publish_dry_run_counts_by_program_and_writes_nothing(
    scene: Scene, scope: Path, tmp_path: Path, product: tuple[object, ...]
) -> None:
    before = sorted(tmp_path.iterdir())
    command = ("publish", product[0], scene.store, tmp_path / "out", "--release", scope, *product[1:], "--dry-run")
    made = report(*command)
    assert made["epochs"] == sum(program["epochs"] for program in made["programs"]) > 100
    assert [(program["program"], program["name"]) for program in made["programs"]] == [
        (1, "public"),
        (2, "partnership"),
    ]
    text = done(*command)
    assert f"program 1 (public): {made['programs'][0]['objects']:,} objects, " in text
    assert text.endswith("Nothing was written.\n")
    assert sorted(tmp_path.iterdir()) == before


def test_publish_tar_and_tess_take_regions_and_dates(
    scene: Scene, scope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (scene.store, "--release", scope)
    whole = report("publish", "tar", *common, tmp_path / "all.tar", "--cone", 0, 0, "180deg", "--label", "all")
    corners = "230 20 265 20 265 45 230 45"
    polygon = report("publish", "tar", *common, tmp_path / "polygon.tar", "--polygon", corners)
    assert polygon["epochs"] == whole["epochs"] > 100
    mjd = ztfmatch.open_store(scene.store).snapshot().table("exposures")["obsmjd"].to_pylist()
    middle = sorted(mjd)[2]
    early = report("publish", "tar", *common, tmp_path / "early.tar", "--polygon", corners, "--until", middle)
    late = report("publish", "tar", *common, tmp_path / "late.tar", "--polygon", corners, "--since", middle)
    assert early["epochs"] + late["epochs"] == whole["epochs"]
    tess = report("publish", "tess", *common, tmp_path / "s0099.tar", "--sector", 99, "--polygon", corners,
                  "--since", "2018-01-01", "--until", "2019-01-01T12:00:00")  # fmt: skip
    assert (tess["epochs"], tess["release"]) == (whole["epochs"], "dr2_s0099")
    on_terminal(monkeypatch, 80)
    check_fits(done("publish", "tess", *common, tmp_path / "s0098.tar", "--sector", 98, "--polygon", corners,
                    "--since", "2018-01-01", "--until", "2019-01-01"), 80)  # fmt: skip
    assert len(tess["sha256"]) == 64


def test_publish_of_corrections_asks_for_programs_or_to_be_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = calibrated_survey(tmp_path / "survey", 1, 6).path
    (tmp_path / "public.toml").write_text('release = "public"\n[[programs]]\nid = 1\n')
    cuts = ("--cells", 2, "--min-stars", 5, "--max-error", 0.5)
    calibrate = ("calibrate", store, "--ps1", tmp_path / "survey" / "ps1.parquet", *cuts, "--output")
    publish = ("publish", "bulk", store, "--release", tmp_path / "public.toml")
    on_terminal(monkeypatch, 80)
    text = done(*calibrate, tmp_path / "all")
    assert "Programs of the epochs used: 1, 3." in text
    for said in (text, done("correct", store, tmp_path / "all"),
                 done("export", "corrections", tmp_path / "all", "-o", tmp_path / "tables")):  # fmt: skip
        check_fits(said, 80)
    refused = call(*publish, tmp_path / "out")
    assert refused.exit_code == 2
    assert "'ztfmatch calibrate --program'" in refused.stderr
    done(*publish, tmp_path / "allowed", "--allow-private-corrections")
    assert report(*calibrate, tmp_path / "public", "--program", 1)["programs"] == [1]
    done("correct", store, tmp_path / "public")
    done(*publish, tmp_path / "out")
    update = call(*calibrate, tmp_path / "more", "--update", tmp_path / "public")
    assert update.exit_code == 2
    assert "made with programs [1], not all; an update needs the same" in update.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hats", "--release", "{scope}", "--snapshot", 99), "no snapshot 99"),
        (("bulk", "--release", "{empty}"), "the scope is empty"),
        (("bulk", "--release", "{backwards}"), "the window of program 1 ends before it starts"),
        (("bulk", "--release", "{unknown}"), "id in [[programs]] is 7; expected one of 1 (public)"),
        (("hats", "--release", "{late}"), "no exposure of snapshot 2 is in the scope of release 'late'"),
        (("hats", "--release", "{scope}", "--partition-size", "0"), "--partition-size is 0; expected 1 to 32000000000"),
        (("tar", "--release", "{scope}"), "give a region: --cone, --polygon or --moc"),
        (("tar", "--release", "{scope}", "--cone", 0, 0, "1deg", "--polygon", "0 0 1 0 0 1"), "contradict each other"),
        (("tar", "--release", "{scope}", "--cone", 0, 0, 8), "radius 8 has no unit; expected something like 2deg"),
        (("tess", "--sector", 14, "--release", "{scope}", "--cone", 0, 0, "8x"), "radius '8x' is not an angle"),
        (("tar", "--release", "{scope}", "--polygon", "0 0 x"), "expected 'RA DEC RA DEC ...'"),
        (("tar", "--release", "{scope}", "--polygon", "0 0 1 0"), "a polygon of 4 numbers; expected pairs"),
        (("tar", "--release", "{scope}", "--cone", 0, 0, "1deg", "--since", "soon"), "'soon' is not a date"),
        (("tar", "--release", "{scope}", "--cone", 0, 0, "1deg", "--since", 58400, "--until", 58300),
         "the dates end before they start"),
    ],
)  # fmt: skip
def test_publish_what_cannot_be_is_one_line_and_exit_code_2(
    scene: Scene, scope: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    texts = {
        "empty": 'release = "x"',
        "backwards": 'release = "x"\n[[programs]]\nid = 1\nsince = 2019-01-01\nuntil = 2018-01-01',
        "unknown": 'release = "x"\n[[programs]]\nid = 7',
        "late": 'release = "late"\n[[programs]]\nid = 1\nsince = 2030-01-01',
    }
    places = {"scope": scope}
    for name, text in texts.items():
        places[name] = tmp_path / f"{name}.toml"
        places[name].write_text(text)
    before = sorted(tmp_path.iterdir())
    product, *options = (str(argument).format(**places) for argument in arguments)
    result = call("publish", product, scene.store, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_publish_and_query_of_a_sky_map_given_as_moc_are_refused(scene: Scene, scope: Path, tmp_path: Path) -> None:
    from astropy.io import fits

    columns = [fits.Column("UNIQ", "K", array=range(16, 64)), fits.Column("PROBDENSITY", "D", array=range(48))]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update({"PIXTYPE": "HEALPIX", "ORDERING": "NUNIQ", "COORDSYS": "C", "MOCORDER": 1})
    table.writeto(tmp_path / "skymap.fits")
    moc = ("--moc", tmp_path / "skymap.fits")
    for command in (("publish", "tar", scene.store, tmp_path / "out.tar", "--release", scope), ("query", scene.store)):
        result = call(*command, *moc)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "skymap.fits is not a MOC: it is a multi-order sky map (columns UNIQ, PROBDENSITY)" in result.stderr
    assert not (tmp_path / "out.tar").exists()


def test_publish_over_something_is_refused(scene: Scene, scope: Path, tmp_path: Path) -> None:
    result = call("publish", "hats", scene.store, tmp_path, "--release", scope, "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]) == (2, "OutputExistsError")
    result = call("publish", "hats", scene.store, "s3://bucket/out", "--release", scope)
    assert (result.exit_code, "local directory" in result.stderr) == (2, True)


def test_view_delta_and_hats_say_what_they_show(scene: Scene, tmp_path: Path) -> None:
    made = report("view", "delta", scene.store, tmp_path / "delta")
    assert (made["snapshot"], made["tables"]["detections"]) == (2, 1)
    assert "0 changed" in done("view", "delta", scene.store, tmp_path / "delta")
    made = report("view", "hats", scene.store, tmp_path / "hats")
    assert made["detections"] == report("status", scene.store)["detections"]
    result = call("view", "hats", scene.store, tmp_path / "hats")
    assert (result.exit_code, "exists already" in result.stderr) == (2, True)
    assert "partition" in done("view", "hats", scene.store, tmp_path / "more")


def test_schema_of_a_release_lists_nested_columns() -> None:
    rows = {column["name"]: column for column in report("schema", "lightcurves")[0]["columns"]}
    assert (rows["lightcurve.hmjd"]["type"], rows["lightcurve.hmjd"]["unit"]) == ("double", "day")
    assert "all programs" in done("schema", "releasedobjects")


@pytest.mark.parametrize(
    ("group", "names"), [("publish", "hats objects bulk tess tar init check diff"), ("view", "delta hats")]
)
def test_group_lists_its_commands_in_order(group: str, names: str) -> None:
    text = done(group, "--help")
    listed = [line.split()[0] for line in text[text.index("Commands:") :].splitlines()[1:] if line.strip()]
    assert listed == names.split()
