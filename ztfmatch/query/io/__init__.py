"""Files of query."""
