"""What is made from a snapshot: queries, plots, reports, documentation, the simulator and the demonstration."""
