"""Whole networks of the real machines on one simulated clock and network (docs/simulation.md)."""
