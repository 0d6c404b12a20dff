"""`stack` as its users run it: real processes, real sockets, homes of their own, loopback only."""
