"""Pure arrays in, arrays out: sphere, tiling, crossmatch, rows, calibration, statistics. No files, no Dask."""

from ztfmatch.core import kernelcache

kernelcache.choose_cache()
