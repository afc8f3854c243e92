"""Files of views."""
