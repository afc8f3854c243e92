"""Stores are equal to the bit whatever the processor has: operations on this one, and on one made out as old."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import corrected
import pytest
from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
    __cpu_dispatch__ as dispatched,
)
from numpy._core._multiarray_umath import __cpu_features__ as features
from small_survey import MODEL

from ztfmatch.products.simulate import SimulationConfig, regenerate_references, simulate
from ztfmatch.survey import Unit

CONFIG = SimulationConfig(n_exposures=4, stars_per_quadrant=500, fields=(679,), transients_per_quadrant=40.0)
UNITS = [Unit(679, rcid, fid) for rcid in CONFIG.rcids for fid in CONFIG.filters]


def old_processor() -> dict[str, str]:
    """Environment in which NumPy, Numba, Arrow, OpenBLAS and the C library use nothing that is newer than SSE4."""
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in dispatched if features[name]),
        "NUMBA_CPU_NAME": "generic",
        "ARROW_USER_SIMD_LEVEL": "NONE",
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F",
    }


def digests(sky: Path, place: Path, environment: dict[str, str]) -> dict[str, str]:
    """What a process in this environment makes."""
    command = [sys.executable, str(Path(__file__).with_name("processor_store.py")), str(sky), str(place)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not any(features[name] for name in dispatched), reason="NumPy has nothing to dispatch here")
def test_tables_are_equal_to_the_bit_on_an_older_processor(tmp_path: Path) -> None:
    sky = tmp_path / "sky"
    simulate(sky, CONFIG)
    regenerate_references(sky, CONFIG)
    corrected.write_set(sky / "corrections", UNITS, errors=dict.fromkeys(UNITS[::2], MODEL))
    here, there = (digests(sky, tmp_path / name, env) for name, env in (("here", {}), ("there", old_processor())))
    assert len(here) > 1000
    assert {name for name in here if here[name] != there[name]} == set()
    assert here.keys() == there.keys()
