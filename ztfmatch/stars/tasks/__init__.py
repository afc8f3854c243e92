"""Work on one tile."""
