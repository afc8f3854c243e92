"""Stores are equal to the bit whatever the processor has: operations on this one, and on one made out as old."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import corrected
import processor_store
import pytest
from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
    __cpu_dispatch__ as dispatched,
)
from numpy._core._multiarray_umath import __cpu_features__ as features
from small_survey import MODEL

from ztfmatch.core.survey import Unit
from ztfmatch.simulate import SimulationConfig, regenerate_references, simulate

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


KERNELS = """
import hashlib
import numpy as np
from ztfmatch.core.kernels import calibration, sphere
rng = np.random.default_rng(0)
xyz = sphere.unit_vectors(rng.uniform(0.0, 360.0, 20000), rng.uniform(-90.0, 90.0, 20000))
mag, flux = (rng.uniform(*limits, 20000).astype(np.float32) for limits in ((10.0, 22.0), (1.0, 1e6)))
of_kernels = {
    "positions": sphere.lonlats_of(xyz),
    "caps": [sphere.lonlat_of(sphere.enclosing_cap(part)[0]) for part in 0.01 * xyz[:3000].reshape(-1, 10, 3) + 0.5],
    "separations": sphere.arcsec_of_chord2(rng.uniform(0.0, 1e-9, 20000)),
    "magnitudes": calibration.unrounded_magnitudes(flux, np.full(20000, 26.0)),
    "errors": calibration.model_errors(mag, np.array([0.02, -5e-4, 1.7e-9, -4.4e-18])),
    "light": calibration.light_days(xyz, np.array([0.003, -0.004, 0.002])),
}
for name, values in of_kernels.items():
    print(name, hashlib.sha256(np.asarray(values).tobytes()).hexdigest())
"""


def test_kernels_are_equal_to_the_bit_on_an_older_processor() -> None:
    """Before they are rounded to what is stored, which hides a last bit but for one of many million values."""
    here, there = (
        subprocess.run(
            [sys.executable, "-c", KERNELS], env={**os.environ, **env}, capture_output=True, text=True, check=True
        ).stdout
        for env in ({}, old_processor())
    )
    assert len(here.splitlines()) == 6
    assert here == there


def digests(sky: Path, place: Path, environment: dict[str, str]) -> dict[str, str]:
    """What a process in this environment makes."""
    command = [sys.executable, str(Path(processor_store.__file__)), str(sky), str(place)]
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
