"""Kubo, as it is."""
