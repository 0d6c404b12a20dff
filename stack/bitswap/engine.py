"""The server's side: whose wants are answered next, and with what. Pure.

Peers are served in turns by bytes, so that a greedy one waits while others catch up; within a peer by priority, then what was
sent to the fewest (`copies.py`), then by age.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from stack.bitswap.copies import Copies
from stack.bitswap.ledger import Ledger, held_want, is_answered_by_block
from stack.bitswap.messages import WANTS_PER_MESSAGE_MAX, Presence, Want
from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.errors import DecodeError
from stack.identity.peer_id import PeerId
from stack.multiformats import multihash as multihashes
from stack.multiformats.cid import Cid

KIB = 1024
MIB = 1024 * 1024

RATE_OF_ONE = 8 * KIB
"""Bytes a second that a peer gets when it is its turn. With less it would take us for stalled: 16 KiB in 2 s show that we are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParameters:
    """Figures of the server, in bytes unless said otherwise."""

    message: int = MIB
    """Blocks are packed into messages of about this size: one worker call, one buffer, and every implementation takes it."""
    outstanding_least: int = 256 * KIB
    outstanding_start: int = MIB
    outstanding_most: int = 4 * MIB
    """Bytes on their way to one peer (boxo: 1 MiB). A peer that takes 10 MiB a second or more gets a tenth of a second of its
    rate, so that reading the next message from disk overlaps with sending; one that takes less gets a second of it."""
    total: int = 48 * MIB
    total_unproven: int = 32 * MIB
    """Bytes on their way to all, and to peers that have not yet taken a single message: readers that read nothing may not
    lock out the others."""
    have_replace: int = 1024
    """Blocks up to this size answer WANT_HAVE (boxo: 1,024)."""
    lookups: int = 8 * WANTS_PER_MESSAGE_MAX
    """Wants of all peers together that wait for the index; more are not taken."""
    presences: int = 2 * WANTS_PER_MESSAGE_MAX
    """HAVE and DONT_HAVE that wait for one peer to read them; more are not said."""
    peers_at_once: int | None = None
    """Peers to whom blocks are on their way at a time; the others have their turn after them."""

    @classmethod
    def limited(cls, rate: int) -> "EngineParameters":
        """For an upload of at most `rate` bytes a second: short messages, and little on its way that cannot be withdrawn."""
        outstanding = min(max(rate // 4, 256 * KIB), 4 * MIB)
        return cls(
            message=min(max(rate // 10, 1), MIB),
            outstanding_start=min(outstanding, MIB),
            outstanding_most=outstanding,
            peers_at_once=max(rate // RATE_OF_ONE, 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """Ask the store for the sizes of these blocks; answered by `looked_up`."""

    peer: PeerId
    cids: tuple[Cid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBlocks:
    """Read these blocks and send them; answered by `message_sent` or `message_failed`."""

    id: int
    peer: PeerId
    cids: tuple[Cid, ...]
    size: int
    """Of the blocks together, as the index said."""
    pending_bytes: int
    """What is still queued for the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresencesReady:
    """There are presences to be taken with `take_presences`."""

    peer: PeerId


EngineEffect = LookUp | SendBlocks | PresencesReady


class _Served:
    """The server's view of one connected peer."""

    __slots__ = (
        "active",
        "active_bytes",
        "allowance",
        "incoming",
        "ledger",
        "looking",
        "presences",
        "proven",
        "served",
    )

    def __init__(self, parameters: EngineParameters, ledger: Ledger) -> None:
        self.ledger = ledger
        self.presences: dict[bytes, Presence] = {}
        self.incoming: dict[bytes, Want] = {}
        """Wants not yet looked up."""
        self.looking: dict[bytes, Want] | None = None
        """Wants being looked up."""
        self.active: set[bytes] = set()
        """Blocks on their way."""
        self.active_bytes = 0
        self.allowance = parameters.outstanding_start
        self.proven = False
        self.served = 0
        """Bytes served, on the scale of all peers: the least served is next."""


class Engine:
    """Getters: `ledger`, `wants`. Facts: `peer_*`, `receive_wants`, `looked_up`, `blocks_added`, `message_*`, `count_received`.
    Outputs: `next_effect`, `take_presences`.
    """

    def __init__(self, parameters: EngineParameters | None = None) -> None:
        self._parameters = parameters if parameters is not None else EngineParameters()
        self._peers: dict[PeerId, _Served] = {}
        self._absent: dict[bytes, dict[PeerId, None]] = {}
        """Who waits for a block that is not here."""
        self._sending: dict[int, tuple[SendBlocks, _Served, float]] = {}
        self._effects: deque[EngineEffect] = deque()
        self._next_id = 0
        self._waiting = 0
        """Wants in `incoming` and `looking` of all peers."""
        self._total = 0
        self._total_unproven = 0
        self._copies = Copies()
        self._clock = 0
        """`served` of whoever was served last: where a peer starts that has wanted nothing for a while."""

    def __repr__(self) -> str:
        return f"<Engine {len(self._peers)} peers, {self._total} bytes on their way>"

    # getters

    def ledger(self, peer: PeerId) -> Ledger | None:
        """What has passed between us and a connected peer."""
        served = self._peers.get(peer)
        return served.ledger if served is not None else None

    @property
    def wants(self) -> int:
        """Wants kept in all, for tests and for `stack doctor`."""
        return self._waiting + sum(len(served.ledger) for served in self._peers.values())

    # facts

    def peer_connected(self, peer: PeerId) -> None:
        """From now on its wants are taken."""
        self._peers.setdefault(peer, _Served(self._parameters, Ledger()))

    def peer_disconnected(self, peer: PeerId) -> None:
        """Everything it wanted is forgotten at once (A45)."""
        served = self._peers.pop(peer, None)
        if served is None:
            return
        self._unwait(peer, served.ledger.clear())
        self._waiting -= len(served.incoming) + len(served.looking or ())
        self._total -= served.active_bytes
        if not served.proven:
            self._total_unproven -= served.active_bytes

    def receive_wants(self, peer: PeerId, wants: Sequence[Want], *, full: bool) -> None:
        """A wantlist. Identity CIDs and hashes that no block may have are passed over (A48)."""
        served = self._peers.get(peer)
        if served is None:
            return
        if full:
            self._unwait(peer, served.ledger.clear())
            self._waiting -= len(served.incoming)
            served.incoming.clear()
            if served.looking is not None:
                self._waiting -= len(served.looking)
                served.looking = {}
        for want in wants:
            multihash = want.cid.multihash
            if want.cancel:
                self._cancel(peer, served, multihash)
            elif multihash not in served.active and _may_be_a_block(want.cid):
                if multihash in served.incoming:
                    served.incoming[multihash] = want
                elif self._waiting < self._parameters.lookups and len(served.incoming) < WANTS_PER_MESSAGE_MAX:
                    served.incoming[multihash] = want
                    self._waiting += 1
        self._look_up(peer, served)

    def looked_up(self, peer: PeerId, cids: Sequence[Cid], sizes: Sequence[int | None]) -> None:
        """What the store said to a LookUp. Wants withdrawn in between are passed over."""
        served = self._peers.get(peer)
        if served is None or served.looking is None:
            return
        looking, served.looking = served.looking, None
        self._waiting -= len(looking)
        was_idle = not served.ledger.held
        held = []
        for cid, size in zip(cids, sizes, strict=True):
            want = looking.get(cid.multihash)
            if want is None:
                continue
            if size is None or size > BLOCK_SIZE_MAX:
                self._miss(peer, served, want)
            elif is_answered_by_block(want, size, self._parameters.have_replace):
                held.append(held_want(want, size))
                self._unwait(peer, (cid.multihash,))
            else:
                self._say(peer, served, Presence(want.cid, True))
        self._unwait(peer, served.ledger.hold(held))
        self._activate(served, was_idle=was_idle)
        self._look_up(peer, served)

    def blocks_added(self, cids: Sequence[Cid], sizes: Sequence[int]) -> None:
        """Blocks that are now in the store: whoever waits for one gets it."""
        for cid, size in zip(cids, sizes, strict=True):
            for peer in self._absent.pop(cid.multihash, ()):
                served = self._peers[peer]
                want = served.ledger.take_absent(cid.multihash)
                if is_answered_by_block(want, size, self._parameters.have_replace):
                    was_idle = not served.ledger.held
                    self._unwait(peer, served.ledger.hold([held_want(want, size)]))
                    self._activate(served, was_idle=was_idle)
                else:
                    self._say(peer, served, Presence(want.cid, True))

    def message_sent(self, id: int, missing: Sequence[Cid], size: int, now: float) -> None:
        """A SendBlocks is done: `size` bytes of blocks went, the blocks in `missing` could not be read."""
        message, served, started = self._sending.pop(id)
        if not self._end(message, served):
            return
        served.ledger.count_sent(len(message.cids) - len(missing), size)
        for cid in missing:
            # Damaged, deleted, or received but not yet kept: should it come, the peer gets it.
            self._miss(message.peer, served, Want(cid, send_dont_have=True))
        if not served.proven:
            served.proven = True
            self._total_unproven -= served.active_bytes
        rate = size / max(now - started, 1e-6)
        least, most = self._parameters.outstanding_least, self._parameters.outstanding_most
        wish = max(min(rate, self._parameters.outstanding_start), rate / 10)
        served.allowance = int(min(max(wish, least), most))

    def message_failed(self, id: int) -> None:
        """A SendBlocks could not be sent; the peer will ask again if it is still there."""
        message, served, _ = self._sending.pop(id)
        self._copies.failed(message.cids)
        self._end(message, served)

    def count_received(self, peer: PeerId, blocks: int, size: int) -> None:
        """Blocks that we wanted came from this peer."""
        served = self._peers.get(peer)
        if served is not None:
            served.ledger.count_received(blocks, size)

    # outputs

    def next_effect(self, now: float) -> EngineEffect | None:
        """The next thing to do, or None."""
        if self._effects:
            return self._effects.popleft()
        peer = self._next_peer()
        return self._pack(peer, now) if peer is not None else None

    def take_presences(self, peer: PeerId, limit: int) -> tuple[Presence, ...]:
        """At most `limit` presences to send to a peer now."""
        served = self._peers.get(peer)
        if served is None:
            return ()
        taken = list(served.presences)[:limit]
        return tuple(served.presences.pop(multihash) for multihash in taken)

    # decisions

    def _next_peer(self) -> PeerId | None:
        """The least served of those who want blocks and have room."""
        best: PeerId | None = None
        least = 0
        most = self._parameters.peers_at_once
        busy = most is not None and sum(bool(served.active) for served in self._peers.values()) >= most
        for peer, served in self._peers.items():
            if busy and not served.active:
                continue
            if served.ledger.held and (best is None or served.served < least) and self._has_room(served):
                best, least = peer, served.served
        return best

    def _has_room(self, served: _Served) -> bool:
        want = served.ledger.peek()
        if want is None or self._total >= self._parameters.total:
            return False
        if not served.proven and self._total_unproven >= self._parameters.total_unproven:
            return False
        return not served.active or served.active_bytes + want.size <= served.allowance

    def _pack(self, peer: PeerId, now: float) -> SendBlocks:
        """One message for this peer: at least one block, then as many as fit."""
        served = self._peers[peer]
        cids: list[Cid] = []
        size = 0
        room = min(self._parameters.message, served.allowance - served.active_bytes)
        while (want := self._copies.least(served.ledger)) is not None and (not cids or size + want.size <= room):
            served.ledger.take(want)
            cids.append(want.cid)
            size += want.size
            served.active.add(want.cid.multihash)
            if len(self._peers) > 1:
                self._copies.sent(want.cid)
        self._clock = max(self._clock, served.served)
        served.served += size
        served.active_bytes += size
        self._total += size
        if not served.proven:
            self._total_unproven += size
        self._next_id += 1
        message = SendBlocks(
            id=self._next_id, peer=peer, cids=tuple(cids), size=size, pending_bytes=served.ledger.held_bytes()
        )
        self._sending[message.id] = (message, served, now)
        return message

    def _end(self, message: SendBlocks, served: _Served) -> bool:
        """A message is no longer on its way; False when its peer has gone since, even if it has come back."""
        if self._peers.get(message.peer) is not served:
            return False
        served.active.difference_update(cid.multihash for cid in message.cids)
        served.active_bytes -= message.size
        self._total -= message.size
        if not served.proven:
            self._total_unproven -= message.size
        return True

    def _activate(self, served: _Served, *, was_idle: bool) -> None:
        """A peer that had nothing to wait for starts level with the others: silence earns no credit."""
        if was_idle and not served.active:
            served.served = max(served.served, self._clock)

    def _look_up(self, peer: PeerId, served: _Served) -> None:
        """One look-up a peer at a time; what comes meanwhile goes into the next."""
        if served.looking is None and served.incoming:
            served.looking, served.incoming = served.incoming, {}
            self._effects.append(LookUp(peer=peer, cids=tuple(want.cid for want in served.looking.values())))

    def _miss(self, peer: PeerId, served: _Served, want: Want) -> None:
        multihash = want.cid.multihash
        self._absent.setdefault(multihash, {})[peer] = None
        self._unwait(peer, served.ledger.miss(want))
        if want.send_dont_have:
            self._say(peer, served, Presence(want.cid, False))

    def _cancel(self, peer: PeerId, served: _Served, multihash: bytes) -> None:
        served.ledger.cancel(multihash)
        self._unwait(peer, (multihash,))
        served.presences.pop(multihash, None)
        if served.incoming.pop(multihash, None) is not None:
            self._waiting -= 1
        if served.looking is not None and served.looking.pop(multihash, None) is not None:
            self._waiting -= 1

    def _say(self, peer: PeerId, served: _Served, presence: Presence) -> None:
        if len(served.presences) >= self._parameters.presences:
            return
        if not served.presences:
            self._effects.append(PresencesReady(peer=peer))
        served.presences[presence.cid.multihash] = presence

    def _unwait(self, peer: PeerId, absent: Sequence[bytes]) -> None:
        """These wants of the peer no longer wait for a block to come."""
        for multihash in absent:
            waiting = self._absent.get(multihash)
            if waiting is not None:
                waiting.pop(peer, None)
                if not waiting:
                    del self._absent[multihash]


def _may_be_a_block(cid: Cid) -> bool:
    """Whether a store could have this block: identity CIDs carry their data themselves."""
    try:
        multihashes.check_allowed(cid.multihash)
    except DecodeError:
        return False
    return cid.hash_code != multihashes.IDENTITY
