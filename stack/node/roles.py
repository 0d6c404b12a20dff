"""What a process that holds a home was started as."""

DAEMON = "daemon"
LISTENING_ROLES = frozenset({DAEMON, "share", "get", "library", "pubsub"})
"""Those serve others. Other commands open the home for a moment, need no port and give nothing to anybody."""
