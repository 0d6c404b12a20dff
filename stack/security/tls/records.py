"""The records of TLS 1.3 after the handshake: sealed and opened in place, as the frames of Noise are.

Source: RFC 8446, sections 4.6, 5, 6 and 7.2. A record is `[type, version, 2-byte length | ciphertext | tag]`, and the last byte
of the plaintext that is not zero says what it is. OpenSSL does the handshake; from its keys on this is ours, because through
its memory BIO each byte is copied three times more, and costs twice as much.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from stack.errors import LocalProtocolError, SecurityError
from stack.sansio.interfaces import Buffer
from stack.security.in_place import NONCE_BYTES, TAG_BYTES, Cipher, works_in_place
from stack.values import dataclass

HEADER_BYTES = 5
CONTENT_BYTES_MAX = 1 << 14
"""RFC 8446, 5.1: of the plaintext of one record."""
RECORD_BYTES_MAX = CONTENT_BYTES_MAX + 256
"""5.2: behind the header, with whatever padding the peer likes."""

OVERHEAD_BYTES = HEADER_BYTES + 1 + TAG_BYTES
"""Around the plaintext of a record."""
PAYLOAD_BYTES_MAX = 65519
"""Sealed at a time, as four records: as much as Noise does, so that a full frame of yamux is one here too. With a frame a record the
receiver needed a third more processor time."""
RECORDS_MAX = -(-PAYLOAD_BYTES_MAX // CONTENT_BYTES_MAX)

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
"""Types of content."""
VERSION = b"\x03\x03"

NEW_SESSION_TICKET, KEY_UPDATE = 4, 24
"""Handshake messages that may come later."""
MESSAGE_BYTES_MAX = 1 << 14
"""Of such a message: a ticket, which we do not use."""
KEY_UPDATE_MESSAGE = bytes((KEY_UPDATE, 0, 0, 1, 0))
"""We change our key; the peer need not."""
KEY_UPDATE_BYTES = HEADER_BYTES + len(KEY_UPDATE_MESSAGE) + 1 + TAG_BYTES

RECORDS_OF_KEY = 1 << 23
"""5.5: of full records at most 2^24.5 are safe under one key of AES-GCM; we change ours long before."""

IDLE_RECORDS_MAX = 16
"""One after the other without a byte of application data (Go's limit): each may cost us a new key."""

CLOSE_NOTIFY, USER_CANCELED, BAD_CERTIFICATE = 0, 90, 42
ALERTS = {
    10: "unexpected message",
    20: "bad record MAC",
    22: "record overflow",
    40: "handshake failure",
    BAD_CERTIFICATE: "bad certificate",
    43: "unsupported certificate",
    44: "certificate revoked",
    45: "certificate expired",
    46: "certificate unknown",
    47: "illegal parameter",
    48: "unknown certificate authority",
    49: "access denied",
    50: "decode error",
    51: "decrypt error",
    70: "protocol version",
    71: "insufficient security",
    80: "internal error",
    109: "missing extension",
    110: "unsupported extension",
    116: "certificate required",
    120: "no application protocol",
}
"""RFC 8446, 6.2; what a peer that refuses our certificate says comes first behind the handshake."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A row of `SUITES`."""

    kind: Callable[[bytes], Cipher]
    key_bytes: int
    hash: Callable[[], hashes.HashAlgorithm]


SUITES = {
    "TLS_AES_128_GCM_SHA256": Suite(AESGCM, 16, hashes.SHA256),
    "TLS_CHACHA20_POLY1305_SHA256": Suite(ChaCha20Poly1305, 32, hashes.SHA256),
    "TLS_AES_256_GCM_SHA384": Suite(AESGCM, 32, hashes.SHA384),
}
"""Preferred first."""


class _Direction:
    """Key, nonces and their change in one direction (RFC 8446, 5.3, 7.2, 7.3)."""

    __slots__ = ("_iv", "_secret", "_suite", "cipher", "in_place", "records")

    def __init__(self, suite: Suite, secret: bytes) -> None:
        self._suite = suite
        self.in_place = works_in_place(suite.kind)
        self._begin(secret)

    def _begin(self, secret: bytes) -> None:
        self._secret = secret
        self.cipher = self._suite.kind(self._expand("key", self._suite.key_bytes))
        self._iv = int.from_bytes(self._expand("iv", NONCE_BYTES))
        self.records = 0

    def change_key(self) -> None:
        """On to the next secret; nothing leads back to this one."""
        self._begin(self._expand("traffic upd", len(self._secret)))

    def nonce(self) -> bytes:
        """Of the next record."""
        return (self._iv ^ self.records).to_bytes(NONCE_BYTES)

    def _expand(self, label: str, size: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = size.to_bytes(2) + bytes((len(name),)) + name + b"\0"
        return HKDFExpand(self._suite.hash(), size, info).derive(self._secret)


class TlsSession:
    """Both directions of a finished handshake; a `CipherSession`.

    Commands: `seal`, `seal_alert`. Facts: `open`. After an error the session refuses everything, so that nothing is ever decrypted
    behind a forged record, and no nonce is used for two texts. After the peer's close_notify whatever comes is passed over.
    """

    __slots__ = (
        "_broken",
        "_ended",
        "_idle",
        "_message",
        "_receive",
        "_send",
        "_update_owed",
        "payload_max",
        "prefix",
        "suffix",
    )

    def __init__(self, suite: str, send_secret: bytes, receive_secret: bytes, *, sent: int = 0) -> None:
        """`sent` records have been sealed under the first key already: tickets, which OpenSSL sends behind its handshake."""
        self.prefix = HEADER_BYTES
        self.suffix = RECORDS_MAX * OVERHEAD_BYTES - HEADER_BYTES + KEY_UPDATE_BYTES
        self.payload_max = PAYLOAD_BYTES_MAX
        self._send = _Direction(SUITES[suite], send_secret)
        self._send.records = sent
        self._receive = _Direction(SUITES[suite], receive_secret)
        self._update_owed = False
        self._broken = ""
        self._ended = False
        self._idle = 0
        self._message = bytearray()

    def __repr__(self) -> str:
        return f"<TlsSession {self._send.records} records sent, {self._receive.records} received>"

    def seal(self, frame: memoryview, size: int) -> int:
        """Encrypt `frame[5 : 5 + size]` in place and return the length of the records, 22 more for each; with a change of our key in
        front of them, when one is due, 27 more.

        Raises LocalProtocolError on a size out of bounds; SecurityError when the cipher fails: `frame` holds anything then, and
        is the last.
        """
        if not 0 <= size <= PAYLOAD_BYTES_MAX or len(frame) < self.prefix + size + self.suffix:
            raise LocalProtocolError(f"{size} bytes in a frame of {len(frame)}, {PAYLOAD_BYTES_MAX} are allowed")
        if self._broken:
            raise SecurityError(self._broken)
        if self._update_owed or self._send.records >= RECORDS_OF_KEY:
            return self._seal_behind_update(frame, size)
        return self._seal_data(frame, size)

    def seal_alert(self, code: int) -> bytes:
        """A record that ends the connection and says why."""
        record = memoryview(bytearray(HEADER_BYTES + 2 + 1 + TAG_BYTES))
        record[HEADER_BYTES : HEADER_BYTES + 2] = bytes((2, code))
        self._seal(record, 2, ALERT)
        return bytes(record)

    def open(self, data: memoryview) -> tuple[int, memoryview] | None:
        """Decrypt the first record of `data` in place: (bytes consumed, plaintext), or None when it is cut short. The plaintext is
        empty where the record was not application data.

        Raises SecurityError when the record is forged or not allowed here, and when the peer says that it gives up.
        """
        if self._broken:
            raise SecurityError(self._broken)
        if self._ended:
            return (len(data), data[:0]) if data else None
        if len(data) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + (data[3] << 8 | data[4])
        if data[0] != APPLICATION_DATA or not HEADER_BYTES + TAG_BYTES < end <= HEADER_BYTES + RECORD_BYTES_MAX:
            raise self._break("a TLS record that is not encrypted, or of no allowed size")
        if len(data) < end:
            return None
        receive = self._receive
        plaintext = data[HEADER_BYTES : end - TAG_BYTES]
        ciphertext: Buffer = data[HEADER_BYTES:end]
        if not receive.in_place:
            ciphertext = bytes(ciphertext)
        try:
            receive.cipher.decrypt_into(receive.nonce(), ciphertext, data[:HEADER_BYTES], plaintext)
        except InvalidTag as error:
            raise self._break("a TLS record is forged or damaged") from error
        receive.records += 1
        size = len(plaintext) - 1
        if plaintext[size] == 0:  # padding, which nobody we know sends
            size = len(bytes(plaintext).rstrip(b"\0")) - 1
        if size < 0 or size > CONTENT_BYTES_MAX:
            raise self._break("a TLS record without content, or with too much")
        if plaintext[size] == APPLICATION_DATA and size and not self._message:
            self._idle = 0
            return end, plaintext[:size]
        self._receive_other(plaintext[size], bytes(plaintext[:size]))
        return end, plaintext[:0]

    def _seal_data(self, frame: memoryview, size: int) -> int:
        """In records of at most 16 KiB; but for the first, their plaintexts are moved apart for what stands between them."""
        pieces = range(CONTENT_BYTES_MAX, size, CONTENT_BYTES_MAX)
        for number, start in reversed([*enumerate(pieces, 1)]):
            start += HEADER_BYTES
            end = min(start + CONTENT_BYTES_MAX, HEADER_BYTES + size)
            shift = number * OVERHEAD_BYTES
            frame[start + shift : end + shift] = frame[start:end]
        sealed = self._seal(frame, min(size, CONTENT_BYTES_MAX), APPLICATION_DATA)
        for start in pieces:
            sealed += self._seal(frame[sealed:], min(size - start, CONTENT_BYTES_MAX), APPLICATION_DATA)
        return sealed

    def _seal(self, frame: memoryview, size: int, kind: int) -> int:
        send = self._send
        length = size + 1 + TAG_BYTES
        header = bytes((APPLICATION_DATA, 3, 3, length >> 8, length & 0xFF))
        frame[:HEADER_BYTES] = header
        end = HEADER_BYTES + size
        frame[end] = kind
        plaintext: Buffer = frame[HEADER_BYTES : end + 1]  # also the output, so that no byte is copied here
        if not send.in_place:
            plaintext = bytes(plaintext)
        nonce = send.nonce()
        # Used up by the attempt: what is half encrypted must not be encrypted again.
        send.records += 1
        try:
            send.cipher.encrypt_into(nonce, plaintext, header, frame[HEADER_BYTES : HEADER_BYTES + length])
        except Exception as error:
            raise self._break(f"a record could not be encrypted: {error}") from error
        return HEADER_BYTES + length

    def _seal_behind_update(self, frame: memoryview, size: int) -> int:
        """RFC 8446, 4.6.3: the change of our key goes out before the next application data."""
        start = KEY_UPDATE_BYTES + HEADER_BYTES
        frame[start : start + size] = bytes(frame[HEADER_BYTES : HEADER_BYTES + size])
        frame[HEADER_BYTES : HEADER_BYTES + len(KEY_UPDATE_MESSAGE)] = KEY_UPDATE_MESSAGE
        self._seal(frame, len(KEY_UPDATE_MESSAGE), HANDSHAKE)
        self._send.change_key()
        self._update_owed = False
        return KEY_UPDATE_BYTES + self._seal_data(frame[KEY_UPDATE_BYTES:], size)

    def _receive_other(self, kind: int, content: bytes) -> None:
        """Alerts, later handshake messages, and application data of no bytes."""
        self._idle += 1
        if self._idle > IDLE_RECORDS_MAX:
            raise self._break(f"{self._idle} TLS records without a byte for us, one after the other")
        if kind == HANDSHAKE and content:
            self._receive_handshake(content)
        elif self._message:
            raise self._break("a handshake message that is interrupted by other records")
        elif kind == ALERT and len(content) == 2:
            self._receive_alert(content[1])
        elif kind != APPLICATION_DATA:
            raise self._break(f"a TLS record of an unexpected kind, {kind}")

    def _receive_handshake(self, content: bytes) -> None:
        self._message += content
        while len(self._message) >= 4:
            kind, size = self._message[0], int.from_bytes(self._message[1:4])
            if kind not in (NEW_SESSION_TICKET, KEY_UPDATE) or size > MESSAGE_BYTES_MAX:
                raise self._break(f"an unexpected handshake message, kind {kind}, {size} bytes")
            if len(self._message) < 4 + size:
                return
            body = bytes(self._message[4 : 4 + size])
            del self._message[: 4 + size]
            if kind == KEY_UPDATE:
                # 5.1: a message in front of a change of keys ends its record.
                if body not in (b"\0", b"\1") or self._message:
                    raise self._break("a damaged change of keys")
                self._receive.change_key()
                self._update_owed = self._update_owed or body == b"\1"

    def _receive_alert(self, code: int) -> None:
        if code == CLOSE_NOTIFY:
            self._ended = True
        elif code != USER_CANCELED:
            raise self._break(f"the peer ended the connection: {ALERTS.get(code, f'TLS alert {code}')}")

    def _break(self, why: str) -> SecurityError:
        self._broken = why
        return SecurityError(why)
