"""What is forecast against what then happens, task by task, of every operation on the same store."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ztfmatch
from ztfmatch.core import camera, costs
from ztfmatch.core.config import AppendConfig, CompactConfig, StoreConfig
from ztfmatch.core.errors import ConfigError
from ztfmatch.core.io.catalogs import HEADER_BYTES, ROW_BYTES
from ztfmatch.core.io.snapshot import open_snapshot
from ztfmatch.core.io.sources import EPOCHAL_PATTERN, REFERENCE_PATTERN
from ztfmatch.core.io.storage import Storage
from ztfmatch.core.kernels.tiling import CAP_ORDER
from ztfmatch.core.operations.append import append_catalogs
from ztfmatch.core.operations.commitbatches import portions_of
from ztfmatch.core.operations.common import WORKER_BASE_BYTES
from ztfmatch.core.operations.compact import compact
from ztfmatch.core.operations.forecast import Draft, Forecast, JobForecast
from ztfmatch.core.operations.forecastappend import commits_of, forecast_append, forecast_init
from ztfmatch.core.operations.forecasttiles import forecast_compact, forecast_rematch, forecast_statistics
from ztfmatch.core.operations.forecastunits import Images
from ztfmatch.core.operations.init import init_store
from ztfmatch.core.operations.link import link_stars
from ztfmatch.core.operations.listing import codes_of, list_catalogs
from ztfmatch.core.operations.rematch import RematchConfig, rematch
from ztfmatch.core.operations.statistics import update_statistics
from ztfmatch.core.operations.transients import update_transients
from ztfmatch.core.operations.verify import verify_store
from ztfmatch.core.runner import Job, LoopExecutor, Outcome, Runner
from ztfmatch.core.survey import FILTER_CODES, Unit, psfcat_name, refpsfcat_name, unit_codes, unit_of_code
from ztfmatch.simulate import SimulationConfig, simulate

ROWS_PER_TASK = 3_000
CONFIG = StoreConfig(seeds_per_tile=300)
SKY = SimulationConfig(
    fields=(679, 1677), rcids=(5, 6, 20), filters=(1, 2), n_exposures=4, stars_per_quadrant=300, truth=False
)


@dataclass
class Counting:
    """Runs tasks in a loop, and counts them by job."""

    tasks: Counter[str] = field(default_factory=Counter)
    files: int = 0

    def outcomes(self, job: Job[Any]) -> Iterator[Outcome[Any]]:
        for outcome in LoopExecutor().outcomes(job):
            self.tasks[job.title] += 1
            self.files += len(getattr(outcome.result, "files", []))
            yield outcome


def counted(run: Any) -> Counting:
    counting = Counting()
    run(Runner(counting, 8 << 30))
    return counting


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sky")
    simulate(place, SKY)
    return place


@dataclass
class Made:
    """A store, and what was forecast of each operation that made it, and counted."""

    storage: Storage
    forecasts: dict[str, Draft]
    counted: dict[str, Counting]


@pytest.fixture(scope="module")
def made(sky: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    storage = Storage.at(tmp_path_factory.mktemp("made") / "store")
    references, catalogs = [str(sky / "references")], [str(sky / "catalogs")]
    got = Made(storage, {"init": forecast_init(references, CONFIG)}, {})
    got.counted["init"] = counted(lambda runner: init_store(storage, references, CONFIG, runner))
    config = AppendConfig(rows_per_task=ROWS_PER_TASK)
    got.forecasts["append"] = forecast_append(open_snapshot(storage), catalogs, config)
    got.counted["append"] = counted(lambda runner: append_catalogs(storage, catalogs, config, runner))
    return got


def job(draft: Draft | Forecast, title: str) -> JobForecast:
    return next(one for one in draft.jobs if one.job == title)


def test_forecast_of_init_has_the_tasks_seeds_and_files_of_the_init(made: Made) -> None:
    draft, was = made.forecasts["init"], made.counted["init"]
    assert job(draft, "reading references").tasks == was.tasks["reading references"]
    assert job(draft, "objects").tasks == pytest.approx(was.tasks["objects"], rel=0.35)
    linked = open_snapshot(made.storage, 0).tiles_with("members")  # tiles beside these are looked at, too
    assert len(linked) < was.tasks["stars"]
    assert job(draft, "stars").tasks == pytest.approx(len(linked), rel=0.35)
    seeds = open_snapshot(made.storage, 0).rows("objects")
    assert draft.amount == pytest.approx(seeds, rel=0.05)


@dataclass
class _Reading(Counting):
    """Counts how many seeds of references tasks read to write objects, too."""

    reads: list[int] = field(default_factory=list)

    def outcomes(self, job: Job[Any]) -> Iterator[Outcome[Any]]:
        if job.title == "objects":
            self.reads = [sum(reference.nrows for reference in task.references) for task in job.tasks]
        return super().outcomes(job)


@pytest.mark.parametrize("budget", [5_000, 20_000, 100_000])
def test_forecast_of_init_reads_references_as_often_as_the_init(budget: int, tmp_path: Path) -> None:
    places = SimulationConfig(
        fields=(679, 680, 246), rcids=tuple(range(0, 64, 6)), filters=(1, 2), n_exposures=1, stars_per_quadrant=600,
        truth=False,
    )  # fmt: skip
    simulate(tmp_path / "sky", places)
    references, config, reading = [str(tmp_path / "sky" / "references")], StoreConfig(seeds_per_tile=budget), _Reading()
    init_store(Storage.at(tmp_path / "store"), references, config, Runner(reading, 8 << 30))
    told = job(forecast_init(references, config), "objects")
    assert told.tasks == pytest.approx(reading.tasks["objects"], rel=0.1)
    assert told.bytes_read == pytest.approx(ROW_BYTES * sum(reading.reads), rel=0.07)
    assert told.memory_bytes - WORKER_BASE_BYTES == pytest.approx(150 * max(reading.reads), rel=0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is counted otherwise elsewhere")
def test_forecast_of_init_has_the_memory_of_its_main_process() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "initmemory.py"
    words = [sys.executable, str(script), "--references", "2000"]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    expected = costs.MAIN_BYTES + costs.MAIN_BYTES_OF_INIT + told["references"] * costs.MAIN_BYTES_PER_REFERENCE
    assert told["peak_mib"] == pytest.approx(expected / 2**20, rel=0.15)


@pytest.mark.parametrize("field", [246, 301, 679, 880])
def test_images_cover_the_pixels_in_which_the_quadrant_has_points(field: int) -> None:
    codes = unit_codes(np.full(64, field), np.arange(64), np.full(64, 2))
    image, pixels = Images.of(codes, np.ones(64)).covered
    more = 0
    for rcid in range(64):
        corners = camera.Pointing(*camera.field_centre(field)).deproject(camera.Plane(*camera.quadrant_corners(rcid).T))
        u, v = (part.ravel() for part in np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 120)))
        sw, nw, ne, se = corners.T[:, :, None]
        xyz = (1 - v) * ((1 - u) * sw + u * se) + v * ((1 - u) * nw + u * ne)
        inside = set(healpy.vec2pix(1 << CAP_ORDER, *xyz, nest=True).tolist())
        assert inside <= set(pixels[image == rcid].tolist())
        more += int((image == rcid).sum()) - len(inside)
    assert more < 0.1 * len(pixels)


def test_forecast_of_append_has_the_tasks_rows_and_files_of_the_append(made: Made) -> None:
    draft, was = made.forecasts["append"], made.counted["append"]
    assert job(draft, "reading catalogs").tasks == was.tasks["reading catalogs"]
    assert was.tasks["matching"] > 5
    assert job(draft, "matching").tasks == pytest.approx(was.tasks["matching"], rel=0.15)
    assert 0.6 * job(draft, "matching").files < was.files < 1.1 * job(draft, "matching").files  # tiles without orphans
    snapshot = open_snapshot(made.storage, 1)
    assert draft.amount == pytest.approx(snapshot.rows("detections") + snapshot.rows("orphans"), rel=0.05)


def test_forecasts_of_what_follows_have_the_tasks_of_each(made: Made, sky: Path) -> None:
    storage = made.storage
    told = ztfmatch.forecast("transients", storage.root)
    assert job(told, "transients").tasks == counted(lambda r: update_transients(storage, r)).tasks["transients"]
    draft = forecast_statistics(open_snapshot(storage), 0.0)
    report: list[Any] = []
    assert (
        job(draft, "statistics").tasks
        == counted(lambda r: report.append(update_statistics(storage, r, 0.0))).tasks["statistics"]
    )
    assert report[0].epochs <= draft.amount
    verified = ztfmatch.forecast("verify", storage.root)
    assert job(verified, "verifying").tasks == counted(lambda r: verify_store(storage, r)).tasks["verifying"]
    assert verified.files == 0


def test_forecast_of_linking_has_its_tiles_objects_and_files(made: Made, sky: Path, tmp_path: Path) -> None:
    storage = Storage.at(tmp_path / "store")
    init_store(storage, [str(sky / "references")], CONFIG, Runner(LoopExecutor(), 8 << 30), link=False)
    told = ztfmatch.forecast("link", storage.root)
    was = counted(lambda runner: link_stars(storage, runner))
    assert (job(told, "link").tasks, told.amount) == (was.tasks["link"], open_snapshot(storage).rows("members"))
    assert told.files <= was.files <= told.files + was.tasks["link"]  # tiles beside objects may have a file, too
    assert ztfmatch.forecast("link", storage.root).jobs == []


def test_forecast_of_compaction_is_its_plan(made: Made) -> None:
    config = CompactConfig(min_files=2)
    draft = forecast_compact(open_snapshot(made.storage), config)
    was = counted(lambda runner: compact(made.storage, config, runner, dry_run=False))
    assert {one.job: one.tasks for one in draft.jobs if one.tasks} == dict(was.tasks)


def test_forecast_of_rematch_has_its_tiles_and_batches(made: Made, sky: Path, tmp_path: Path) -> None:
    references = sorted((sky / "references").rglob("*.fits"))[:3]
    changed = [_moved(path, tmp_path) for path in references]
    config = RematchConfig(rows_per_task=ROWS_PER_TASK)
    draft = forecast_rematch(open_snapshot(made.storage), changed, ROWS_PER_TASK)
    was = counted(lambda runner: rematch(made.storage, changed, config, runner))
    for title in ("matching again", "retiring objects", "stars"):
        assert job(draft, title).tasks == pytest.approx(was.tasks[title], rel=0.2), title
    assert job(draft, "lineage").tasks == was.tasks["lineage"] == 3


def _moved(path: Path, place: Path) -> str:
    from astropy.io import fits

    with fits.open(path) as hdus:
        hdus[1].data["ra"] += 1e-5
        hdus.writeto(place / path.name)
    return str(place / path.name)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), unique_by=lambda one: one[0], min_size=1),
    st.integers(1, 30),
)
def test_commits_of_are_as_many_as_those_of_an_append(fields: list[tuple[int, int]], most: int) -> None:
    names = [psfcat_name(Unit(f, 3, 1), 20190101000000 + i) for f, n in fields for i in range(n)]
    listing = list_catalogs([f"/d/{name}" for name in names], EPOCHAL_PATTERN)
    parts = list(commits_of(listing.units // 256, listing.counts[listing.units].astype(float), most))
    assert [round((listing.counts[listing.units[at]] * part).sum()) for at, part in parts] == [
        len(portion) for portion in portions_of(names, most)
    ]


units = st.builds(
    Unit, st.sampled_from(sorted(camera.field_grid())), st.integers(0, 63), st.sampled_from(sorted(FILTER_CODES))
)


@given(st.lists(units, min_size=1), st.booleans())
def test_codes_of_names_are_their_units(given_units: list[Unit], upper: bool) -> None:
    names = [psfcat_name(unit, 20180325123456) for unit in given_units] + [refpsfcat_name(unit) for unit in given_units]
    codes = codes_of(pa.array([f"/d/{name.upper() if upper else name}" for name in names]))
    assert [unit_of_code(code) for code in codes.tolist()] == given_units * 2


@pytest.mark.parametrize(
    "name", ["", "x_psfcat.fits", "ztf_20180101000000_000679_zx_c01_o_q1_psfcat.fits",
             "ztf_20180101000000_000679_zg_c17_o_q1_psfcat.fits", "ztf_20180101000000_000679_zg_c01_o_q5_psfcat.fits"]
)  # fmt: skip
def test_codes_of_other_names_are_none(name: str) -> None:
    assert codes_of(pa.array([name])).tolist() == [-1]


def test_list_counts_names_that_are_not_there_and_files_of_directories(tmp_path: Path) -> None:
    one, other = Unit(679, 3, 1), Unit(680, 63, 2)
    (tmp_path / "d").mkdir()
    for name in (refpsfcat_name(one), "ref_refpsfcat.fits", "README"):
        (tmp_path / "d" / name).write_bytes(bytes(HEADER_BYTES + 5_800))
    listing = list_catalogs(iter([f"/not/there/{refpsfcat_name(other)}", str(tmp_path)]), REFERENCE_PATTERN)
    assert (listing.catalogs, listing.unnamed) == (3, 1)
    assert [unit_of_code(code) for code in listing.units.tolist()] == [one, other]
    assert set(listing.sampled_rows().values()) == {100}


def test_rows_are_those_of_the_survey_where_nothing_is_known(made: Made) -> None:
    nowhere = [f"/not/there/{psfcat_name(Unit(300, 5, 3), 20190101000000)}"]
    told = ztfmatch.forecast("append", made.storage.root, nowhere)
    assert f"{costs.SURVEY_ROWS_PER_SEED * costs.SURVEY_SEEDS:,.0f} rows" in told.what
    assert any("1 units without a reference" in one for one in told.assumed)


def test_history_of_the_store_is_told_beside_the_constants(made: Made, sky: Path) -> None:
    told = ztfmatch.forecast("append", made.storage.root, sky / "catalogs", workers=(1, 1000))
    assert told.history is not None
    assert told.history.snapshots == 1
    assert told.history_s == pytest.approx(told.history.seconds, rel=0.05)
    one, many = told.wall
    assert one.seconds > many.seconds >= told.main_s + sum(one.longest_s for one in told.jobs)
    assert {cost.benchmark for cost in told.costs} <= {path.name for path in Path("tests/benchmarks").glob("*.py")}


def test_nothing_due_is_nothing_to_do(made: Made) -> None:
    update_statistics(made.storage, Runner(LoopExecutor(), 8 << 30), 0.0)
    told = ztfmatch.forecast("statistics", made.storage.root)
    assert (told.tasks, told.commits, told.jobs, told.files) == (0, 0, [], 0)


@pytest.mark.parametrize(
    ("operation", "places", "message"),
    [
        ("vacuum", (), "nothing is known of 'vacuum'"),
        ("verify", ["/x"], "takes no catalogs"),
        ("append", [], "no \\*_psfcat.fits in these places"),
        ("init", [], "no \\*_refpsfcat.fits"),
        ("rematch", [], "no \\*_refpsfcat.fits"),
        ("append", ["/not/there"], "/not/there: no such file"),
    ],
)
def test_forecast_that_cannot_be_says_why(made: Made, operation: str, places: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ztfmatch.forecast(operation, made.storage.root, places)
