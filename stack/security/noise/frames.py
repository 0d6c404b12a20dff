"""The transport phase of Noise: frames sealed and opened in place.

Source: libp2p specs noise/README.md ("Wire Format", "Encryption and I/O"), Noise specification revision 34, sections
5.1 and 12. A frame is a 2-byte big-endian length, then the ciphertext, then 16 bytes of tag; the nonce is a counter.
"""

from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from stack.errors import LocalProtocolError, SecurityError
from stack.sansio.interfaces import Buffer
from stack.security.in_place import works_in_place

LENGTH_BYTES = 2
"""The big-endian length in front of each Noise message."""

TAG_BYTES = 16
"""Poly1305."""

MESSAGE_BYTES_MAX = 65535
"""Noise specification, section 3: no message is longer."""

PAYLOAD_BYTES_MAX = MESSAGE_BYTES_MAX - TAG_BYTES
"""65,519 bytes of plaintext fill one frame."""

FRAME_BYTES_MAX = LENGTH_BYTES + MESSAGE_BYTES_MAX

EMPTY_FRAMES_MAX = 100
"""One after the other: nobody has a reason to send any, and each costs as much as a small one that says something."""

NONCE_END = 2**64 - 1
"""Noise specification, section 5.1: this nonce is reserved; the session ends before it would be used."""

_nonce = Struct("<4xQ").pack
"""32 zero bits, then the counter in little-endian order (Noise specification, section 12.3)."""


class NoiseSession:
    """Both directions of a finished handshake; a `CipherSession`.

    Commands: `seal`. Facts: `open`. After an error the session refuses everything, so that nothing is ever decrypted
    behind a forged frame, and no nonce is used for two texts.
    """

    __slots__ = (
        "_broken",
        "_empty",
        "_in_place",
        "_receive",
        "_received",
        "_send",
        "_sent",
        "payload_max",
        "prefix",
        "suffix",
    )

    def __init__(self, send_key: bytes, receive_key: bytes) -> None:
        self.prefix = LENGTH_BYTES
        self.suffix = TAG_BYTES
        self.payload_max = PAYLOAD_BYTES_MAX
        self._send = ChaCha20Poly1305(send_key)
        self._receive = ChaCha20Poly1305(receive_key)
        self._sent = 0
        self._received = 0
        self._broken = False
        self._empty = 0
        self._in_place = works_in_place(ChaCha20Poly1305)

    def __repr__(self) -> str:
        return f"<NoiseSession {self._sent} frames sent, {self._received} received>"

    def seal(self, frame: memoryview, size: int) -> int:
        """Encrypt `frame[2 : 2 + size]` in place and return the frame's length, `size + 18`.

        Raises LocalProtocolError on a size out of bounds; SecurityError when the nonces are used up or the cipher fails:
        `frame` holds anything then, and is the last.
        """
        end = size + LENGTH_BYTES + TAG_BYTES
        if not 0 <= size <= PAYLOAD_BYTES_MAX or len(frame) < end:
            raise LocalProtocolError(f"a frame of {size} bytes, {PAYLOAD_BYTES_MAX} and {len(frame)} - 18 are allowed")
        nonce = self._sent
        if nonce >= NONCE_END:
            raise SecurityError("all nonces of this connection are used up")
        length = size + TAG_BYTES
        frame[0] = length >> 8
        frame[1] = length & 0xFF
        plaintext: Buffer = frame[2 : 2 + size]  # also the output, exactly, so that no byte is copied here
        if not self._in_place:
            plaintext = bytes(plaintext)
        # Used up by the attempt: what is half encrypted must not be encrypted again.
        self._sent = NONCE_END
        try:
            self._send.encrypt_into(_nonce(nonce), plaintext, None, frame[2:end])
        except Exception as error:
            raise SecurityError(f"a frame could not be encrypted: {error}") from error
        self._sent = nonce + 1
        return end

    def open(self, data: memoryview) -> tuple[int, memoryview] | None:
        """Decrypt the first frame of `data` in place: (bytes consumed, plaintext), or None when it is cut short.

        Raises SecurityError when the frame is forged, too short for a tag, beyond the last nonce, or one more without a byte.
        """
        if len(data) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + (data[0] << 8 | data[1])
        if self._broken:
            raise SecurityError("this connection received a forged frame before")
        if end < LENGTH_BYTES + TAG_BYTES:
            self._broken = True
            raise SecurityError("a Noise frame that is shorter than its tag")
        if len(data) < end:
            return None
        if self._received >= NONCE_END:
            raise SecurityError("all nonces of this connection are used up")
        ciphertext: Buffer = data[LENGTH_BYTES:end]
        if not self._in_place:
            ciphertext = bytes(ciphertext)
        plaintext = data[LENGTH_BYTES : end - TAG_BYTES]
        try:
            self._receive.decrypt_into(_nonce(self._received), ciphertext, None, plaintext)
        except InvalidTag as error:
            # The nonce is not advanced (CVE-2021-4239: flynn/noise did, and lost step).
            self._broken = True
            raise SecurityError("a Noise frame is forged or damaged") from error
        self._received += 1
        self._empty = 0 if plaintext else self._empty + 1
        if self._empty > EMPTY_FRAMES_MAX:
            self._broken = True
            raise SecurityError("Noise frames without end that say nothing")
        return end, plaintext
