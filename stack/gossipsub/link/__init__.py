"""The streams between us and one peer."""
