"""Tasks of stars, for one tile."""
