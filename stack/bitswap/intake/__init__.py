"""Received blocks on their way through worker threads."""
