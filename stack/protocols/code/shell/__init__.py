"""Codes on a host."""
