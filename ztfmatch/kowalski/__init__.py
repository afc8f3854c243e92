"""Kowalski: documents of a snapshot, or of the changes since another, as files, and loading them into MongoDB."""
