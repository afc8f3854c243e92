"""Tasks of kowalski: plain functions of one tile's or file's inputs."""
