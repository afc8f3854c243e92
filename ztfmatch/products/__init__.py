"""What is made from a snapshot: queries, plots, documentation, the simulator and the demonstration."""
