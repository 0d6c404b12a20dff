"""The contracts and the tools of pure machines: no clock, no randomness, no sockets."""
