"""Tasks of matchfile: plain functions of one tile's or file's inputs."""
