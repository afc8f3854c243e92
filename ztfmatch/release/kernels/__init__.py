"""Kernels of release: arrays in, arrays out."""

import ztfmatch.core.kernels  # noqa: F401  (where compiled kernels are kept is told before one is defined)
