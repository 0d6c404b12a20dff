"""What we know of other peers: addresses with an expiry, signed records, protocols. Bounded everywhere. Pure.

`now` is wall-clock time in seconds, because what is known here outlives the process. When that clock is set, what is known stays
good for as long as before: `clock_jumped`.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from stack.errors import StackError
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import open_peer_record
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import is_unspecified, unique
from stack.values import dataclass

ADDRESSES_PER_PEER_MAX = 64
"""go-libp2p's figure (A07)."""
ADDRESSES_AFTER_DISCONNECT_MAX = 20
"""go-libp2p keeps as many of a peer that has gone."""
DIALLED_MAX = 8
"""Of those, addresses that have led to the peer, which others' claims cannot push out."""
PEERS_MAX = 100_000
"""Peers remembered; the one that was not heard of for longest goes first, connected ones stay (A05, A07)."""
BYTES_MAX = 16 * 1024 * 1024
"""For all peers together, as they are reckoned by the next two; a peer may tell 64 addresses and a record of 8 KiB."""
ENTRY_BYTES = 512
"""Of a peer, beside its addresses and its record (measured)."""
ADDRESS_BYTES = 512
"""Of an address, beside its own bytes (measured)."""
RECORDS_MAX = 10_000
"""Signed records remembered."""
ADDRESS_BYTES_MAX = 512
"""The longest address that is kept; certhashes and relays fit."""
RECORD_BYTES_MAX = 8192
"""The longest signed record that is kept: one identify message."""
PROTOCOLS_MAX = 1024
"""go-libp2p's identify cap (A30)."""

CONNECTED_SECONDS = float("inf")
"""For as long as a connection lives."""
RECENT_SECONDS = 30 * 60.0
"""After the last connection has ended."""
DIALLED_SECONDS = 7 * 24 * 3600.0
"""An address that once led to the peer; what is worth keeping over a restart."""
HEARD_SECONDS = 10 * 60.0
"""Told by somebody, never tried."""


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer as plain data, for keeping over a restart: `addresses` pairs each text with its expiry (wall seconds)."""

    peer: str
    addresses: tuple[tuple[str, float], ...]
    record: bytes | None


@dataclass(slots=True)
class _Entry:
    told: dict[Multiaddr, float] = field(default_factory=dict)
    dialled: dict[Multiaddr, float] = field(default_factory=dict)
    certified: frozenset[Multiaddr] = frozenset()
    protocols: frozenset[str] | None = None
    agent: str | None = None
    connected: bool = False
    weight: int = 0
    """What it was last reckoned to take, in bytes."""


class Peerstore:
    """Facts: `add_addresses`, `replace_addresses`, `dialled`, `add_record`, `identified`, `peer_connected`, `peer_disconnected`,
    `clock_jumped`, `forget`. Getters: `addresses`, `was_dialled`, `record`, `protocols`, `agent`, `peers`.
    `export` and `load` carry it over a restart."""

    def __init__(self, *, peers_max: int = PEERS_MAX, records_max: int = RECORDS_MAX) -> None:
        self._peers: OrderedDict[PeerId, _Entry] = OrderedDict()
        self._records: OrderedDict[PeerId, tuple[int, bytes]] = OrderedDict()
        self._peers_max = peers_max
        self._records_max = records_max
        self._protocols: frozenset[str] = frozenset()
        """What was told last: peers of one program tell the same, and share it."""
        self._bytes = 0
        self._jumped = 0.0
        """Seconds by which the wall clock was set in all; expiries are kept as if it never had been."""

    def __len__(self) -> int:
        return len(self._peers)

    def peers(self) -> list[PeerId]:
        """All peers of whom anything is known, the least recently heard of first."""
        return list(self._peers)

    def add_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float, now: float) -> None:
        """Addresses (without `/p2p`) of a peer that are good for `ttl` seconds; an expiry is only ever moved later."""
        fresh = [a for a in unique(addresses) if len(bytes(a)) <= ADDRESS_BYTES_MAX and not is_unspecified(a)]
        if not fresh:
            return
        entry, now = self._entry(peer), now - self._jumped
        for address in fresh[:ADDRESSES_PER_PEER_MAX]:
            entry.told[address] = max(entry.told.get(address, now + ttl), now + ttl)
        _cap(entry.told, ADDRESSES_PER_PEER_MAX - DIALLED_MAX)
        self._weigh(peer)

    def replace_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float, now: float) -> None:
        """The peer itself has told all its addresses: what was told before is gone, what was dialled stays (A32)."""
        self._entry(peer).told = {}
        self.add_addresses(peer, addresses, ttl, now)

    def dialled(self, peer: PeerId, address: Multiaddr, now: float) -> None:
        """`address` has led to `peer`, by proof of identity: worth keeping for days."""
        entry = self._entry(peer)
        entry.dialled[address] = now - self._jumped + DIALLED_SECONDS
        _cap(entry.dialled, DIALLED_MAX)
        self._weigh(peer)

    def add_record(self, source: PeerId, envelope: bytes, ttl: float, now: float) -> bool:
        """A signed peer record told by `source`: taken only when it is the source's own (A05, A06) and newer than the
        last one. Its addresses replace what the peer told before. False when it is not taken."""
        if len(envelope) > RECORD_BYTES_MAX:
            return False
        try:
            record = open_peer_record(envelope)
        except StackError:
            return False
        if record.peer_id != source:
            return False
        known = self._records.get(source)
        if known is not None and record.sequence <= known[0]:
            return False
        self._records[source] = (record.sequence, bytes(envelope))
        self._records.move_to_end(source)
        if len(self._records) > self._records_max:
            oldest, _ = self._records.popitem(last=False)
            self._weigh(oldest)
        certified = unique(address.split_peer()[0] for address in record.addresses)[:ADDRESSES_PER_PEER_MAX]
        self.replace_addresses(source, certified, ttl, now)
        self._entry(source).certified = frozenset(certified)
        return True

    def identified(self, peer: PeerId, protocols: Iterable[str] | None, agent: str | None) -> None:
        """What identify told; None leaves what was known."""
        entry = self._entry(peer)
        if protocols is not None:
            told = frozenset(list(dict.fromkeys(protocols))[:PROTOCOLS_MAX])
            if told != self._protocols:
                self._protocols = told
            entry.protocols = self._protocols
        if agent is not None:
            entry.agent = agent[:128]

    def peer_connected(self, peer: PeerId) -> None:
        """The first connection is there: the peer is not evicted while it lives."""
        self._entry(peer).connected = True

    def peer_disconnected(self, peer: PeerId, now: float) -> None:
        """The last connection has ended: addresses that were good while connected now expire, and fewer are kept."""
        entry = self._peers.get(peer)
        if entry is None:
            return
        entry.connected = False
        entry.protocols = None
        for address, expiry in entry.told.items():
            entry.told[address] = min(expiry, now - self._jumped + RECENT_SECONDS)
        _cap(entry.told, ADDRESSES_AFTER_DISCONNECT_MAX)
        if not (entry.told or entry.dialled or peer in self._records):
            self.forget(peer)  # nobody can be found again by its name alone
        else:
            self._weigh(peer)

    def clock_jumped(self, seconds: float) -> None:
        """The wall clock was set by so much, or went on while the machine slept: nothing expires for that."""
        self._jumped += seconds

    def forget(self, peer: PeerId) -> None:
        """Drop everything about a peer."""
        entry = self._peers.pop(peer, None)
        self._records.pop(peer, None)
        self._bytes -= entry.weight if entry else 0

    def addresses(self, peer: PeerId, now: float) -> list[Multiaddr]:
        """Addresses that have not expired: what was dialled first, then certified ones, then by expiry, latest first.

        The others stay: we may have slept, and `clock_jumped` is yet to come."""
        entry = self._peers.get(peer)
        if entry is None:
            return []
        now -= self._jumped
        told = [address for address, expiry in entry.told.items() if expiry > now]
        dialled = [address for address, expiry in entry.dialled.items() if expiry > now]
        told.sort(key=lambda a: (a not in entry.certified, -entry.told[a]))
        return unique([*sorted(dialled, key=lambda a: -entry.dialled[a]), *told])

    def was_dialled(self, peer: PeerId, now: float) -> bool:
        """Whether an address that has not expired has led to the peer."""
        entry = self._peers.get(peer)
        return entry is not None and any(expiry > now - self._jumped for expiry in entry.dialled.values())

    def record(self, peer: PeerId) -> bytes | None:
        """The newest signed record of a peer, as it was received."""
        known = self._records.get(peer)
        return known[1] if known else None

    def protocols(self, peer: PeerId) -> frozenset[str] | None:
        """What identify told on the present connection, or None."""
        entry = self._peers.get(peer)
        return entry.protocols if entry else None

    def agent(self, peer: PeerId) -> str | None:
        """The name of the peer's program, as it says."""
        entry = self._peers.get(peer)
        return entry.agent if entry else None

    def export(self, now: float) -> list[PeerRow]:
        """What is worth keeping over a restart: every peer with an address that is still good."""
        rows = []
        for peer, entry in self._peers.items():
            kept = tuple(
                (str(address), min(expiry + self._jumped, now + DIALLED_SECONDS))
                for address, expiry in (entry.told | entry.dialled).items()
                if expiry + self._jumped > now
            )
            if kept:
                rows.append(PeerRow(str(peer), kept, self.record(peer)))
        return rows

    def load(self, rows: Sequence[PeerRow], now: float) -> None:
        """Take back what `export` gave; rows that make no sense are skipped, a file of ours may be damaged."""
        for row in rows:
            try:
                peer = PeerId.parse(row.peer)
                known: Mapping[Multiaddr, float] = {Multiaddr.parse(text): expiry for text, expiry in row.addresses}
            except StackError:
                continue
            if row.record is not None:
                self.add_record(peer, row.record, HEARD_SECONDS, now)
            for expiry in dict.fromkeys(known.values()):
                if now < expiry <= now + DIALLED_SECONDS:
                    addresses = [address for address, until in known.items() if until == expiry]
                    self.add_addresses(peer, addresses, expiry - now, now)

    def _entry(self, peer: PeerId) -> _Entry:
        entry = self._peers.get(peer)
        if entry is None:
            entry = self._peers[peer] = _Entry()
            self._weigh(peer)
        else:
            self._peers.move_to_end(peer)
        return entry

    def _weigh(self, peer: PeerId) -> None:
        """Something of this peer has changed: others are forgotten when all is too much now."""
        entry = self._peers.get(peer)
        if entry is None:
            return
        addresses = [*entry.told, *entry.dialled]
        weight = ENTRY_BYTES + sum(ADDRESS_BYTES + len(bytes(address)) for address in addresses)
        weight += len(self._records[peer][1]) if peer in self._records else 0
        self._bytes += weight - entry.weight
        entry.weight = weight
        newest = next(reversed(self._peers))
        while len(self._peers) > self._peers_max or self._bytes > BYTES_MAX:
            idle = (peer for peer, entry in self._peers.items() if not entry.connected and peer != newest)
            oldest = next(idle, None)
            if oldest is None:
                return
            self.forget(oldest)


def _cap(addresses: dict[Multiaddr, float], most: int) -> None:
    """Keep the `most` addresses that expire last."""
    if len(addresses) > most:
        kept = set(sorted(addresses, key=lambda address: addresses[address])[-most:])
        for address in [a for a in addresses if a not in kept]:
            del addresses[address]
