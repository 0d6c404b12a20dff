"""`/stack/access/1.0.0`: two peers prove to each other that they know the secret of a ticket (docs/access.md)."""
