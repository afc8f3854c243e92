"""Tasks: the work for one tile or one batch; plain functions that read, compute, write and count, without Dask."""
