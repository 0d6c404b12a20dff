"""`/stack/code/1.0.0`: a few words that one person says to another, in place of a ticket (docs/code.md)."""
