"""Operations that commit a snapshot, and those that check one: plan, run tasks, commit."""
