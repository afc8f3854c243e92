"""One tile's or one batch's work: read, compute, write, count. Plain functions that know no Dask."""
