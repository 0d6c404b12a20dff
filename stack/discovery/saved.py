"""Peers of earlier runs: who was connected, where it could be dialled, when it was last seen. Pure.

Kept as one JSON document, so that a user can read what is remembered; a damaged one is an error that the caller tells.
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import replace

from stack.errors import DecodeError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.peerstore import ADDRESS_BYTES_MAX, DIALLED_SECONDS, RECORD_BYTES_MAX, PeerRow
from stack.values import dataclass

VERSION = 1
PEERS_MAX = 1000
"""With a record of 1 KiB each, the file has 2 MiB. First go those that only we were dialled by: anybody can do that with
any number of identities. Of these, and then of the others, the one seen last longest ago."""
ADDRESSES_MAX = 20
"""As many as the peerstore keeps of a peer that has gone."""
KEPT_SECONDS = DIALLED_SECONDS
"""After it was last seen."""
FILE_BYTES_MAX = 32 << 20
"""More than a full table of the longest records and addresses has."""


@dataclass(frozen=True, slots=True)
class SavedPeer:
    """One peer; `seen` is in wall-clock seconds, `addresses` come without `/p2p`."""

    peer: PeerId
    seen: float
    addresses: tuple[Multiaddr, ...]
    record: bytes | None = None
    """The signed record it gave, as it was received."""
    dialled: bool = False
    """One of the addresses has led to it."""


class SavedPeers:
    """Facts: `seen`. Getters: `all`, `recent`, `rows`, `encode`."""

    def __init__(self, peers: Sequence[SavedPeer] = ()) -> None:
        self._peers = {each.peer: each for each in sorted(peers, key=lambda each: each.seen)}
        self._bound()

    def __len__(self) -> int:
        return len(self._peers)

    def seen(self, peer: SavedPeer) -> None:
        """It is connected, or was until now. Without an address it is not kept: it could not be dialled."""
        if peer.addresses:
            self._peers.pop(peer.peer, None)
            self._peers[peer.peer] = replace(peer, addresses=peer.addresses[:ADDRESSES_MAX])
            self._bound()

    def all(self) -> list[SavedPeer]:
        """Everybody, the one seen last at the end."""
        return list(self._peers.values())

    def recent(self, now: float) -> list[SavedPeer]:
        """Those worth a dial: whom a dial has led to before the others, of each the one seen last first.

        One that was seen in the future is as good as any: the clock is wrong (a computer without a battery for it, that has not
        asked the time yet), or was then.
        """
        good = [each for each in reversed(self._peers.values()) if now - each.seen < KEPT_SECONDS]
        return sorted(good, key=lambda each: not each.dialled)

    def rows(self, now: float) -> list[PeerRow]:
        """For `Peerstore.load`."""
        return [
            PeerRow(
                str(each.peer),
                tuple((str(address), min(now, each.seen) + KEPT_SECONDS) for address in each.addresses),
                each.record,
            )
            for each in self.recent(now)
        ]

    def encode(self) -> bytes:
        """The file."""
        return encode_saved(self.all())

    def _bound(self) -> None:
        while len(self._peers) > PEERS_MAX:
            oldest = next(iter(self._peers))
            del self._peers[next((peer for peer, each in self._peers.items() if not each.dialled), oldest)]


def encode_saved(peers: Sequence[SavedPeer]) -> bytes:
    """The file of these: a fifth of a second's work for a full table."""
    rows = [
        {
            "peer": str(each.peer),
            "seen": round(each.seen),
            "addresses": [str(address) for address in each.addresses],
            "dialled": each.dialled,
            "record": base64.b64encode(each.record).decode() if each.record else None,
        }
        for each in peers
    ]
    return json.dumps({"version": VERSION, "peers": rows}, indent=1).encode() + b"\n"


def decode_saved(data: bytes) -> SavedPeers:
    """Read the file. Raises DecodeError when it is damaged, or of a newer version."""
    if len(data) > FILE_BYTES_MAX:
        raise DecodeError(f"{len(data)} bytes are more than it can have")
    try:
        document = json.loads(data)
        if document["version"] != VERSION:
            raise DecodeError(f"version {document['version']} is not known here")
        return SavedPeers([_peer(form) for form in document["peers"][-PEERS_MAX:]])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DecodeError(f"not a list of peers: {error!r}") from error


def _peer(form: dict[str, object]) -> SavedPeer:
    addresses, record, seen = form["addresses"], form["record"], form["seen"]
    if not isinstance(addresses, list) or not isinstance(seen, (int, float)) or not math.isfinite(seen):
        raise ValueError("a row has another form")
    raw = base64.b64decode(str(record), validate=True) if record is not None else None
    if raw is not None and len(raw) > RECORD_BYTES_MAX:
        raise ValueError("a record is too long")
    known = [Multiaddr.parse(str(text)) for text in addresses[:ADDRESSES_MAX]]
    return SavedPeer(
        PeerId.parse(str(form["peer"])),
        float(seen),
        tuple(address for address in known if len(bytes(address)) <= ADDRESS_BYTES_MAX),
        raw,
        form["dialled"] is True,
    )
