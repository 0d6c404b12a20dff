"""Carries out what the announcement machine wants done."""
