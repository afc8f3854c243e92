"""Tables that are read beside a store."""
