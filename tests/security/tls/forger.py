"""One end of a TLS 1.3 handshake that shows whatever it is told to: no certificate, another's, bytes that are none.

RFC 8446 with one suite and one group, just enough to be answered. OpenSSL cannot play this part: it shows no certificate that it
cannot read, and none whose key it does not have.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | rsa.RSAPrivateKey
CLIENT_HELLO, SERVER_HELLO, ENCRYPTED, REQUEST, CERTIFICATE, VERIFY, FINISHED = 1, 2, 8, 13, 11, 15, 20
SCHEMES = bytes.fromhex("0403 0807 0808 0804 0401 0503 0603".replace(" ", ""))


def sized(data: bytes, length_bytes: int = 2) -> bytes:
    """With its length in front."""
    return len(data).to_bytes(length_bytes) + data


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + sized(body, 3)


def extension(number: int, data: bytes) -> bytes:
    return number.to_bytes(2) + sized(data)


def record(kind: int, data: bytes) -> bytes:
    return bytes((kind, 3, 3)) + sized(data)


def sign(key: object, data: bytes) -> tuple[int, bytes]:
    """A scheme of TLS that fits `key`, and a signature."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return 0x0403, key.sign(data, ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PrivateKey():
            return 0x0807, key.sign(data)
        case ed448.Ed448PrivateKey():
            return 0x0808, key.sign(data)
        case rsa.RSAPrivateKey():
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
            return 0x0804, key.sign(data, pss, hashes.SHA256())
    return 0x0403, bytes(70)


@dataclass(frozen=True, kw_only=True)
class Show:
    """What a forger shows."""

    certificates: Sequence[bytes]
    key: object = None
    """Signs the handshake."""
    context: str = ""
    """Said in that signature instead of what belongs there."""
    verify: Callable[[int, bytes], tuple[int, bytes] | None] = field(
        default=lambda scheme, signature: (scheme, signature)
    )
    """The signature as it is sent; None for no message at all."""
    finished: bytes = b""
    """Sent instead of the right one."""
    protocols: Sequence[bytes] = (b"/yamux/1.0.0", b"libp2p")
    version: int = 0x0304


class Forger:
    """Facts: `receive_data`. Outputs: `data_to_send`; `refused` when an alert came, `done` when it has said all it has to say."""

    def __init__(self, show: Show, *, outbound: bool) -> None:
        self._show = show
        self._outbound = outbound
        self._private = x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))
        self._share = sized(b"\0\x1d" + sized(self._private.public_key().public_bytes_raw()))
        self._transcript = b""
        self._in = self._messages = b""
        self._out = b""
        self._receive: AESGCM | None = None
        self._counts = [0, 0]
        self.alert: int | None = None
        self.done = False
        if outbound:
            extensions = [
                extension(43, sized(show.version.to_bytes(2), 1)),
                extension(10, sized(b"\0\x1d")),
                extension(51, sized(self._share[2:])),
                extension(13, sized(SCHEMES)),
            ]
            if show.protocols:
                extensions.append(extension(16, sized(b"".join(sized(name, 1) for name in show.protocols))))
            body = (
                b"\3\3" + bytes(32) + sized(b"", 1) + sized(b"\x13\x01") + sized(b"\0", 1) + sized(b"".join(extensions))
            )
            self._say(message(CLIENT_HELLO, body))

    def data_to_send(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def receive_data(self, data: bytes) -> None:
        self._in += data
        while len(self._in) >= 5 and len(self._in) >= 5 + int.from_bytes(self._in[3:5]):
            end = 5 + int.from_bytes(self._in[3:5])
            one, self._in = self._in[:end], self._in[end:]
            if one[0] == 23 and self._receive is not None:
                nonce = (self._receive_iv ^ self._counts[1]).to_bytes(12)
                self._counts[1] += 1
                try:
                    inner = self._receive.decrypt(nonce, one[5:], one[:5]).rstrip(b"\0")
                except InvalidTag:  # the other end has finished, and goes on with a key that is not needed here
                    return
                kind, content = inner[-1], inner[:-1]
            else:
                kind, content = one[0], one[5:]
            if kind == 21:
                self.alert = content[1]
            elif kind == 22:
                self._messages += content
                self._read_messages()

    def _read_messages(self) -> None:
        while not self.done and len(self._messages) >= 4:
            end = 4 + int.from_bytes(self._messages[1:4])
            if len(self._messages) < end:
                return
            one, self._messages = self._messages[:end], self._messages[end:]
            self._transcript += one
            self._answer(one[0], one[4:])

    def say(self, data: bytes) -> bytes:
        """Application data, as if all had gone well."""
        return self._seal(23, data)

    def _answer(self, kind: int, body: bytes) -> None:
        if kind == CLIENT_HELLO:
            session = body[35 : 35 + body[34]]
            extensions = extension(43, b"\3\4") + extension(51, self._share[2:])
            hello = b"\3\3" + bytes(range(32)) + sized(session, 1) + b"\x13\x01\0" + sized(extensions)
            # A client that knows post-quantum keys sends one of those and one of ours.
            at = body.index(b"\0\x1d\0\x20") + 4
            self._say(message(SERVER_HELLO, hello))
            self._agree(body[at : at + 32])
            names = self._show.protocols[:1]
            alpn = extension(16, sized(sized(names[0], 1))) if names else b""
            self._say(message(ENCRYPTED, sized(alpn)))
            self._say(message(REQUEST, b"\0" + sized(extension(13, sized(SCHEMES)))))
            self._prove()
            master = self._extract(self._derive(self._handshake, "derived", b""), bytes(32))
            self._change(master, "ap", sending_only=True)
            self.done = True
        elif kind == SERVER_HELLO:
            at = body.index(b"\0\x1d\0\x20") + 4
            self._agree(body[at : at + 32])
        elif kind == FINISHED:
            master = self._extract(self._derive(self._handshake, "derived", b""), bytes(32))
            transcript = self._transcript
            self._prove()
            self._change(master, "ap", transcript=transcript)
            self.done = True

    def _agree(self, share: bytes) -> None:
        secret = self._private.exchange(x25519.X25519PublicKey.from_public_bytes(share))
        early = self._extract(bytes(32), bytes(32))
        self._handshake = self._extract(self._derive(early, "derived", b""), secret)
        self._change(self._handshake, "hs")

    def _prove(self) -> None:
        show = self._show
        role = "client" if self._outbound else "server"
        entries = b"".join(sized(one, 3) + sized(b"") for one in show.certificates)
        self._say(message(CERTIFICATE, b"\0" + sized(entries, 3)))
        if show.certificates:
            said = show.context or f"TLS 1.3, {role} CertificateVerify"
            digest = hashlib.sha256(self._transcript).digest()
            verify = show.verify(*sign(show.key, b" " * 64 + said.encode() + b"\0" + digest))
            if verify is not None:
                self._say(message(VERIFY, verify[0].to_bytes(2) + sized(verify[1])))
        key = self._expand(self._own, "finished", b"")
        right = hmac.digest(key, hashlib.sha256(self._transcript).digest(), "sha256")
        self._say(message(FINISHED, show.finished or right))

    def _change(self, secret: bytes, stage: str, *, transcript: bytes = b"", sending_only: bool = False) -> None:
        transcript = transcript or self._transcript
        ends = [self._derive(secret, f"{role} {stage} traffic", transcript) for role in ("c", "s")]
        ours, theirs = ends if self._outbound else reversed(ends)
        self._own = ours
        self._send, self._send_iv = self._key(ours)
        self._counts[0] = 0
        if not sending_only:
            self._receive, self._receive_iv = self._key(theirs)
            self._counts[1] = 0

    def _key(self, secret: bytes) -> tuple[AESGCM, int]:
        return AESGCM(self._expand(secret, "key", b"", 16)), int.from_bytes(self._expand(secret, "iv", b"", 12))

    def _say(self, data: bytes) -> None:
        self._transcript += data
        if self._receive is None:
            self._out += record(22, data)
            return
        for start in range(0, len(data), 1 << 14):
            self._out += self._seal(22, data[start : start + (1 << 14)])

    def _seal(self, kind: int, data: bytes) -> bytes:
        header = bytes((23, 3, 3)) + (len(data) + 17).to_bytes(2)
        nonce = (self._send_iv ^ self._counts[0]).to_bytes(12)
        self._counts[0] += 1
        return header + self._send.encrypt(nonce, data + bytes((kind,)), header)

    def _extract(self, salt: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt, secret, "sha256")

    def _derive(self, secret: bytes, label: str, transcript: bytes) -> bytes:
        return self._expand(secret, label, hashlib.sha256(transcript).digest())

    def _expand(self, secret: bytes, label: str, context: bytes, size: int = 32) -> bytes:
        info = size.to_bytes(2) + sized(b"tls13 " + label.encode(), 1) + sized(context, 1)
        return HKDFExpand(hashes.SHA256(), size, info).derive(secret)
