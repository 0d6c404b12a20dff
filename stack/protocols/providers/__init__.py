"""`/stack/providers/1.0.0`: who else shares or fetches a root, and which leaves each has (docs/providers.md)."""
