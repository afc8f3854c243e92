"""What commits a snapshot, and what checks one: plan, run tasks, commit."""
