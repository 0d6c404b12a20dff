"""Messages on streams."""
