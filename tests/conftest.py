"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# The first call of a compiled kernel takes seconds where its cache is cold.
settings.register_profile("ztfmatch", deadline=None)
settings.load_profile("ztfmatch")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: the place that ZTFMATCH_DATA names, else ../shared/data beside the project."""
    place = Path(os.environ.get("ZTFMATCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"real data are not at {place}; set ZTFMATCH_DATA")
    return place
