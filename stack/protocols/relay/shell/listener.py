"""A place at a relay as a listener: who comes through it is accepted, and beside that it is renewed."""

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from stack.errors import StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.relay.keeping import RETRY_SECONDS, renew_after
from stack.protocols.relay.shell.stream import RelayedStream
from stack.values import dataclass

WAITING_MAX = 16
"""Connections that wait to be accepted; more are refused."""


@dataclass(frozen=True, slots=True)
class PlaceTaken:
    """What a relay has granted."""

    seconds: float
    """Until it is over."""
    addresses: tuple[Multiaddr, ...]
    limited: bool


class RelayedIncoming:
    """See `Incoming`."""

    def __init__(self, stream: RelayedStream) -> None:
        self._stream = stream
        self._opened = False
        self.remote_address = stream.remote_address

    async def open(self) -> RelayedStream:
        """The stream; nothing is left to do."""
        await anyio.lowlevel.checkpoint()
        self._opened = True
        return self._stream

    async def aclose(self) -> None:
        """See `Incoming.aclose`."""
        if not self._opened:
            await self._stream.aclose()


class RelayListener:
    """See `Listener`. It ends by itself when the relay keeps the place no longer."""

    def __init__(
        self,
        relay: PeerId,
        address: Multiaddr,
        place: PlaceTaken,
        renew: Callable[[PeerId], Awaitable[PlaceTaken]],
        left: Callable[["RelayListener"], None],
    ) -> None:
        self.relay = relay
        self.address = address
        self.stop_listening: Callable[[], None] = lambda: None
        self.unprotect: Callable[[], None] = lambda: None
        self._renew = renew
        self._left = left
        self._waiting: deque[RelayedIncoming] = deque()
        self._changed = anyio.Event()
        self.over = anyio.Event()
        """The place is no more, for whatever reason."""
        self._until = self._renew_at = 0.0
        self._taken(place)

    def __repr__(self) -> str:
        return f"<RelayListener {self.address}{' over' if self.over.is_set() else ''}>"

    @property
    def full(self) -> bool:
        """Nobody more can wait."""
        return len(self._waiting) >= WAITING_MAX

    def arrived(self, stream: RelayedStream) -> None:
        """Somebody has come."""
        self._waiting.append(RelayedIncoming(stream))
        self._wake()

    async def accept(self) -> RelayedIncoming:
        """See `Listener.accept`."""
        await anyio.lowlevel.checkpoint()
        while not self._waiting:
            if self.over.is_set():
                raise anyio.ClosedResourceError
            await self._changed.wait()
        return self._waiting.popleft()

    async def keep(self) -> None:
        """Have the place renewed for as long as it is ours; a relay that does not answer is asked again until the time is over. To be
        started once, beside accepting: a relay takes its time to answer, and meanwhile others come."""
        while True:
            with anyio.move_on_at(self._renew_at):
                await self.over.wait()
            if self.over.is_set():
                return
            now = anyio.current_time()
            try:
                self._taken(await self._renew(self.relay))
            except StackError:
                if now >= self._until:
                    await self.aclose()
                self._renew_at = min(now + RETRY_SECONDS, self._until)

    def _taken(self, place: PlaceTaken) -> None:
        now = anyio.current_time()
        self._until = now + place.seconds
        self._renew_at = now + renew_after(place.seconds)

    async def aclose(self) -> None:
        """See `Listener.aclose`; connections that still wait are refused."""
        self._end()
        while self._waiting:
            await self._waiting.popleft().aclose()

    def _end(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self._left(self)
            self.stop_listening()
            self.unprotect()
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener: with the connection the place is gone."""
        if peer == self.relay:
            self._end()
