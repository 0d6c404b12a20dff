"""The two sides of one proof, as machines. Pure. Source: docs/access.md.

teller -> asker   nonce (32)
asker -> teller   nonce (32) | key (16) | proof (32)
teller -> asker   proof (32); of one that does not know the secret, bytes that look like it
"""

import hmac
from collections.abc import Callable

from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.protocols.access.keyring import KEY_BYTES, access_key

PROTOCOL = "/stack/access/1.0.0"
NONCE_BYTES = 32
PROOF_BYTES = 32
ASKER_DOMAIN = b"stack/access/1 asker"
TELLER_DOMAIN = b"stack/access/1 teller"
"""Different, so that no side's proof is ever of use to the other side."""


def proof(domain: bytes, secret: bytes, asker: PeerId, teller: PeerId, asked: bytes, told: bytes) -> bytes:
    """A proof for one stream of one pair of peers: it is of no use between others, nor a second time. `asked` is the asker's nonce,
    `told` the teller's."""
    names = b"".join(len(name).to_bytes(2) + name for name in (bytes(asker), bytes(teller)))
    return hmac.digest(secret, domain + names + told + asked, "sha256")


class _Collector:
    """Bytes up to a length that is known."""

    def __init__(self, size: int) -> None:
        self._data = bytearray()
        self.size = size

    def receive(self, data: bytes) -> bytes | None:
        """All of it, once it is there. Raises RemoteProtocolError when the stream ends before, or more comes."""
        if not data:
            raise RemoteProtocolError("a proof of access was cut off")
        self._data += data
        if len(self._data) > self.size:
            raise RemoteProtocolError("a proof of access was too long")
        return bytes(self._data) if len(self._data) == self.size else None


class Teller:
    """Who was asked. Facts: `receive_data`. Outputs: `data_to_send`. Getters: `done`, `proved`."""

    def __init__(
        self,
        find: Callable[[bytes], bytes | None],
        *,
        asker: PeerId,
        teller: PeerId,
        nonce: bytes,
        decoy: bytes,
    ) -> None:
        """`find` gives the secret that a key stands for. `nonce` and `decoy` are random, and used for this stream only: with the decoy
        in place of the secret everything takes the same time, and gives bytes that say nothing."""
        self._find = find
        self._asker = asker
        self._teller = teller
        self._nonce = nonce
        self._decoy = decoy
        self._question = _Collector(NONCE_BYTES + KEY_BYTES + PROOF_BYTES)
        self._out = nonce
        self.done = False
        self.proved: bytes | None = None
        """The secret that the asker has proved to know."""

    def receive_data(self, data: bytes) -> None:
        """Bytes of the asker, b"" at its end. Raises RemoteProtocolError."""
        if self.done:
            raise RemoteProtocolError("a proof of access was too long")
        question = self._question.receive(data)
        if question is None:
            return
        self.done = True
        nonce, rest = question[:NONCE_BYTES], question[NONCE_BYTES:]
        known = self._find(rest[:KEY_BYTES])
        secret = self._decoy if known is None else known
        expected = proof(ASKER_DOMAIN, secret, self._asker, self._teller, nonce, self._nonce)
        right = hmac.compare_digest(expected, rest[KEY_BYTES:]) and known is not None
        self.proved = known if right else None
        answer = secret if right else self._decoy
        self._out += proof(TELLER_DOMAIN, answer, self._asker, self._teller, nonce, self._nonce)

    def data_to_send(self) -> bytes:
        """What is to go out now; empties what it returns."""
        out, self._out = self._out, b""
        return out


class Asker:
    """Who asks. Facts: `receive_data`. Outputs: `data_to_send`. Getters: `done`, `proved`."""

    def __init__(self, secret: bytes, *, asker: PeerId, teller: PeerId, nonce: bytes) -> None:
        """`nonce` is random and used for this stream only."""
        self._secret = secret
        self._asker = asker
        self._teller = teller
        self._nonce = nonce
        self._challenge: _Collector | None = _Collector(NONCE_BYTES)
        self._answer = _Collector(PROOF_BYTES)
        self._expected = b""
        self._out = b""
        self.done = False
        self.proved = False
        """The teller knows the secret too, and so that we know it."""

    def receive_data(self, data: bytes) -> None:
        """Bytes of the teller, b"" at its end. Raises RemoteProtocolError."""
        if self.done:
            raise RemoteProtocolError("a proof of access was too long")
        if self._challenge is not None:
            challenge = self._challenge.receive(data)
            if challenge is None:
                return
            self._challenge = None
            key = access_key(self._secret, self._teller)
            ours, self._expected = (
                proof(domain, self._secret, self._asker, self._teller, self._nonce, challenge)
                for domain in (ASKER_DOMAIN, TELLER_DOMAIN)
            )
            self._out += self._nonce + key + ours
            return
        answer = self._answer.receive(data)
        if answer is not None:
            self.done = True
            self.proved = hmac.compare_digest(answer, self._expected)

    def data_to_send(self) -> bytes:
        """What is to go out now; empties what it returns."""
        out, self._out = self._out, b""
        return out
