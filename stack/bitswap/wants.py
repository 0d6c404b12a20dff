"""What we want: by block, for whoever receives one; by peer, for what it has been told. Pure.

Blocks are known by their multihash here: a CID of another version or codec names the same bytes.
"""

from collections.abc import Iterable
from typing import NewType

from stack.bitswap.interfaces import BlockSink
from stack.bitswap.messages import Want, WantKind
from stack.multiformats.cid import Cid

SessionId = NewType("SessionId", int)
WaiterId = NewType("WaiterId", int)
"""One call that waits for blocks; a session has many."""

RECENT_MAX = 16_384
"""Blocks remembered after they came or were given up. A second copy of one of them is an honest peer's that did not hear of
it in time, not an attack; 16,384 are 4 GiB of 256 KiB blocks, more than is ever under way."""

TOLD_MAX = 1_000
"""Wants one peer has to answer at a time, over all sessions: servers keep 1,024 a peer and drop the rest in silence (A46)."""

PRIORITY_MAX = 2**31 - 1

PRIORITY_ANY_ORDER = 1
"""Of all that may come in any order: after what has its place, and equal, so that the server may choose."""

Claim = tuple[tuple[WaiterId, Cid, BlockSink | None], ...]
"""Who waits for a block, by which CID, with which sink; None where the block goes to the store."""


class WantedBlocks:
    """The blocks that somebody waits for.

    Getters: `was_wanted`, `len`. Commands: `add`, `remove`. From worker threads: `claim`. Facts: `delivered`.
    Entries are immutable and replaced whole, so that `claim` in a thread and commands on the event loop need no lock: at the
    worst a call that comes at the very moment gets its own copy later.
    """

    __slots__ = ("_claimed", "_recent", "_wanted")

    def __init__(self) -> None:
        self._wanted: dict[bytes, Claim] = {}
        self._claimed: dict[bytes, None] = {}
        self._recent: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, waiter: WaiterId, cid: Cid, sink: BlockSink | None) -> None:
        """Somebody waits for this block."""
        multihash = cid.multihash
        self._wanted[multihash] = (*self._wanted.get(multihash, ()), (waiter, cid, sink))

    def remove(self, waiter: WaiterId, multihash: bytes) -> None:
        """It waits no longer; the block may still come and is then no offence."""
        entries = self._wanted.pop(multihash, ())
        others = tuple(entry for entry in entries if entry[0] != waiter)
        if others:
            self._wanted[multihash] = others
        elif entries:
            self._remember(multihash)

    def claim(self, multihash: bytes) -> Claim:
        """Take the right to deliver this block; empty when nobody waits for it or another copy came first."""
        claim = self._wanted.pop(multihash, ())
        if claim:
            self._claimed[multihash] = None
        return claim

    def delivered(self, multihash: bytes) -> None:
        """What was claimed has been handed over."""
        self._claimed.pop(multihash, None)
        self._remember(multihash)

    def was_wanted(self, multihash: bytes) -> bool:
        """Whether this block was wanted a short while ago, so that another copy of it is no offence."""
        return multihash in self._recent or multihash in self._claimed or multihash in self._wanted

    def _remember(self, multihash: bytes) -> None:
        self._recent.pop(multihash, None)
        self._recent[multihash] = None
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]


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

    Getters: `pending`, `len`. Commands: `ask`, `withdraw`, `end_session`. Facts: `received`, `answered`, `restart`. Outputs: `take`.
    """

    __slots__ = ("_cancels", "_entries", "_full", "_open", "_priority", "_queue")

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._queue: dict[bytes, None] = {}
        self._cancels: dict[bytes, Cid] = {}
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

    def received(self, multihash: bytes) -> None:
        """The peer sent this block, so it has forgotten that we wanted it."""
        entry = self._entries.get(multihash)
        if entry is not None:
            self._remove(multihash, entry)

    def answered(self, multihash: bytes, *, have: bool) -> bool:
        """The peer said HAVE or DONT_HAVE. Returns whether it had been asked."""
        entry = self._entries.get(multihash)
        if entry is None or not entry.told:
            return False
        self._close(entry)
        if have and entry.kind is WantKind.HAVE:
            self._remove(multihash, entry)
        return True

    def restart(self) -> None:
        """What was told is lost (a new connection): all of it is to be told again, as a full wantlist."""
        self._queue = dict.fromkeys(self._entries)
        self._cancels.clear()
        self._open = 0
        self._full = True
        for entry in self._entries.values():
            entry.told = entry.answered = False

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
            wants.append(Want(entry.cid, entry.kind, self._next_priority(entry), send_dont_have=True))
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
