"""How a session meets a peer: it is dialled and, where what is sought is not for everybody, both prove that they know its secret.

Before that the peer hears nothing of what is sought: neither a CID nor a key that it might guess one from.
"""

from functools import partial
from typing import Protocol

import anyio

from stack.bitswap.interfaces import Access, Answered, Swarm
from stack.bitswap.shell.session import FetchSession
from stack.errors import LimitExceeded, SecurityError, TransportError
from stack.identity.peer_id import PeerId
from stack.net.interfaces import Host
from stack.streams.supervision import Supervisor
from stack.streams.turns import Turn

DIAL_SECONDS = 30.0
"""For a connection to a provider."""

ASKED_AT_ONCE = 8
"""Connected peers that are asked at a time whether they know more, by all sessions together: each costs both ends a stream and a
millisecond. Where loops are busy the answers come late, and so do the next questions: 24 sessions that waited for a busy provider,
and asked a hundred others each, kept it and themselves from anything else until all gave up."""

ANSWER_SECONDS = 1.0
"""Who is silent for so long no longer counts among them."""


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
        self._proving: dict[tuple[FetchSession, PeerId], anyio.Event] = {}
        self._rounds: list[FetchSession] = []
        """Sessions that are just asking all who are connected."""
        self._places = anyio.Semaphore(ASKED_AT_ONCE)

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
        elif session.seeking.active or peer in session.addresses:
            self._proof(session, peer)

    def _proof(self, session: FetchSession, peer: PeerId, *, anew: bool = False) -> anyio.Event:
        """Returns what is set when it is over. `anew`: also of who has proved it."""
        over = self._proving.get((session, peer))
        if over is None:
            over = self._proving[session, peer] = anyio.Event()
            self._tasks.start(partial(self._prove, session, peer, anew=anew), owner="a proof of access")
        return over

    async def _prove(self, session: FetchSession, peer: PeerId, *, anew: bool) -> None:
        assert session.enclosure is not None
        try:
            proved = self._access is not None and await self._access.prove(peer, session.enclosure.secret, anew=anew)
        finally:
            self._proving.pop((session, peer)).set()
        if session.closed:
            return
        if not self._owner.host.is_connected(peer):
            session.peer_unreachable(peer, anyio.current_time(), None)
        elif proved or session.introductions.is_said_to_have(peer):
            session.introductions.proved(peer)
            self._ask(session, peer)
        else:
            if anew:
                session.introductions.ended(peer)
            session.peer_unproved(peer, anyio.current_time())
        self._owner.drain(session)

    def ask_connected(self, session: FetchSession) -> None:
        """All that are connected may have the root: they are asked by a key that tells nothing to who does not know the root, or the
        secret. A few at a time: of fifty sessions each asks two hundred peers. Who says that it has not what is wanted proves again that
        it knows the secret: its share may have ended."""
        if session not in self._rounds:
            self._rounds.append(session)
            self._tasks.start(self._ask_connected, session, owner="asking who is connected")

    async def _ask_connected(self, session: FetchSession) -> None:
        host, turn = self._owner.host, Turn()
        denying = {each.peer for each in session.reports() if each.denials and not (each.stalled or each.unproved)}
        try:
            for peer in {connection.peer: None for connection in host.connections()}:
                await turn.give_way()
                await self._places.acquire()
                answered = None
                try:
                    if session.closed:
                        return
                    if host.is_connected(peer):
                        answered = self._question(session, peer, anew=peer in denying)
                finally:
                    if answered is None or answered.is_set():
                        self._places.release()
                    else:
                        self._tasks.start(self._await_answer, answered, owner="asking who is connected")
        finally:
            self._rounds.remove(session)

    def _question(self, session: FetchSession, peer: PeerId, *, anew: bool) -> Answered | None:
        if session.enclosure is not None:
            return self._proof(session, peer, anew=anew)
        return self._swarm.ask(session.root, peer) if self._swarm is not None else None

    async def _await_answer(self, answered: Answered) -> None:
        try:
            with anyio.move_on_after(ANSWER_SECONDS):
                await answered.wait()
        finally:
            self._places.release()

    def _ask(self, session: FetchSession, peer: PeerId) -> None:
        session.machine.peer_connected(peer)
        if self._swarm is not None and (session.seeking.active or peer in session.addresses):
            self._swarm.ask(session.root, peer)
