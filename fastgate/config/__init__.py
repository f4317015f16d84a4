"""Configuration: the frozen tree, its loader, and the Snapshot compiled from it."""
