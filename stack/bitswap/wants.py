"""What we want: by block, for whoever waits for it; by peer, for what it has been told. Pure.

Blocks are known by their multihash here: a CID of another version or codec names the same bytes.
"""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, NewType, Protocol

from stack.bitswap.messages import Want, WantKind
from stack.multiformats.cid import Cid

SessionId = NewType("SessionId", int)

TOLD_MAX = 1_000
"""Wants one peer has to answer at a time, over all sessions: servers keep 1,024 a peer and drop the rest in silence (A46)."""

OWED_MAX = 8 * TOLD_MAX
"""Blocks remembered of what one peer was told lately, answered or not: eight times what it can have to answer at a time."""

PRIORITY_MAX = 2**31 - 1

PRIORITY_ANY_ORDER = 1
"""Of all that may come in any order: after what has its place, and equal, so that the server may choose."""


class Call(Protocol):
    """One call that waits for blocks; a session has many."""

    @property
    def session(self) -> SessionId: ...

    @property
    def keeps(self) -> bool:
        """Its blocks go to the store once they are here, not to a sink of the caller."""
        ...

    def take(self, cid: Cid, data: memoryview) -> None:
        """In the worker thread: hand a verified block over. Does nothing when it has been done, or the call has ended.

        Raises what the caller's sink raises.
        """
        ...

    def handed_over(self, cid: Cid) -> None:
        """On the loop, after `take`: it has had this block."""
        ...

    def failed(self, error: Exception) -> None:
        """On the loop, after `take`: it raised."""
        ...


class Taker(NamedTuple):
    """A call in a want, and by which CID it knows the block."""

    call: Call
    cid: Cid


Takers = tuple[Taker, ...]


class WantedBlocks:
    """Who waits for which block: the one book of it, and the event loop's. A want ends when nobody is in it, and not before.

    Getters: `takers`, `needed_by`, `len`. Commands: `add`, `remove`. Facts: `delivered`.

    The worker thread hashes a block, reads here who waits for it, and hands it over, all while it lies in the buffer of its
    message; it takes nothing out. Back on the loop, `delivered` takes out those who were served. Who has joined in between
    is left, and for them the same buffer goes to the worker once more before it is let go: so nobody waits in vain, and
    nobody is asked again. (Hashing in one worker call and handing over in a second one, with the loop between them, would
    need no such round, and one more change of threads for every message.)
    `takers` is the only thing that a thread may call: entries are immutable and replaced whole.
    """

    __slots__ = ("_wanted",)

    def __init__(self) -> None:
        self._wanted: dict[bytes, Takers] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def takers(self, multihash: bytes) -> Takers:
        """Who waits for this block."""
        return self._wanted.get(multihash, ())

    def needed_by(self, session: SessionId, multihash: bytes) -> bool:
        """Whether a call of this session waits for the block."""
        return any(taker.call.session == session for taker in self.takers(multihash))

    def add(self, call: Call, cid: Cid) -> None:
        """This call waits for this block, whatever is being done with the block for others."""
        multihash = cid.multihash
        self._wanted[multihash] = (*self.takers(multihash), Taker(call, cid))

    def remove(self, call: Call, multihash: bytes) -> None:
        """It waits no longer."""
        self._keep(multihash, tuple(taker for taker in self.takers(multihash) if taker.call is not call))

    def delivered(self, multihash: bytes, served: Takers) -> tuple[Takers, Takers]:
        """These have had the block. Returns who of them still waited, and who is left: they joined too late to be served."""
        waiting = self.takers(multihash)
        taken = tuple(taker for taker in waiting if taker in served)
        left = tuple(taker for taker in waiting if taker not in served) if len(taken) < len(waiting) else ()
        self._keep(multihash, left)
        return taken, left

    def _keep(self, multihash: bytes, takers: Takers) -> None:
        if takers:
            self._wanted[multihash] = takers
        else:
            self._wanted.pop(multihash, None)


class Answer(Enum):
    """What a block is to the peer that sent it."""

    OWED = "owed"
    """It was told that we want it, and had not sent it since."""
    COPY = "copy"
    """It was told, and has sent it before."""
    NEVER_ASKED = "never asked"


class _Entry:
    """One block of one peer's wantlist."""

    __slots__ = ("answered", "any_order", "cid", "kind", "sessions", "told")

    def __init__(self, cid: Cid, kind: WantKind, *, any_order: bool) -> None:
        self.cid = cid
        self.kind = kind
        self.any_order = any_order
        self.sessions: set[SessionId] = set()
        self.told = False
        self.answered = False


class PeerWants:
    """What one peer has been told that we want, and what is still to be told.

    Getters: `pending`, `len`. Commands: `ask`, `withdraw`, `end_session`. Facts: `received`, `answered`, `restart`, `lost`.
    Outputs: `take`.
    """

    __slots__ = ("_cancels", "_entries", "_full", "_open", "_owed", "_priority", "_queue")

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._queue: dict[bytes, None] = {}
        self._cancels: dict[bytes, Cid] = {}
        self._owed: dict[bytes, int] = {}
        """How many copies of each block it may still send, because it was told so many times: what is withdrawn or asked of
        others may be on its way already, and a peer that stood still sends it long after. The one told last is at the end."""
        self._open = 0
        self._full = True
        self._priority = PRIORITY_MAX

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def pending(self) -> bool:
        """Whether `take` would give anything."""
        return bool(self._cancels) or (bool(self._queue) and self._open < TOLD_MAX)

    def ask(self, session: SessionId, cids: Iterable[Cid], kind: WantKind, *, any_order: bool = False) -> None:
        """Tell the peer, once more if it knows already: whoever asks again has waited in vain.

        With `any_order` it may choose which it sends first.
        """
        for cid in cids:
            multihash = cid.multihash
            entry = self._entries.get(multihash)
            if entry is None:
                entry = self._entries[multihash] = _Entry(cid, kind, any_order=any_order)
            else:
                self._close(entry)
                entry.kind = min(entry.kind, kind)
                entry.any_order &= any_order
            entry.sessions.add(session)
            self._queue[multihash] = None
            self._cancels.pop(multihash, None)

    def withdraw(self, session: SessionId, cids: Iterable[Cid]) -> None:
        """The session no longer wants these from this peer; it is told when no other session does."""
        for cid in cids:
            multihash = cid.multihash
            entry = self._entries.get(multihash)
            if entry is None:
                continue
            entry.sessions.discard(session)
            if not entry.sessions:
                self._remove(multihash, entry)
                if entry.told:
                    self._cancels[multihash] = entry.cid

    def end_session(self, session: SessionId) -> None:
        """Withdraw all that this session asked."""
        self.withdraw(session, [entry.cid for entry in self._entries.values() if session in entry.sessions])

    def received(self, multihash: bytes) -> Answer:
        """The peer sent this block, so it has forgotten that we wanted it."""
        entry = self._entries.get(multihash)
        told = entry is not None and entry.told
        if entry is not None:
            self._remove(multihash, entry)
        owed = self._owed.get(multihash)
        if owed:
            self._owed[multihash] = owed - 1
            return Answer.OWED
        if told:
            return Answer.OWED  # told so long ago that it is no longer remembered
        return Answer.NEVER_ASKED if owed is None else Answer.COPY

    def answered(self, multihash: bytes, *, have: bool) -> frozenset[SessionId]:
        """The peer said HAVE or DONT_HAVE. Returns the sessions that had it asked."""
        entry = self._entries.get(multihash)
        if entry is None or not entry.told:
            return frozenset()
        self._close(entry)
        if have and entry.kind is WantKind.HAVE:
            self._remove(multihash, entry)
        return frozenset(entry.sessions)

    def restart(self) -> None:
        """What was told is lost (a new connection): all of it is to be told again, as a full wantlist."""
        self._queue = dict.fromkeys(self._entries)
        self._cancels.clear()
        self._open = 0
        self._full = True
        for entry in self._entries.values():
            entry.told = entry.answered = False

    def lost(self) -> None:
        """The connection is gone, and with it all that was asked; what it had sent may still be on its way through us."""
        self._entries.clear()
        self.restart()

    def take(self, limit: int) -> tuple[tuple[Want, ...], bool]:
        """At most `limit` entries to be sent now, and whether they are a full wantlist."""
        wants = [Want(cid, cancel=True, priority=0) for cid in list(self._cancels.values())[:limit]]
        for want in wants:
            del self._cancels[want.cid.multihash]
        room = min(limit - len(wants), TOLD_MAX - self._open)
        for multihash in list(self._queue)[: max(room, 0)]:
            del self._queue[multihash]
            entry = self._entries[multihash]
            entry.told = True
            entry.answered = False
            self._open += 1
            self._owed[multihash] = self._owed.pop(multihash, 0) + 1
            wants.append(Want(entry.cid, entry.kind, self._next_priority(entry), send_dont_have=True))
        while len(self._owed) > OWED_MAX:
            del self._owed[next(iter(self._owed))]
        full, self._full = self._full, False
        return tuple(wants), full

    def _next_priority(self, entry: _Entry) -> int:
        """Falling: servers answer the highest first, so blocks come in the order they were asked for."""
        if entry.any_order:
            return PRIORITY_ANY_ORDER
        self._priority = self._priority - 1 if self._priority > PRIORITY_ANY_ORDER else PRIORITY_MAX
        return self._priority

    def _close(self, entry: _Entry) -> None:
        """The peer owes no answer any more."""
        if entry.told and not entry.answered:
            self._open -= 1
        entry.answered = True

    def _remove(self, multihash: bytes, entry: _Entry) -> None:
        self._close(entry)
        del self._entries[multihash]
        self._queue.pop(multihash, None)
