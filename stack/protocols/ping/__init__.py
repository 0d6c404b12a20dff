"""Liveness and round trip: `/ipfs/ping/1.0.0`."""

from stack.protocols.ping.service import PING, Pinger, PingService, ping

__all__ = ["PING", "PingService", "Pinger", "ping"]
