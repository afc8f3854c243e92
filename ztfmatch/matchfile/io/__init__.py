"""Files of matchfile."""
