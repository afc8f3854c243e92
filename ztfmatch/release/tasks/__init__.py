"""Tasks of release: plain functions of one tile's or file's inputs."""
