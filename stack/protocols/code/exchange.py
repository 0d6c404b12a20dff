"""The two sides of the exchange that turns a code into a key and hands a ticket over. Pure; each step takes some 5 ms.

taker -> giver   element (33)
giver -> taker   element (33)
taker -> giver   proof (32): it has the same key
giver -> taker   the ticket, sealed with the key

SPAKE2 is that of the library `spake2`: whoever does not know the code has one guess in each exchange, and learns nothing else.
"""

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.protocols.code.words import Code
from stack.sansio.interfaces import Randomness

ELEMENT_BYTES: Final = 33
"""`A` of a taker or `B` of a giver, and a point of Ed25519."""
PROOF_DOMAIN: Final = b"stack/code/1 taker"
SEAL_DOMAIN: Final = b"stack/code/1 ticket"
_NONCE: Final = bytes(12)
"""A key seals one ticket."""


class _Side:
    """What both do. `element` is for the other side."""

    def __init__(self, role: str, code: Code, taker: PeerId, giver: PeerId, random: Randomness) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B  # type: ignore[import-untyped] # it has no types; 60 ms, and few need it

        side = {"A": SPAKE2_A, "B": SPAKE2_B}[role]
        # Both ids are proved by the connection: who passes an exchange on between two others has another key with each.
        self._pake = side(code.password, idA=bytes(taker), idB=bytes(giver), entropy_f=random.randbytes)
        self.element: bytes = self._pake.start()
        self._key = b""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a code>"

    def _agree(self, element: bytes) -> None:
        from spake2.ed25519_basic import NotOnCurve  # type: ignore[import-untyped] # as above
        from spake2.spake2 import SPAKEError  # type: ignore[import-untyped] # as above

        if len(element) != ELEMENT_BYTES:
            raise RemoteProtocolError(f"an element of {len(element)} bytes")
        try:
            self._key = self._pake.finish(element)
        except (SPAKEError, NotOnCurve, ValueError) as error:
            raise RemoteProtocolError("what should be an element of the other side is none") from error

    def _derived(self, domain: bytes) -> bytes:
        return hmac.digest(self._key, domain, "sha256")


class Taker(_Side):
    """Who has typed the code. `agree`, then `open`."""

    def __init__(self, code: Code, *, taker: PeerId, giver: PeerId, random: Randomness) -> None:
        super().__init__("A", code, taker, giver, random)

    def agree(self, element: bytes) -> bytes:
        """The giver's element has come; returns the proof for it. Raises RemoteProtocolError."""
        self._agree(element)
        return self._derived(PROOF_DOMAIN)

    def open(self, sealed: bytes) -> bytes:
        """The ticket. Raises RemoteProtocolError when whoever sealed it has not the same key."""
        try:
            return ChaCha20Poly1305(self._derived(SEAL_DOMAIN)).decrypt(_NONCE, sealed, None)
        except InvalidTag as error:
            raise RemoteProtocolError("the other side does not know the code") from error


class Giver(_Side):
    """Who has the ticket. `agree` and `is_right`, then `seal`."""

    def __init__(self, code: Code, *, taker: PeerId, giver: PeerId, random: Randomness) -> None:
        super().__init__("B", code, taker, giver, random)

    def agree(self, element: bytes) -> None:
        """The taker's element has come. Raises RemoteProtocolError."""
        self._agree(element)

    def is_right(self, proof: bytes) -> bool:
        """Whether the taker has the same key, and so knows the code."""
        return bool(self._key) and hmac.compare_digest(proof, self._derived(PROOF_DOMAIN))

    def seal(self, ticket: bytes) -> bytes:
        """The ticket, for a taker whose proof is right and for nobody else."""
        return ChaCha20Poly1305(self._derived(SEAL_DOMAIN)).encrypt(_NONCE, ticket, None)
