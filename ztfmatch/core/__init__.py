"""What makes, appends to, matches again, corrects, compacts and verifies a store; it knows no capability."""
