"""Matchfiles of the survey: import into a store, and export from one."""
