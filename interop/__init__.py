"""Our node against other implementations."""
