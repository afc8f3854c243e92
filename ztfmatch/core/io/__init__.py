"""I/O: FITS catalogs, tables beside them, Parquet, storage, the snapshot log."""
