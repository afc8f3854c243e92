"""The real matchfile, imported and exported: its documents, value by value, by the rules of Kowalski's ingester."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kowalski_exports import documents_of, export
from kowalski_oracle import Content, Document, differences, source_document, statistics

import ztfmatch
from ztfmatch.matchfile.ingest import ImportConfig

NAME = "ztf_000245_zr_c10_q1_match.pytable"
UNIT = (245, 36, 2)


@pytest.fixture(scope="module")
def matchfile(data_dir: Path) -> Iterator[Any]:
    tables = pytest.importorskip("tables")
    with tables.open_file(str(data_dir / "matchfiles" / NAME)) as file:
        yield file.root.matches


@pytest.fixture(scope="module")
def exported(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    pytest.importorskip("tables")
    place = tmp_path_factory.mktemp("kowalski")
    from ztfmatch import api

    config = ImportConfig(ztfmatch.StoreConfig())
    store, _ = api.import_matchfiles(place / "store", [str(data_dir / "matchfiles" / NAME)], config)
    return documents_of(export(store, place / "exports"))


def rows_of(table: Any) -> list[Document]:
    rows = table[:]
    return [dict(zip(rows.dtype.names, row, strict=True)) for row in rows]


def test_sources_are_the_ingesters_value_by_value(matchfile: Any, exported: Content) -> None:
    """Statistics are of the file's own epochs: its columns are of other programs', too, and of wrong percentiles."""
    epochs: dict[int, list[Document]] = {}
    for row in rows_of(matchfile.sourcedata):
        epochs.setdefault(int(row["matchid"]), []).append(row)
    expected = {}
    for source in rows_of(matchfile.sources):
        mine = epochs.get(int(source["matchid"]))
        if mine:  # the ingester joins sources with their data: one without has no document
            document = source_document(UNIT, source | statistics(mine), mine)
            expected[document["_id"]] = document
    assert len(expected) == 9
    assert sum(len(document["data"]) for document in expected.values()) == 336
    assert differences(exported["sources"], expected) == []


def test_mean_of_a_source_whose_clean_epochs_are_all_in_the_file_is_the_surveys(
    matchfile: Any, exported: Content
) -> None:
    """There is one, with two of them, for which the survey has 0 in place of the von Neumann ratio."""
    compared = []
    for source in rows_of(matchfile.sources):
        document = exported["sources"].get(10_245_362_000_000 + int(source["matchid"]))
        clean = sum(epoch["catflags"] == 0 for epoch in document["data"]) if document else 0
        if document and clean and clean == source["ngoodobs"]:
            compared.append((document["meanmag"], round(float(source["meanmag"]), 3)))
    assert compared == [(21.296, 21.296)]


def test_exposures_are_the_ingesters_value_by_value(matchfile: Any, exported: Content) -> None:
    base = 10**16 + 245 * 10**12 + 36 * 10**10 + 2 * 10**9
    rows = rows_of(matchfile.exposures)
    assert len(rows) == 5
    for row in rows:
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
        expected = {
            **plain, "_id": base + plain["expid"], "matchfile": NAME, "filter": 2, "field": 245, "ccd": 10, "quad": 1,
            "rc": 36,
        }  # fmt: skip
        assert differences(exported["exposures"][expected["_id"]], expected) == []


def test_every_epoch_has_the_document_of_its_exposure(exported: Content) -> None:
    """Those that the trimmed file lacks, too."""
    named = {epoch["uexpid"] for document in exported["sources"].values() for epoch in document["data"]}
    assert named == exported["exposures"].keys()
    assert len(named) == 68
