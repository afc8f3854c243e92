"""The core: creates, appends to, rematches, corrects, compacts and verifies a store; imports no capability."""
