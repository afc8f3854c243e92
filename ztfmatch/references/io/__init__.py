"""Tables read beside a store."""
