"""Files of kowalski."""
