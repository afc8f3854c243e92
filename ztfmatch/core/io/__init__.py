"""Files in and out: FITS catalogs, tables beside them, Parquet, storage, the snapshot log."""
