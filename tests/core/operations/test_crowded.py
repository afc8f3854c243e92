"""A crowded field whose reference is regenerated: what is said of its stars is the truth, and no lightcurve is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from crowd import NIGHTS, Seeds, Stars, make_exposure, make_references, make_stars, write_exposures, write_reference
from helpers import append, make_store

import ztfmatch

GENERATION, MAX_OBJECTID = 10**7, 10**16
RECURRING = 5


@dataclass(frozen=True)
class Crowd:
    """A store of a crowded sky, rematched, and the truth."""

    stars: Stars
    references: tuple[Seeds, Seeds]
    exposures: list[np.ndarray]
    """Star of each detection, by night."""
    store: ztfmatch.Store

    def star_of(self, row: dict[str, Any]) -> int:
        """Star that a detection is of."""
        night = row["exposureid"] // 10**8 - 20190201
        return int(self.exposures[night][row["sourceid"]])


@pytest.fixture(scope="module", params=["grouped before", "grouped by the rematch"])
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    place, rng = tmp_path_factory.mktemp("crowd"), np.random.default_rng(11)
    stars = make_stars(rng, 2500)
    references = make_references(rng, stars)
    exposures = [make_exposure(rng, stars) for _ in range(NIGHTS)]
    paths = [write_reference(place / str(number), seeds) for number, seeds in enumerate(references)]
    storage = make_store(place / "store", paths[:1], seeds_per_tile=1500)
    append(storage, write_exposures(place, exposures))
    store = ztfmatch.Store(storage)
    if request.param == "grouped before":
        store.update_transients()
    store.rematch(str(paths[1]))
    return Crowd(stars, references, [which for _, which in exposures], store)


def truth(crowd: Crowd) -> Iterator[tuple[tuple[int | None, int | None], str]]:
    """What became of the seeds that are of one star, or of nothing, in either reference: kind by old and new seed."""
    old, new = ({of: i for i, of in enumerate(seeds.stars) if not seeds.part[i]} for seeds in crowd.references)
    stars = [{star for of in seeds.stars for star in of} for seeds in crowd.references]
    for of in {**old, **new}:
        if len(of) > 1:
            continue
        if of in old and of in new:
            away = np.hypot(*(crowd.references[0].place[old[of]] - crowd.references[1].place[new[of]]))
            yield (old[of], new[of]), "same" if away <= 0.1 else "moved"
        elif of in old and of[0] not in stars[1]:
            yield (old[of], None), "lost"
        elif of in new and of[0] not in stars[0]:
            yield (None, new[of]), "new"


def said(crowd: Crowd) -> dict[tuple[int | None, int | None], str]:
    """Kinds between objects, by old and new seed."""
    found = {}
    for row in crowd.store.snapshot().table("lineage").to_pylist():
        old, new, kind = row["objectid"], row["newobjectid"], row["kind"]
        if kind == "split" and new > MAX_OBJECTID:
            continue
        old, new = (None if i is None or i > MAX_OBJECTID else i % GENERATION for i in (old, new))
        if (old, new) != (None, None):
            known = found.setdefault((old, new), kind)
            if old is None:  # from a transient: new, as objects go
                found[old, new] = "new"
            else:
                assert known == kind
    return found


def test_lineage_of_a_crowded_field_is_the_truth(crowd: Crowd) -> None:
    """Of neighbours 0.5 to 1.5 arcsec apart, with blends resolved and made, and seeds of nothing among them."""
    told = said(crowd)
    expected = dict(truth(crowd))
    assert len(expected) > 4000
    counts = Counter(expected.values())
    assert min(counts[kind] for kind in ("same", "moved", "lost", "new")) > 100
    divided = Counter(told.values())
    assert min(divided["split"], divided["merged"]) > 20
    wrong = [(link, kind, told.get(link)) for link, kind in expected.items() if told.get(link) != kind]
    assert len(wrong) <= 0.001 * len(expected), wrong


def test_every_recurring_source_of_a_crowded_field_is_in_objects_or_transients(crowd: Crowd) -> None:
    snapshot = crowd.store.snapshot()
    seen = Counter(star for night in crowd.exposures for star in night.tolist())
    kept = Counter(crowd.star_of(row) for row in snapshot.table("detections").to_pylist())
    kept += Counter(crowd.star_of(row) for row in snapshot.table("transientdata").to_pylist())
    recurring = {star for star, number in seen.items() if number >= RECURRING}
    assert len(recurring) > 2000
    assert not [(star, kept[star], seen[star]) for star in recurring if kept[star] < 0.75 * seen[star]]
    assert sum(kept[star] for star in recurring) > 0.999 * sum(seen[star] for star in recurring)


def test_crowded_store_verifies(crowd: Crowd) -> None:
    assert crowd.store.verify(deep=True).passed
