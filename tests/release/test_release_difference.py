"""What is new, gone and changed in a release, against both products read by pandas."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers import ARCSEC, append, epochal_file, make_store, reference_file, rows_at
from releases import CONFIG, SMALL

import ztfmatch
from ztfmatch.cli import main
from ztfmatch.core.config import AppendConfig
from ztfmatch.core.errors import BadInputError, ConfigError, OutputExistsError
from ztfmatch.core.survey import MAX_OBJECTID
from ztfmatch.release import Comparison, difference, write_association
from ztfmatch.release.io.scope import ReleaseScope, Window
from ztfmatch.release.successors import Successors, links_of
from ztfmatch.simulate import regenerate_references, simulate

FIRST = ReleaseScope("dr1", (Window(1),))
SECOND = ReleaseScope("dr2", (Window(1), Window(2)), fids=(1,))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases of each kind: between them exposures came, and half of the references were made anew, twice."""
    place = tmp_path_factory.mktemp("difference")
    sky = place / "sky"
    simulate(sky, replace(CONFIG, fields=(679,)))
    store = ztfmatch.init_store(place / "store", str(sky / "references"), ztfmatch.StoreConfig(seeds_per_tile=900))
    catalogs = sorted(map(str, (sky / "catalogs").rglob("*.fits")))
    store.append(catalogs[::3], AppendConfig(exposures=sky / "exposures.csv"))
    publish(store, place / "dr1", FIRST)
    store.append(catalogs, AppendConfig(exposures=sky / "exposures.csv"))
    for generation in (1, 2):
        regenerate_references(sky, replace(CONFIG, fields=(679,)), generation)
        made = sorted(path for path in sky.rglob("*refpsfcat.fits") if f"_{generation}" in str(path.relative_to(sky)))
        store.rematch([str(path) for path in made if "_c05_" in path.name])
    publish(store, place / "dr2", SECOND)
    return place


def publish(store: ztfmatch.Store, place: Path, scope: ReleaseScope) -> None:
    place.mkdir()
    snapshot = store.snapshot()
    snapshot.publish_hats(place / "hats", scope, SMALL)
    snapshot.publish_objects(place / "objects", scope, SMALL)
    snapshot.publish_bulk(place / "bulk", scope)


def read(place: Path) -> pd.DataFrame:
    """All values of a product, with lists as text, by objectid."""
    paths = [
        path
        for path in place.rglob("*.parquet")
        if not {"margin", "index"} & {*path.relative_to(place).parts[0].split("_")}
    ]
    rows = pd.concat([pq.read_table(path, partitioning=None).to_pandas() for path in sorted(paths)])
    rows = rows.rename(columns={"oid": "objectid", "nobsrel": "nepochs"}).set_index("objectid").sort_index()
    for name in ("_healpix_29", "cntr", "__index_level_0__"):
        rows = rows.drop(columns=name, errors="ignore")
    return rows


def first(path: Path, place: Path) -> str:
    return path.relative_to(place).parts[0]


def expected(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, set[int]]:
    both = before.index.intersection(after.index)
    values = [frame.loc[both].map(repr_of).apply(" ".join, axis=1) for frame in (before, after)]
    return {
        "new": set(after.index.difference(before.index)),
        "gone": set(before.index.difference(after.index)),
        "changed": set(both[values[0] != values[1]]),
    }


def repr_of(value: object) -> str:
    if isinstance(value, dict):
        return str({name: list(part) for name, part in value.items()})
    return str(list(value)) if hasattr(value, "__len__") and not isinstance(value, str) else repr(value)


@pytest.mark.parametrize("kind", ["hats", "objects", "bulk"])
@pytest.mark.parametrize("at_once", [50_000_000, 300])
def test_comparison_tells_what_is_new_gone_and_changed(
    place: Path, kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(difference, "OBJECTS_AT_ONCE", at_once)
    places = [place / name / kind for name in ("dr1", "dr2")]
    before, after = map(read, places)
    compared = Comparison(*places)
    rows = pd.concat([table.to_pandas() for table in compared.rows()])
    truth = expected(before, after)
    assert all(truth.values())
    for change, ids in truth.items():
        mine = rows[rows.change == change].set_index("objectid")
        assert set(mine.index) == ids
        for column, frame in (("epochs_before", before), ("epochs_after", after)):
            there = mine[column].dropna()
            assert (there == frame.nepochs.fillna(0).loc[there.index]).all()
    report = compared.report()
    assert (report.new, report.gone, report.changed) == tuple(map(len, truth.values()))
    assert report.same == len(before.index.intersection(after.index)) - report.changed
    assert report.objects == (len(before), len(after))
    assert report.epochs == (before.nepochs.sum(), after.nepochs.sum())
    assert report.lineage == {}


def test_gone_objects_have_their_newest_successor(place: Path) -> None:
    snapshot = ztfmatch.open_store(place / "store").snapshot()
    compared = Comparison(place / "dr1" / "hats", place / "dr2" / "hats", snapshot.files)
    rows = [row for table in compared.rows() for row in table.to_pylist() if row["change"] == "gone"]
    links = [row for row in snapshot.lineage().to_pylist() if row["objectid"] is not None]
    links.sort(key=lambda row: (row["nshared"], -(row["newobjectid"] or 0)))
    best = {row["objectid"]: row for row in links}
    steps = 0
    for row in rows:
        link = best.get(row["objectid"], {"kind": "none", "newobjectid": None})
        newest = link["newobjectid"]
        while newest in best:
            newest, steps = best[newest]["newobjectid"], steps + 1
        assert (row["kind"], row["newobjectid"]) == (link["kind"], newest)
    assert steps > 10
    report = compared.report()
    assert report.lineage == Counter(row["kind"] for row in rows)
    assert report.lineage["none"] == sum(row["objectid"] not in best for row in rows) > 100
    assert report.succeeded == sum((row["newobjectid"] or MAX_OBJECTID + 1) <= MAX_OBJECTID for row in rows) > 100


def test_an_object_of_which_only_a_transient_is_left_has_no_successor(tmp_path: Path) -> None:
    """Fourteen of its twenty detections are far from the new seed."""
    store = make_store(tmp_path / "store", [reference_file(tmp_path / "old", rows_at([10.0], [0.0]))])
    east = [0.9 * ARCSEC] * 6 + [-0.9 * ARCSEC] * 14
    append(store, [epochal_file(tmp_path, rows_at([10.0 + offset], [0.0]), k) for k, offset in enumerate(east)])
    new = reference_file(tmp_path / "new", rows_at([10.0 + 1.2 * ARCSEC], [0.0]))
    opened = ztfmatch.open_store(tmp_path / "store")
    opened.rematch(new)
    (lost,) = (row for row in opened.snapshot().lineage().to_pylist() if row["kind"] == "lost")
    links = Successors(opened.snapshot().files)
    assert links.of(np.array([lost["objectid"]]))["newobjectid"].to_pylist() == [lost["newobjectid"]]
    assert lost["newobjectid"] > MAX_OBJECTID
    assert (links.succeeded, links.kinds) == (0, {"lost": 1})


def test_links_of_no_objects_are_none(place: Path) -> None:
    kind, newest = links_of(ztfmatch.open_store(place / "store").snapshot().files, np.zeros(0, np.int64))
    assert len(kind) == len(newest) == 0


def test_comparison_of_what_are_no_two_products_of_a_kind_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'hats objects'; expected two of one of"):
        Comparison(place / "dr1" / "hats", place / "dr2" / "objects")
    with pytest.raises(ConfigError, match="is not a directory that 'publish hats', 'objects' or 'bulk' made"):
        Comparison(place / "dr1" / "hats", tmp_path / "nothing")
    with pytest.raises(BadInputError, match="not a product of 'publish': it has no"):
        Comparison(tmp_path, place / "dr1" / "hats")


def test_publish_diff_tells_and_writes_what_differs_and_never_over_a_file(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "changes.csv"
    words = ["publish", "diff", str(place / "dr1" / "hats"), str(place / "dr2" / "hats"), "-o", str(path)]
    said = CliRunner().invoke(main, [*words, "--store", str(place / "store")])
    assert said.exit_code == 0, said.output
    rows = pd.read_csv(path)
    assert f"gone:     {(rows.change == 'gone').sum():,}, of which" in said.output
    assert f"changed:  {(rows.change == 'changed').sum():,}" in said.output
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert CliRunner().invoke(main, [*words, "--overwrite", "--json"]).exit_code == 0


_JOIN = """
import sys, lsdb
left, right = (lsdb.open_catalog(place, columns=["oid"]) for place in sys.argv[1:3])
through = lsdb.read_hats(sys.argv[3])
joined = left.join(right, through=through, suffixes=("_dr1", "_dr2"), suffix_method="all_columns")
joined.compute().to_csv(sys.argv[4], index=False)
"""


@pytest.mark.filterwarnings("ignore:.*:pandas.errors.Pandas4Warning")
@pytest.mark.parametrize("product", ["hats", "objects"])
def test_association_joins_two_releases_in_lsdb(place: Path, tmp_path: Path, product: str) -> None:
    """Against the lineage: an object that kept its id, or its newest successor, if the newer release has that."""
    lsdb = pytest.importorskip("lsdb")
    old, new, path = place / "dr1" / product, place / "dr2" / product, tmp_path / "dr1_dr2"
    words = ["publish", "diff", str(old), str(new), "--store", str(place / "store"), "--association", str(path)]
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 0, said.output
    were, are = np.sort(read(old).index.to_numpy()), set(read(new).index)
    newest = links_of(ztfmatch.open_store(place / "store").snapshot().files, were)[1]
    heirs = {one: one if one in are else heir for one, heir in zip(were.tolist(), newest.tolist(), strict=True)}
    expected = {one: heir for one, heir in heirs.items() if heir in are}
    assert sum(one != heir for one, heir in expected.items()) > 50
    through = lsdb.read_hats(path)
    assert through.hc_structure.catalog_info.primary_catalog == lsdb.open_catalog(old).name
    links = through.compute()
    assert dict(zip(links.objectid, links.newobjectid, strict=True)) == expected
    assert set(links.kind[links.objectid == links.newobjectid]) == {"kept"}
    assert links.separation.max() <= through.max_separation < 10.0
    assert f"Written: {path}, {len(links):,} links" in said.output
    if product == "objects":
        joined = joined_by_lsdb(old, new, path, tmp_path / "joined.csv")
        assert dict(zip(joined.oid_dr1, joined.oid_dr2, strict=True)) == expected


def joined_by_lsdb(*places: Path) -> pd.DataFrame:
    """Rows of two catalogs joined through an association, in a process where hats does not compile: that takes 15 s."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    words = [sys.executable, "-W", "ignore", "-c", _JOIN, *map(str, places)]
    subprocess.run(words, env=environment, check=True, capture_output=True, timeout=120)
    return pd.read_csv(places[-1])


def test_association_of_other_products_or_without_a_store_is_refused(place: Path, tmp_path: Path) -> None:
    snapshot = ztfmatch.open_store(place / "store").snapshot().files
    with pytest.raises(ConfigError, match="is 'bulk'; an association is of 'hats lightcurves', 'hats objects'"):
        write_association(place / "dr1" / "bulk", place / "dr2" / "bulk", snapshot, tmp_path / "x")
    with pytest.raises(OutputExistsError, match="exists already"):
        write_association(place / "dr1" / "hats", place / "dr2" / "hats", snapshot, tmp_path)
    words = ["publish", "diff", str(place / "dr1" / "hats"), str(place / "dr2" / "hats"), "--association", "x"]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "give the --store too" in refused.output


def content_of(store: ztfmatch.Store, number: int) -> tuple[set[int], dict[int, set[object]]]:
    """Active objects of a snapshot, and the epochs of each object, with all their values."""
    snapshot = store.snapshot(number)
    objects = snapshot.table("objects").to_pandas()
    epochs: dict[int, set[object]] = {}
    for row in snapshot.table("detections").to_pandas().fillna(-1).itertuples(index=False):
        epochs.setdefault(row.objectid, set()).add(tuple(row))
    return set(objects.objectid[objects.status == "active"]), epochs


@pytest.fixture(scope="module")
def histories(place: Path, tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    """A store of an append, another, two rematches and a compaction that divides tiles."""
    copied = tmp_path_factory.mktemp("changes") / "store"
    store = ztfmatch.open_store(shutil.copytree(place / "store", copied))
    store.compact(ztfmatch.CompactConfig(max_rows_per_tile=2000, full=True))
    return store


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, -1), (1, -1), (-1, 1), (-2, -1), (1, 1)])
def test_objects_of_two_snapshots_differ_as_their_contents_do(
    histories: ztfmatch.Store, tmp_path: Path, first: int, second: int
) -> None:
    last = histories.snapshot().number
    numbers = [number if number >= 0 else last + 1 + number for number in (first, second)]
    (were, old), (are, new) = (content_of(histories, number) for number in numbers)
    words = ["diff", histories.path, *map(str, numbers), "--objects", "-o", str(tmp_path / "changes.parquet"), "--json"]
    said = CliRunner().invoke(main, list(map(str, words)))
    assert said.exit_code == 0, said.output
    rows = pq.read_table(tmp_path / "changes.parquet").to_pandas().set_index("objectid")
    changed = {one for one in were & are if old.get(one) != new.get(one)}
    expected = {"new": are - were, "gone": were - are, "changed": changed}
    assert {kind: set(rows.index[rows.change == kind]) for kind in expected} == expected
    assert rows.epochs.to_dict() == {one: len(new.get(one, ())) - len(old.get(one, ())) for one in rows.index}
    report = json.loads(said.stdout)
    assert {kind: report[kind] for kind in expected} == {kind: len(ids) for kind, ids in expected.items()}
    assert report["epochs"] == sum(map(len, new.values())) - sum(map(len, old.values()))
    if numbers == [1, last]:
        gone = np.array(sorted(expected["gone"]))
        kind, newest = links_of(histories.snapshot().files, gone)
        assert rows.kind[gone].tolist() == kind.tolist()
        of_gone = pq.read_table(tmp_path / "changes.parquet", filters=[("change", "=", "gone")])
        heirs = of_gone.sort_by("objectid")["newobjectid"]
        assert heirs.fill_null(0).to_pylist() == np.maximum(newest, 0).tolist()
        assert report["succeeded"] > 100


def test_objects_that_a_compaction_moved_are_the_same(histories: ztfmatch.Store) -> None:
    last = histories.snapshot().number
    assert len(list(histories.snapshot(last).files.files.not_in(histories.snapshot(last - 1).files.files))) > 2
    said = CliRunner().invoke(main, ["diff", str(histories.path), str(last - 1), str(last), "--objects"])
    assert [line.split() for line in said.output.splitlines()[1:]] == [["new:", "0"], ["gone:", "0"], ["changed:", "0"]]
    assert CliRunner().invoke(main, ["diff", str(histories.path), "0", "1", "-o", "x.csv"]).exit_code == 2
