"""Hearing at once that the addresses of this computer have changed, where the system tells."""

import socket
from contextlib import suppress
from types import TracebackType

import anyio

from stack.platform import address_news

SETTLE_SECONDS = 0.2
"""An address goes and another comes: one look for both."""


class AddressNews:
    """A context. Command: `wait`."""

    def __init__(self, wanted: bool) -> None:
        """Without being `wanted` it only keeps time: somebody else says what the addresses are."""
        self._socket: socket.socket | None = address_news() if wanted else None

    def __enter__(self) -> "AddressNews":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    async def wait(self, seconds: float) -> None:
        """Until they have changed, or `seconds` are over."""
        with anyio.move_on_after(seconds):
            if self._socket is None:
                await anyio.sleep_forever()
            else:
                await anyio.wait_readable(self._socket)
                await anyio.sleep(SETTLE_SECONDS)
                self._forget(self._socket)

    def _forget(self, news: socket.socket) -> None:
        """What the news are is looked for where they are complete."""
        with suppress(OSError):  # there are no more, or there were more than the system keeps for us
            while news.recv(65536):
                pass
