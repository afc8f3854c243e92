"""Stars: magnitudes over all their objects, and zero-point offsets between units."""
