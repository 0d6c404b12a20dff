"""Signatures and the validators of the application."""
