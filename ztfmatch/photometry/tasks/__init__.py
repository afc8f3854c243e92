"""Tasks of photometry: plain functions of one tile's or file's inputs."""
