"""Quality of references: which are suspect, which images would make better ones, and the plan of their regeneration."""
