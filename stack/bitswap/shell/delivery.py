"""What becomes of blocks that peers send: calls that waited get them, sessions learn of them, and who sends others answers for it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import anyio

from stack.bitswap.cutting import FIRST_BYTES
from stack.bitswap.engine import Engine
from stack.bitswap.events import BlockReceived, PeerCut, UnwantedBlock
from stack.bitswap.messages import Message
from stack.bitswap.offences import Offences
from stack.bitswap.shell.intake import Arrival
from stack.bitswap.shell.session import FetchSession
from stack.bitswap.shell.wire import Loan
from stack.bitswap.verify import Verdict
from stack.bitswap.wants import Answer, SessionId, Takers, WantedBlocks
from stack.blocks.interfaces import RealmId
from stack.identity.peer_id import PeerId
from stack.trace import TraceEvent

EMPTY_MESSAGES = "sends messages without a block"


class DeliveryOwner(Protocol):
    """The exchange."""

    @property
    def engine(self) -> Engine: ...
    @property
    def wanted(self) -> WantedBlocks: ...
    @property
    def serving(self) -> bool: ...
    @property
    def sessions(self) -> Mapping[SessionId, FetchSession]: ...

    def drain(self, session: FetchSession) -> None: ...
    def pump(self) -> None: ...
    def cut(self, peer: PeerId) -> None: ...
    def trace(self, event: TraceEvent) -> None: ...


class Delivery:
    """Implements `BlockHandler`. Getters: `those`. Facts from the receiver: `progress`, `broken`, `let_go`."""

    def __init__(self, owner: DeliveryOwner) -> None:
        self.offences = Offences()
        self._owner = owner
        self._concerned: dict[FetchSession, None] = {}
        """Sessions that were told something and are to be drained: with many sessions and peers, draining is what costs."""

    def progress(self, peer: PeerId, size: int) -> None:
        """So much of blocks has come, for whomever."""
        now = anyio.current_time()
        for session in self._owner.sessions.values():
            session.machine.receive_progress(peer, now, size)

    def broken(self, peer: PeerId, size: int, ours: bool) -> None:
        """So much of that will never be whole, for a reason of ours or not."""
        for session in self._owner.sessions.values():
            session.machine.receive_no_block(peer, size, broken=not ours)

    def let_go(self, message: Message, loan: Loan) -> None:
        """A long message has no blocks; one that says nothing at all is not sent by accident."""
        if len(loan.view) > FIRST_BYTES and not (message.wants or message.full or message.presences):
            now = anyio.current_time()
            for session in self.those(self._owner.sessions):
                session.peer_unreachable(loan.peer, now, EMPTY_MESSAGES)
            self._count_unwanted(loan.peer, len(loan.view), now)
            self.settle()
        loan.release()

    def those(self, ids: Iterable[SessionId]) -> list[FetchSession]:
        """The sessions that are about to be told something; `settle` lets the consequences happen."""
        sessions = [self._owner.sessions[id] for id in dict.fromkeys(ids) if id in self._owner.sessions]
        self._concerned.update(dict.fromkeys(sessions))
        return sessions

    def settle(self) -> None:
        """See BlockHandler."""
        concerned, self._concerned = self._concerned, {}
        for session in concerned:
            self._owner.drain(session)
        self._owner.pump()

    def handle_verdict(self, arrival: Arrival, verdict: Verdict) -> bool:
        """See BlockHandler."""
        owner, peer, multihash, now = self._owner, arrival.peer, verdict.multihash, anyio.current_time()
        is_cut = self.offences.is_cut(peer, now)
        if is_cut and not (verdict.served or arrival.again):
            return False  # the rest of what it had sent when it was cut
        if multihash is None:
            self._handle_unwanted(arrival, Answer.NEVER_ASKED, verdict.size, now)
            return False
        answer = Answer.NEVER_ASKED
        if arrival.told is not None and not arrival.again:
            answer = arrival.told.received(multihash)
        taken, left = owner.wanted.delivered(multihash, verdict.served)
        waiting = taken + left
        if arrival.again:
            # Newcomers may have begun to ask for it.
            for session in self.those(taker.call.session for taker in waiting):
                session.machine.cancel([waiting[0].cid])
        elif not waiting:
            if not is_cut:  # else a copy that came while it was still wanted
                self._handle_unwanted(arrival, answer, verdict.size, now)
        else:
            for session in self.those(taker.call.session for taker in waiting):
                session.receive_block(peer, multihash, verdict.size, now)
                _count_brought(arrival, session, verdict.size)
            owner.engine.count_received(peer, 1, verdict.size)
            owner.trace(BlockReceived(peer=peer, cid=waiting[0].cid, size=verdict.size))
        self._hand_back(taken, verdict)
        return bool(left)

    def handle_end(self, arrival: Arrival) -> None:
        """See BlockHandler."""
        if (loan := arrival.loan) is not None and loan.told:
            for session in self._owner.sessions.values():
                session.machine.receive_no_block(arrival.peer, max(loan.told - loan.brought.get(session.id, 0), 0))
            loan.told = 0

    def _hand_back(self, taken: Takers, verdict: Verdict) -> None:
        """Tell calls that they have had a block, and the engine when it is where it can be served from."""
        failures = dict(verdict.failures)
        kept = False
        for call, cid in taken:
            if call in failures:
                call.failed(failures[call])
            else:
                call.handed_over(cid)
                kept |= not call.keeps
        if kept and self._owner.serving:
            self._owner.engine.blocks_added([taken[0].cid], [verdict.size], self._realms_of(taken))

    def _realms_of(self, taken: Takers) -> frozenset[RealmId] | None:
        """For whom a block was fetched; None: for everybody."""
        realms: frozenset[RealmId] = frozenset()
        for call, _ in taken:
            session = self._owner.sessions.get(call.session)
            if session is not None:
                if session.realms is None:
                    return None
                realms |= session.realms
        return realms

    def _handle_unwanted(self, arrival: Arrival, answer: Answer, size: int, now: float) -> None:
        """Nobody waits for it. Only what the peer was told, and has not sent yet, is welcome all the same."""
        peer = arrival.peer
        late = answer is Answer.OWED or (answer is Answer.COPY and self.offences.copy(peer, size))
        self._owner.trace(UnwantedBlock(peer=peer, size=size, late=late))
        for session in self.those(self._owner.sessions):
            if late:
                session.machine.receive_late_block(peer, size, now, owed=answer is Answer.OWED)
                _count_brought(arrival, session, size)
            else:
                session.machine.receive_wrong_block(peer, now)
        if not late:
            self._count_unwanted(peer, size, now)

    def _count_unwanted(self, peer: PeerId, size: int, now: float) -> None:
        if self.offences.unwanted(peer, size, now):
            blocks, total = self.offences.of(peer)
            self._owner.trace(PeerCut(peer=peer, blocks=blocks, bytes=total))
            self._owner.cut(peer)


def _count_brought(arrival: Arrival, session: FetchSession, size: int) -> None:
    if (loan := arrival.loan) is not None:
        loan.brought[session.id] = loan.brought.get(session.id, 0) + size
