"""Codes on a host: it gives its own, takes those of others, and is a meeting point for anybody. What speaks is loaded when it is used."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.streams.interfaces import Stream

if TYPE_CHECKING:
    from stack.protocols.code.plates import Plates
    from stack.protocols.code.shell.giving import Offering
    from stack.protocols.code.words import Code

MEET: Final = "/stack/code/meet/1.0.0"
CODE: Final = "/stack/code/1.0.0"
MEET_STREAMS: Final = 16
"""Of one peer at a time: a number that is held keeps its stream."""
CODE_STREAMS: Final = 4
POINTS_MAX: Final = 16
"""Meeting points of one code."""


class CodeService:
    """Row "code" of `SERVICES`. Commands: `offering`, `take`. Getters: `points`, `changed`, `offerings`, `plates`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.offerings: dict[int, Offering] = {}
        """What this node gives, by number."""
        self._plates: Plates | None = None
        self._changed = anyio.Event()
        host.handle(MEET, self._meet, streams=MEET_STREAMS)
        host.handle(CODE, self._give, streams=CODE_STREAMS)
        host.listen_to_peers(self)

    def __repr__(self) -> str:
        return f"<CodeService: {len(self.offerings)} codes>"

    @property
    def plates(self) -> "Plates":
        """Who holds which number here."""
        if self._plates is None:
            from stack.protocols.code.plates import Plates

            self._plates = Plates(self.host.peer_id)
        return self._plates

    def points(self) -> list[PeerId]:
        """Peers at which two can meet, those first that were connected first: relays and bootstrap peers."""
        connections = sorted(self.host.connections(), key=lambda connection: connection.opened_at)
        peers = dict.fromkeys(connection.peer for connection in connections)
        return [peer for peer in peers if MEET in (self.host.protocols(peer) or ())][:POINTS_MAX]

    @property
    def changed(self) -> anyio.Event:
        """Set when a peer has said what it speaks."""
        return self._changed

    async def settled(self, points: int, seconds: float) -> None:
        """Until there are so many meeting points and everybody who is connected has said what it speaks, for `seconds` at most."""
        with anyio.move_on_after(seconds):
            while len(self.points()) < points or any(
                self.host.protocols(each.peer) is None for each in self.host.connections()
            ):
                await self._changed.wait()

    @asynccontextmanager
    async def offering(
        self, ticket: Callable[[], str], seconds: float, via: Sequence[Multiaddr] = ()
    ) -> AsyncIterator["Offering"]:
        """A new code for a ticket, which is asked for when it is handed over; good for as long as the context lasts, and no longer than
        `seconds`. `via` are meeting points that are dialled for it. Raises Refused when no number is free."""
        from stack.protocols.code.shell.giving import offering

        async with offering(self, ticket, seconds, via) as given:
            yield given

    async def take(self, code: "Code", via: Sequence[Multiaddr] = ()) -> str:
        """The ticket that this code stands for. Raises UnknownCode, WrongCode, DialError."""
        from stack.protocols.code.shell.taking import take

        return await take(self, code, via)

    async def _meet(self, stream: Stream) -> None:
        from stack.protocols.code.shell.meeting import serve

        await serve(self, stream)

    async def _give(self, stream: Stream) -> None:
        from stack.protocols.code.shell.giving import serve

        await serve(self, stream)

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""
        self._changed.set()
        self._changed = anyio.Event()

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
