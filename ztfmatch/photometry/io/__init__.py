"""Files of photometry."""
