"""Quality of references: which are suspect, which images would make better ones, and plans for regenerating them."""
