"""Tasks of views: plain functions of one tile's or file's inputs."""
