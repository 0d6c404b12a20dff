"""Payload bytes, and how often each was copied."""

from stack.values import dataclass


@dataclass(slots=True)
class Counters:
    """Bytes since the connection began."""

    received: int = 0
    """Payload that arrived for a stream that is read."""
    sent: int = 0
    """Payload that was written into frames."""
    copied_in: int = 0
    """Bytes copied on their way from a frame to the application."""
    copied_out: int = 0
    """Bytes copied on their way from the application to a frame."""
