"""The server's side: whose wants are answered next, and with what. Pure.

Peers are served in turns by bytes, so that a greedy one waits while others catch up; within a peer by priority, then what was
sent to the fewest (`copies.py`), then by age.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from stack.bitswap.copies import Copies
from stack.bitswap.effects import EngineEffect, LookUp, PresencesReady, SendBlocks
from stack.bitswap.ledger import HeldWant, Ledger, held_want, is_answered_by_block, may_be_a_block
from stack.bitswap.messages import WANTS_PER_MESSAGE_MAX, Presence, Want
from stack.bitswap.served_peer import EngineParameters, Sending, ServedPeer
from stack.blocks.interfaces import BLOCK_SIZE_MAX, RealmId
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid

__all__ = ["Engine", "EngineParameters", "LookUp", "PresencesReady", "SendBlocks"]

CROWDED_OUT = 64
"""Wants that whoever has most of them loses at a time to one that has fewer."""


class Engine:
    """Getters: `ledger`, `wants`, `awaits`. Facts: `peer_*`, `realm_opened`, `receive_wants`, `looked_up`, `blocks_added`, `message_*`,
    `presences_failed`, `count_received`. Outputs: `next_effect`, `take_presences`.
    """

    def __init__(self, parameters: EngineParameters | None = None) -> None:
        self._parameters = parameters if parameters is not None else EngineParameters()
        self._peers: dict[PeerId, ServedPeer] = {}
        self._absent: dict[bytes, dict[PeerId, None]] = {}
        """Who waits for a block that is not here."""
        self._sending: dict[int, Sending] = {}
        self._look_ups: dict[int, tuple[LookUp, ServedPeer]] = {}
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

    def awaits(self, id: int) -> bool:
        """Somebody still waits for the answer to this LookUp."""
        look_up, served = self._look_ups[id]
        return self._peers.get(look_up.peer) is served and bool(served.looking)

    # facts

    def peer_connected(self, peer: PeerId) -> None:
        """From now on its wants are taken."""
        self._peers.setdefault(peer, ServedPeer(self._parameters))

    def peer_disconnected(self, peer: PeerId) -> None:
        """Everything it wanted is forgotten at once (A45)."""
        served = self._peers.pop(peer, None)
        if served is None:
            return
        self._unwait(peer, served.ledger.clear())
        self._waiting -= len(served.incoming) + len(served.looking or ())
        self._total -= served.charged + served.charged_unproven
        self._total_unproven -= served.charged_unproven

    def peer_admitted(self, peer: PeerId, realms: frozenset[RealmId]) -> None:
        """It may enter these realms from now on: what it wanted before is looked for anew."""
        served = self._peers.get(peer)
        if served is not None and not realms <= served.admitted:
            served.admitted |= realms
            self._look_again(peer, served)

    def realm_opened(self) -> None:
        """What was for few is for everybody now: what all wanted before is looked for anew."""
        for peer, served in self._peers.items():
            self._look_again(peer, served)

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
            served.active = dict.fromkeys(served.active, False)
        room = True
        for want in wants:
            multihash = want.cid.multihash
            if want.cancel:
                self._cancel(peer, served, multihash)
            elif multihash in served.active:
                served.active[multihash] = True
            elif multihash in served.incoming:
                served.incoming[multihash] = want
            elif room and may_be_a_block(want.cid):
                room = self._make_room(served)
                if room:
                    served.incoming[multihash] = want
                    self._waiting += 1
        self._look_up(peer, served)

    def looked_up(self, id: int, sizes: Sequence[int | None]) -> None:
        """What the store said to a LookUp. Wants withdrawn in between are passed over, and so is what was asked for a
        connection that has ended."""
        look_up, served = self._look_ups.pop(id)
        peer, cids = look_up.peer, look_up.cids
        if self._peers.get(peer) is not served or served.looking is None:
            return
        looking, served.looking = served.looking, None
        if look_up.admitted != served.admitted:
            # It has proved more meanwhile: the answer was for who it was before.
            self._waiting -= len(looking.keys() & served.incoming.keys())
            served.incoming = {**looking, **served.incoming}
            self._look_up(peer, served)
            return
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

    def blocks_added(self, cids: Sequence[Cid], sizes: Sequence[int], realms: frozenset[RealmId] | None = None) -> None:
        """Blocks that are now in the store: whoever waits for one, and may enter one of these realms (None: everybody), gets it."""
        for cid, size in zip(cids, sizes, strict=True):
            for peer in tuple(self._absent.get(cid.multihash, ())):
                served = self._peers[peer]
                if realms is not None and served.admitted.isdisjoint(realms):
                    continue
                self._unwait(peer, (cid.multihash,))
                want = served.ledger.take_absent(cid.multihash)
                if is_answered_by_block(want, size, self._parameters.have_replace):
                    was_idle = not served.ledger.held
                    self._unwait(peer, served.ledger.hold([held_want(want, size)]))
                    self._activate(served, was_idle=was_idle)
                else:
                    self._say(peer, served, Presence(want.cid, True))

    def message_sent(self, id: int, missing: Sequence[Cid], size: int, now: float) -> None:
        """A SendBlocks is done: `size` bytes of blocks went, the blocks in `missing` could not be read."""
        sending = self._sending.pop(id)
        served, message = sending.served, sending.message
        if not self._end(sending):
            return
        served.ledger.count_sent(len(message.cids) - len(missing), size)
        for cid in missing:
            # Damaged, deleted, or received but not yet kept: should it come, the peer gets it.
            self._miss(message.peer, served, Want(cid, send_dont_have=True))
        if size:
            served.message_taken(size, now - sending.began, sending.taken, self._parameters)

    def message_failed(self, id: int, now: float, *, ours: bool = False) -> float:
        """A SendBlocks could not be sent, `ours`: for want of memory here. What the peer still wants of it goes back to what
        it waits for; the time is returned from which on it is sent again."""
        sending = self._sending.pop(id)
        served, message = sending.served, sending.message
        self._copies.failed(message.cids)
        active = dict(served.active)
        if not self._end(sending):
            return now
        lost = [want for want in sending.wants if active.get(want.cid.multihash)]
        self._unwait(message.peer, served.ledger.hold(lost))
        served.message_failed(now, ours=ours)
        return served.again_at

    def presences_failed(self, peer: PeerId, presences: Iterable[Presence]) -> None:
        """What was taken with `take_presences` could not be sent."""
        served = self._peers.get(peer)
        if served is not None:
            for presence in presences:
                if presence.cid.multihash not in served.presences:
                    self._say(peer, served, presence)

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
        peer = self._next_peer(now)
        return self._pack(peer, now) if peer is not None else None

    def take_presences(self, peer: PeerId, limit: int) -> tuple[Presence, ...]:
        """At most `limit` presences to send to a peer now."""
        served = self._peers.get(peer)
        if served is None:
            return ()
        taken = list(served.presences)[:limit]
        return tuple(served.presences.pop(multihash) for multihash in taken)

    # decisions

    def _next_peer(self, now: float) -> PeerId | None:
        """The least served of those who want blocks and have room."""
        best: PeerId | None = None
        least = 0
        most = self._parameters.peers_at_once
        busy = most is not None and sum(bool(served.active) for served in self._peers.values()) >= most
        for peer, served in self._peers.items():
            if busy and not served.active:
                continue
            if (
                served.ledger.held
                and (best is None or served.served < least)
                and self._in_pieces(served, now) is not None
            ):
                best, least = peer, served.served
        return best

    def _in_pieces(self, served: ServedPeer, now: float) -> bool | None:
        """Whether the next message to a peer is sent a piece at a time; None when none is to go now.

        Who has proved to read is sent pieces too while others fill what there is for whole messages: nobody is kept out.
        """
        want = served.ledger.peek()
        if want is None or now < served.again_at:
            return None
        if served.is_proven(self._parameters) and self._total - self._total_unproven < self._parameters.total:
            least = want.size
            if served.takes_all(self._parameters):
                # A short message between long ones would cost as much as they do.
                longest = min(self._parameters.message_most, served.allowance // 2)
                least = max(least, min(longest, want.size * served.ledger.held))
            fits = not served.active or served.active_bytes + least <= served.allowance
            return False if fits else None
        return True if not served.active and self._total_unproven < self._parameters.total_unproven else None

    def _pack(self, peer: PeerId, now: float) -> SendBlocks:
        """One message for this peer: at least one block, then as many as fit."""
        served = self._peers[peer]
        in_pieces = bool(self._in_pieces(served, now))
        wants: list[HeldWant] = []
        size = 0
        most = self._parameters.message_most if served.takes_all(self._parameters) else self._parameters.message
        room = min(most, served.allowance - served.active_bytes)
        if in_pieces:
            room = min(room, self._parameters.piece)
        while (want := self._copies.least(served.ledger)) is not None and (not wants or size + want.size <= room):
            served.ledger.take(want)
            wants.append(want)
            size += want.size
            served.active[want.cid.multihash] = True
            if len(self._peers) > 1:
                self._copies.sent(want.cid)
        charged = min(size, self._parameters.piece) if in_pieces else size
        self._clock = max(self._clock, served.served)
        served.served += size
        served.active_bytes += size
        self._charge(served, charged, in_pieces=in_pieces)
        self._next_id += 1
        message = SendBlocks(
            id=self._next_id,
            peer=peer,
            cids=tuple(want.cid for want in wants),
            size=size,
            pending_bytes=served.ledger.held_bytes(),
            in_pieces=in_pieces,
        )
        self._sending[message.id] = Sending(message, served, tuple(wants), now, served.taken, charged)
        return message

    def _end(self, sending: Sending) -> bool:
        """A message is no longer on its way; False when its peer has gone since, even if it has come back."""
        served, message = sending.served, sending.message
        if self._peers.get(message.peer) is not served:
            return False
        for cid in message.cids:
            served.active.pop(cid.multihash, None)
        served.active_bytes -= message.size
        self._charge(served, -sending.charged, in_pieces=message.in_pieces)
        return True

    def _charge(self, served: ServedPeer, size: int, *, in_pieces: bool) -> None:
        self._total += size
        if in_pieces:
            self._total_unproven += size
            served.charged_unproven += size
        else:
            served.charged += size

    def _activate(self, served: ServedPeer, *, was_idle: bool) -> None:
        """A peer that had nothing to wait for starts level with the others: silence earns no credit."""
        if was_idle and not served.active:
            served.served = max(served.served, self._clock)

    def _make_room(self, served: ServedPeer) -> bool:
        """Whether one more want of this peer may wait for the index; who has most of them makes room for who has fewer."""
        if len(served.incoming) >= WANTS_PER_MESSAGE_MAX:
            return False
        if self._waiting < self._parameters.lookups:
            return True
        most = max(self._peers.values(), key=lambda other: len(other.incoming))
        if len(most.incoming) <= len(served.incoming) + CROWDED_OUT:
            return False
        for _ in range(CROWDED_OUT):
            most.incoming.popitem()
        self._waiting -= CROWDED_OUT
        return True

    def _look_up(self, peer: PeerId, served: ServedPeer) -> None:
        """One look-up a peer at a time; what comes meanwhile goes into the next."""
        if served.looking is not None or not served.incoming:
            return
        if len(served.incoming) <= self._parameters.lookup:
            served.looking, served.incoming = served.incoming, {}
        else:
            first = list(islice(served.incoming, self._parameters.lookup))
            served.looking = {multihash: served.incoming.pop(multihash) for multihash in first}
        self._next_id += 1
        cids = tuple(want.cid for want in served.looking.values())
        look_up = LookUp(id=self._next_id, peer=peer, cids=cids, admitted=served.admitted)
        self._look_ups[look_up.id] = look_up, served
        self._effects.append(look_up)

    def _look_again(self, peer: PeerId, served: ServedPeer) -> None:
        """What it waits for may be here for it now; that it is not has been said."""
        wants = served.ledger.take_all_absent()
        self._unwait(peer, [want.cid.multihash for want in wants])
        for want in wants:
            if want.cid.multihash not in served.incoming:
                served.incoming[want.cid.multihash] = replace(want, send_dont_have=False)
                self._waiting += 1
        self._look_up(peer, served)

    def _miss(self, peer: PeerId, served: ServedPeer, want: Want) -> None:
        multihash = want.cid.multihash
        self._absent.setdefault(multihash, {})[peer] = None
        self._unwait(peer, served.ledger.miss(want))
        if want.send_dont_have:
            self._say(peer, served, Presence(want.cid, False))

    def _cancel(self, peer: PeerId, served: ServedPeer, multihash: bytes) -> None:
        served.ledger.cancel(multihash)
        self._unwait(peer, (multihash,))
        served.presences.pop(multihash, None)
        if multihash in served.active:
            served.active[multihash] = False
        if served.incoming.pop(multihash, None) is not None:
            self._waiting -= 1
        if served.looking is not None and served.looking.pop(multihash, None) is not None:
            self._waiting -= 1

    def _say(self, peer: PeerId, served: ServedPeer, presence: Presence) -> None:
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
