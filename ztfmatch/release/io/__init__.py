"""Files of release."""
