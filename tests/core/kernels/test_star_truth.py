"""How pure and complete links are against a truth with blends, at declination 20, over RA 0 and at the pole."""

from __future__ import annotations

import pytest
from star_scenes import PLACES, purity_and_completeness, scene

from ztfmatch.core.kernels.sphere import unit_vectors
from ztfmatch.core.kernels.starlinks import link_objects, position_errors

LEAST = {2_000: (0.999, 0.999), 20_000: (0.999, 0.999), 100_000: (0.999, 0.998), 300_000: (0.998, 0.995)}
"""Of stars brighter than 20, and of all, by stars a quadrant: the last two are crowded."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("density", LEAST)
def test_links_are_those_of_the_truth(density: int, place: str) -> None:
    of = scene(density, PLACES[place], 1)
    found = link_objects(unit_vectors(of["ra"], of["dec"]), of["unit"], position_errors(of["snr"])).star
    for chosen, least in zip((of["mag"] < 20, of["mag"] < 99), LEAST[density], strict=True):
        purity, completeness = purity_and_completeness(found[chosen], of["star"][chosen])
        assert purity >= least
        assert completeness >= 0.999
