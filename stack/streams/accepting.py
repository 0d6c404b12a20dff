"""Whatever accept(2) says, a listener goes on listening."""

import errno
import logging

import anyio
import anyio.lowlevel

from stack.streams.seldom import Seldom

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.1
"""After running out of descriptors or memory, so that the loop does not spin; what arrives waits in the kernel's queue."""

_AGAIN = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR, errno.ECONNRESET})
"""accept(2): errors of one arriving connection, which are treated like EAGAIN."""


class AcceptFaults:
    """Command: `survive`, with what an accept has raised while nobody has closed the listener."""

    __slots__ = ("_seldom", "_what")

    def __init__(self, what: str) -> None:
        """`what` is listened on."""
        self._what = what
        self._seldom = Seldom(_log)  # who holds our descriptors may do so for hours

    async def survive(self, error: OSError) -> None:
        """Return when it is worth trying again."""
        if error.errno in _AGAIN:
            await anyio.lowlevel.checkpoint()
            return
        self._seldom.warning("cannot take in connections on %s: %s", self._what, error)
        await anyio.sleep(PAUSE_SECONDS)
