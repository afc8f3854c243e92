"""Kowalski: documents of a snapshot, or of what changed since another, as files; and those files in its MongoDB."""
