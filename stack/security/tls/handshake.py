"""The handshake of libp2p TLS: OpenSSL's, through memory, with a certificate that only we can judge.

Sources: libp2p specs tls/tls.md and connections/inlined-muxer-negotiation.md, RFC 8446. The standard library's `ssl` cannot ask
a client for a certificate that no authority has signed; `pyOpenSSL` can. This is its only importer, and it does the handshake
alone: its keys go to a `TlsSession`.
"""

from collections.abc import Sequence
from typing import cast

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from stack.errors import NegotiationError, SecurityError
from stack.identity.keys import PrivateKey, PublicKey
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.security.tls.certificate import BadCertificate, check_certificate, make_certificate
from stack.security.tls.records import (
    APPLICATION_DATA,
    BAD_CERTIFICATE,
    HEADER_BYTES,
    RECORD_BYTES_MAX,
    SUITES,
    TlsSession,
)
from stack.values import dataclass

NO_MUXER = "libp2p"
"""What ALPN agrees on when the muxer is to be negotiated afterwards; always offered last."""

HANDSHAKE_BYTES_MAX = 32 * 1024
"""From the peer, in all: its certificate has at most 8 KiB, the hello of one that knows post-quantum keys 2 KiB."""

CHAIN = "the peer sent more than one certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFinished:
    """Both ends have proved who they are."""

    remote_key: PublicKey
    """The host key of the peer."""
    remote_peer: PeerId
    """Derived from that key."""
    muxer: str | None
    """Agreed by ALPN; None when it is to be negotiated."""
    session: TlsSession
    """For all that follows."""


class TlsContext:
    """What all handshakes of a node have in common: a certificate, made once, and OpenSSL's settings for either end."""

    def __init__(self, identity: PrivateKey, key: ec.EllipticCurvePrivateKey) -> None:
        """`key` is drawn for this and never stored."""
        certificate = make_certificate(identity, key)
        self.outbound = _context(certificate, key)
        self.inbound = _context(certificate, key)
        self.inbound.set_alpn_select_callback(lambda connection, offered: _machine(connection).choose(offered))


def _context(certificate: object, key: ec.EllipticCurvePrivateKey) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)  # "Endpoints MUST NOT negotiate lower TLS versions"
    context.set_tls13_ciphersuites(":".join(SUITES).encode())
    # Every connection shows its certificate: nothing is resumed.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.use_privatekey(key)
    context.use_certificate(certificate)  # type: ignore[arg-type] # it is one
    context.set_verify(
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
        lambda connection, shown, error, depth, fine: _machine(connection).check(shown, depth),
    )
    # What others write down to look into their connections (NSS key log format): the only way to OpenSSL's secrets.
    context.set_keylog_callback(lambda connection, line: _machine(connection).learn(line))
    return context


def _machine(connection: SSL.Connection) -> "TlsHandshake":
    return cast(TlsHandshake, connection.get_app_data())


class TlsHandshake:
    """One end of the handshake; a `ByteMachine` of `HandshakeFinished`.

    Facts: `receive_data`. Outputs: `data_to_send`, `next_event`, then `leftover`. Command: `close`. Raises SecurityError for
    whatever is wrong with the peer, PeerIdMismatch when it is not `expected`, NegotiationError when it offers no protocol of
    ours; the handshake is over then. `wall` is the time by which certificates are judged, in seconds since 1970. OpenSSL draws
    its own randomness.
    """

    def __init__(
        self,
        context: TlsContext,
        *,
        outbound: bool,
        wall: float,
        muxers: Sequence[str] = (),
        expected: PeerId | None = None,
    ) -> None:
        self._outbound = outbound
        self._wall = wall
        self._muxers = tuple(muxers)
        self._offered = [*muxers, NO_MUXER]
        self._expected = expected
        self._received = bytearray()
        self._taken = 0
        self._to_send = bytearray()
        self._event: HandshakeFinished | None = None
        self._over = False
        self._failed = False
        self._remote_key: PublicKey | None = None
        self._secrets: dict[bytes, bytes] = {}
        self._tls = SSL.Connection(context.outbound if outbound else context.inbound, None)
        self._tls.set_app_data(self)
        if outbound:
            self._tls.set_connect_state()
            self._tls.set_alpn_protos([name.encode() for name in self._offered])
            self._advance()
        else:
            self._tls.set_accept_state()

    def __repr__(self) -> str:
        return f"<TlsHandshake {'out' if self._outbound else 'in'}bound, {'over' if self._over else 'going on'}>"

    @property
    def leftover(self) -> bytes:
        """Bytes received behind the handshake; they belong to the session."""
        return bytes(self._received)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; `b""` means it sends no more. Raises as the class says."""
        if self._failed:
            raise SecurityError("this handshake has failed before")
        self._received += data
        if self._over:
            return
        try:
            if not data:
                raise SecurityError("the peer closed during the handshake")
            while not self._over and (record := self._take()) is not None:
                self._tls.bio_write(record)
                self._advance()
        except BaseException:
            self._failed = True
            raise

    def next_event(self) -> HandshakeFinished | None:
        """The end of the handshake, once."""
        event, self._event = self._event, None
        return event

    def data_to_send(self) -> bytes:
        """Bytes to send now; after an error, what tells the peer of it."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def next_timeout(self) -> float | None:
        """Never: the caller sets one deadline for the whole upgrade."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """It is over, however it went: OpenSSL's side refers to this one no more."""
        self._tls.set_app_data(None)

    # What OpenSSL asks, in the middle of `_advance`; what is raised here ends the handshake, and comes out of `receive_data`.

    def choose(self, offered: Sequence[bytes]) -> bytes:
        """The dialler's first that we know too."""
        for name in offered:
            if name.decode("utf-8", "replace") in self._offered:
                return name
        raise NegotiationError(
            f"no muxer in common: we have {', '.join(self._offered)}, the peer {len(offered)} others"
        )

    def check(self, certificate: crypto.X509, depth: int) -> bool:
        """Whether the peer may be whom it shows. OpenSSL's own opinion, that no authority has signed it, is no matter."""
        if depth or len(self._tls.get_peer_cert_chain() or ()) > 1:
            raise BadCertificate(CHAIN)
        if self._remote_key is None:
            key = check_certificate(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate), self._wall)
            peer = PeerId.of(key)
            if self._expected is not None and peer != self._expected:
                raise PeerIdMismatch(self._expected, peer)
            self._remote_key = key
        return True

    def learn(self, line: bytes) -> None:
        """Keep a secret: `LABEL`, 32 bytes that name the session, and the secret itself, in hexadecimal."""
        label, _, secret = line.split(b" ")
        self._secrets[label] = bytes.fromhex(secret.decode())

    def _take(self) -> bytes | None:
        """The next record. One by one, so that nothing behind the handshake goes to OpenSSL."""
        if len(self._received) < HEADER_BYTES:
            return None
        size = HEADER_BYTES + int.from_bytes(self._received[3:HEADER_BYTES])
        if size > HEADER_BYTES + RECORD_BYTES_MAX or self._taken + size > HANDSHAKE_BYTES_MAX:
            raise SecurityError(f"no TLS, or a handshake of more than {HANDSHAKE_BYTES_MAX} bytes")
        if len(self._received) < size:
            return None
        record = bytes(self._received[:size])
        del self._received[:size]
        self._taken += size
        return record

    def _advance(self) -> None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush()
        except SSL.Error as error:
            self._flush()
            raise SecurityError(f"the TLS handshake failed: {_reason(error)}") from error
        except BaseException:
            self._flush()
            raise
        else:
            self._finish(self._flush())

    def _flush(self) -> bytes:
        """Take what OpenSSL has to say."""
        said = bytearray()
        try:
            while True:
                said += self._tls.bio_read(RECORD_BYTES_MAX)
        except SSL.WantReadError:
            self._to_send += said
            return bytes(said)

    def _finish(self, last: bytes) -> None:
        self._over = True
        # OpenSSL's server sends tickets, whatever its options: they are sealed under the key that we go on with.
        tickets = 0 if self._outbound else sum(kind == APPLICATION_DATA for kind in _kinds(last))
        ours, theirs = self._secrets[b"CLIENT_TRAFFIC_SECRET_0"], self._secrets[b"SERVER_TRAFFIC_SECRET_0"]
        if not self._outbound:
            ours, theirs = theirs, ours
        session = TlsSession(str(self._tls.get_cipher_name()), ours, theirs, sent=tickets)
        # A server is told of what was sent besides the client's certificate only now.
        if not self._outbound and self._tls.get_peer_cert_chain():
            self._to_send += session.seal_alert(BAD_CERTIFICATE)
            raise BadCertificate(CHAIN)
        assert self._remote_key is not None  # OpenSSL fails without a certificate, and `check` saw it
        protocol = self._tls.get_alpn_proto_negotiated().decode("utf-8", "replace")
        self._event = HandshakeFinished(
            remote_key=self._remote_key,
            remote_peer=PeerId.of(self._remote_key),
            muxer=protocol if protocol in self._muxers else None,
            session=session,
        )
        self._secrets.clear()


def _kinds(records: bytes) -> list[int]:
    """The outer types of records one after the other."""
    kinds, start = [], 0
    while start < len(records):
        kinds.append(records[start])
        start += HEADER_BYTES + int.from_bytes(records[start + 3 : start + HEADER_BYTES])
    return kinds


def _reason(error: SSL.Error) -> str:
    """In OpenSSL's words, which name what the peer did."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in queue) or "the peer ended it"
