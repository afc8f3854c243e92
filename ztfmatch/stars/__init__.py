"""Stars as sources: their magnitudes over all objects, and how the zero points of units differ."""
