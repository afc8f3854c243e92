"""Whatever is altered of a stored epoch, verify finds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ztfmatch
from ztfmatch.core.io.merge import Lightcurves
from ztfmatch.core.schema.sky import EPOCH, MEASURED
from ztfmatch.core.tasks import verify
from ztfmatch.simulate import SimulationConfig, simulate


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ztfmatch.Store:
    place = tmp_path_factory.mktemp("verify")
    simulate(place / "sky", SimulationConfig(n_exposures=2, stars_per_quadrant=50, fields=(679,), rcids=(16,)))
    store = ztfmatch.init_store(place / "store", str(place / "sky" / "references"))
    store.append(str(place / "sky" / "catalogs"))
    return store


def violations(store: ztfmatch.Store) -> int:
    return sum(check.violations for check in store.verify().checks)


def test_verify_of_what_append_wrote_finds_nothing(store: ztfmatch.Store) -> None:
    assert violations(store) == 0


@pytest.mark.parametrize("name", [column.name for column in (*EPOCH, *MEASURED)])
def test_verify_one_bit_of_any_column_of_one_epoch_altered_is_found(
    name: str, store: ztfmatch.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that nobody computes again would be believed."""
    read = verify.iterate_lightcurves

    def altered(*arguments: Any) -> Iterator[Lightcurves]:
        for chunk in read(*arguments):
            values = np.array(chunk.columns[name])
            values.view(f"u{values.itemsize}")[0] ^= 1 << (8 * values.itemsize - 8)
            yield Lightcurves(chunk.objectid, chunk.offsets, {**chunk.columns, name: values})

    monkeypatch.setattr(verify, "iterate_lightcurves", altered)
    assert violations(store) > 0
