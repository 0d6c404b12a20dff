"""What speaking with a peer may end with because of it, or of the way to it."""

import anyio

from stack.errors import LimitExceeded, NegotiationError, RemoteProtocolError, SecurityError, TransportError

SEND_ERRORS = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    TimeoutError,
    TransportError,
    NegotiationError,
    SecurityError,
    LimitExceeded,
)
"""Opening a stream, or sending on one."""

STREAM_ERRORS = (*SEND_ERRORS, RemoteProtocolError)
"""The same and reading what it says, but for the end of the stream."""

ASK_ERRORS = (*STREAM_ERRORS, anyio.EndOfStream)
"""A question that was to be answered."""
