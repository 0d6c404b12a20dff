"""How a session meets a peer: it is dialled and, where what is sought is not for everybody, both prove that they know its secret.

Before that the peer hears nothing of what is sought: neither a CID nor a key that it might guess one from.
"""

from typing import Protocol

import anyio

from stack.bitswap.interfaces import Access, Swarm
from stack.bitswap.shell.session import FetchSession
from stack.errors import LimitExceeded, SecurityError, TransportError
from stack.identity.peer_id import PeerId
from stack.net.interfaces import Host
from stack.streams.supervision import Supervisor
from stack.streams.turns import Turn

DIAL_SECONDS = 30.0
"""For a connection to a provider."""


class MeetingOwner(Protocol):
    """The exchange."""

    @property
    def host(self) -> Host: ...

    def drain(self, session: FetchSession) -> None: ...


class Meeting:
    """Commands: `dial`. Facts: `connected`."""

    def __init__(self, owner: MeetingOwner, tasks: Supervisor, swarm: Swarm | None, access: Access | None) -> None:
        self._owner = owner
        self._tasks = tasks
        self._swarm = swarm
        self._access = access
        self._proving: set[tuple[FetchSession, PeerId]] = set()

    async def dial(self, session: FetchSession, peer: PeerId) -> None:
        """Be connected to a peer that the session knows."""
        try:
            with anyio.fail_after(DIAL_SECONDS):
                await self._owner.host.connect(peer, session.addresses.get(peer, ()))
        except (TransportError, SecurityError, LimitExceeded, TimeoutError, anyio.BrokenResourceError) as error:
            permanent = str(error) if isinstance(error, SecurityError) else None
            session.peer_unreachable(peer, anyio.current_time(), permanent)
        else:
            self.connected(session, peer)
        self._owner.drain(session)

    def connected(self, session: FetchSession, peer: PeerId) -> None:
        """A peer is connected, by whomever. Of what is not for everybody those who connect by themselves are not asked."""
        if session.enclosure is None:
            self._ask(session, peer)
        elif (session.seeking.active or peer in session.addresses) and (session, peer) not in self._proving:
            self._proving.add((session, peer))
            self._tasks.start(self._prove, session, peer, owner="a proof of access")

    async def _prove(self, session: FetchSession, peer: PeerId) -> None:
        assert session.enclosure is not None
        try:
            proved = self._access is not None and await self._access.prove(peer, session.enclosure.secret)
        finally:
            self._proving.discard((session, peer))
        if session.closed:
            return
        if not self._owner.host.is_connected(peer):
            session.peer_unreachable(peer, anyio.current_time(), None)
        elif proved or session.introductions.is_said_to_have(peer):
            session.introductions.proved(peer)
            self._ask(session, peer)
        else:
            session.peer_unproved(peer, anyio.current_time())
        self._owner.drain(session)

    def ask_connected(self, session: FetchSession) -> None:
        """All that are connected may have the root: they are asked by a key that tells nothing to who does not know the root, or the
        secret. In turns: of fifty sessions each asks two hundred peers."""
        self._tasks.start(self._ask_connected, session, owner="asking who is connected")

    async def _ask_connected(self, session: FetchSession) -> None:
        host, turn = self._owner.host, Turn()
        for peer in {connection.peer: None for connection in host.connections()}:
            await turn.give_way()
            if session.closed:
                return
            if not host.is_connected(peer):
                continue
            if session.enclosure is not None:
                self.connected(session, peer)
            elif self._swarm is not None:
                self._swarm.ask(session.root, peer)

    def _ask(self, session: FetchSession, peer: PeerId) -> None:
        session.machine.peer_connected(peer)
        if self._swarm is not None and (session.seeking.active or peer in session.addresses):
            self._swarm.ask(session.root, peer)
