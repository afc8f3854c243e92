"""The survey's matchfiles: ingested into a store, and written from one."""
