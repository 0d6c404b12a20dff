"""Whatever accept(2) says, a listener goes on listening."""

import errno
import logging

import anyio
import anyio.lowlevel

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.1
"""After running out of descriptors or memory, so that the loop does not spin; what arrives waits in the kernel's queue."""
LOGGED_SECONDS = 60.0
"""Between two lines in the log: who holds our descriptors may do so for hours."""

_AGAIN = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR, errno.ECONNRESET})
"""accept(2): errors of one arriving connection, which are treated like EAGAIN."""


class AcceptFaults:
    """Command: `survive`, with what an accept has raised while nobody has closed the listener."""

    __slots__ = ("_logged", "_what")

    def __init__(self, what: str) -> None:
        """`what` is listened on."""
        self._what = what
        self._logged = float("-inf")

    async def survive(self, error: OSError) -> None:
        """Return when it is worth trying again."""
        if error.errno in _AGAIN:
            await anyio.lowlevel.checkpoint()
            return
        now = anyio.current_time()
        if now - self._logged >= LOGGED_SECONDS:
            self._logged = now
            _log.warning("cannot take in connections on %s: %s", self._what, error)
        await anyio.sleep(PAUSE_SECONDS)
