"""What a process that holds a home was started as."""

LISTENING_ROLES = frozenset({"daemon", "share", "get", "library", "pubsub"})
"""Those serve others. Other commands open the home for a moment, need no port and give nothing to anybody."""
