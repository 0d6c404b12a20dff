"""The one place that knows aioquic: how it is set up, what we change in it, and the packets that belong to no connection.

Three things it has no public way for, so they go by its private names; `tests/transports/quic/test_library.py` fails when one changes:
a server that asks for the client's certificate, our own check of what a peer shows in place of authorities, and flow control by what
was read: of itself it grants more for whatever has come.
"""

from collections.abc import Callable, Sequence
from ssl import CERT_NONE

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import events as events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.quic.stream import QuicStream
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from stack.errors import SecurityError
from stack.identity.keys import PrivateKey, PublicKey
from stack.muxers.yamux.windows import WINDOW_INITIAL
from stack.security.tls.certificate import make_certificate
from stack.values import dataclass

VERSION = 1
"""RFC 9000: the only one that `quic-v1` means."""
ALPN = "libp2p"
ID_BYTES = 8
"""Of the connection ids that we choose."""
INITIAL_BYTES_MIN = SMALLEST_MAX_DATAGRAM_SIZE
"""A smaller datagram cannot begin a connection (RFC 9000, 14.1): what we answer to a made-up address is less than three times that."""
IDLE_SECONDS = 30.0
"""A connection on which nothing comes for so long is over (go-libp2p)."""
STREAMS_MAX = 256
"""Streams that a peer may have open; each that ends lets it open another (go-libp2p)."""
HANDSHAKE_BYTES_MAX = 32 * 1024
"""Of one epoch's CRYPTO frames, and how far apart they may lie: the library waits for 512 KiB. The largest certificate has 8 KiB."""
CONNECTION_WINDOW = 1024 * 1024
"""What may come out of order, on all streams of a connection together."""

Address = tuple[str, int] | tuple[str, int, int, int]
"""Of a socket's end."""
Check = Callable[[Sequence[bytes]], PublicKey]
"""The identity that certificates, in DER, prove. Raises SecurityError."""


class Credentials:
    """A certificate for a host key, and the key of the certificate, which is never stored: one per transport."""

    def __init__(self, identity: PrivateKey) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate: x509.Certificate = make_certificate(identity, self.key)


def _configuration(credentials: Credentials, *, outbound: bool) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        certificate=credentials.certificate,
        connection_id_length=ID_BYTES,
        idle_timeout=IDLE_SECONDS,
        is_client=outbound,
        max_data=WINDOW_INITIAL,
        max_stream_data=WINDOW_INITIAL,
        private_key=credentials.key,
        supported_versions=[VERSION],
        verify_mode=CERT_NONE,  # no authority: `Check` decides
    )


class LibraryConnection(QuicConnection):
    """aioquic's connection, with what libp2p needs besides."""

    def __init__(
        self,
        credentials: Credentials,
        check: Check,
        *,
        outbound: bool,
        original_id: bytes | None = None,
        retry_id: bytes | None = None,
    ) -> None:
        """`original_id`: what the first datagram of a client was sent to; `retry_id`: where our Retry has sent it."""
        super().__init__(
            configuration=_configuration(credentials, outbound=outbound),
            original_destination_connection_id=original_id,
            retry_source_connection_id=retry_id,
        )
        self._check = check
        self.remote_key: PublicKey | None = None
        """Whose certificate was good."""
        self.refusal: SecurityError | None = None
        """What was wrong with it."""
        self.fault: Exception | None = None
        """What nobody expected of the library; the connection is of no use then."""
        self.arrived = 0
        """Bytes of all streams that have come in order."""
        self.handed_over = 0
        """Bytes for streams so far, without those that were taken back when a stream was reset."""
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = STREAMS_MAX
        # libp2p has no streams of one direction.
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0

    # What the machine asks.

    @property
    def ending(self) -> events.ConnectionTerminated | None:
        """Why the connection is over or about to be: said at once, not after the time in which late packets may come."""
        return self._close_event

    @property
    def ended_by_peer(self) -> bool:
        """It has said so, itself."""
        return self._state is QuicConnectionState.DRAINING

    @property
    def out_of_order(self) -> int:
        """Bytes of memory behind gaps in streams, at most; within `CONNECTION_WINDOW`."""
        return self._local_max_data.used - self.arrived

    @property
    def round_trip(self) -> float:
        """Seconds, as the acknowledgements tell."""
        return self._loss._rtt_smoothed

    @property
    def owes(self) -> bool:
        """Something that was handed over has not arrived."""
        senders = [stream.sender for stream in self._streams.values()]
        return any(s._buffer or (s._buffer_fin is not None and not s.is_finished) for s in senders)

    @property
    def acknowledged(self) -> int:
        """Of `handed_over` what has arrived at the peer, behind gaps too."""
        senders = [stream.sender for stream in self._streams.values() if stream.sender._buffer]
        return self.handed_over - sum(len(s._buffer) - sum(r.stop - r.start for r in s._acked) for s in senders)

    def take(self, data: bytes, address: Address, now: float) -> None:
        """A datagram has come. Never raises."""
        try:
            self.receive_datagram(data, address, now)
        except Exception as error:  # noqa: BLE001 - what a stranger's bytes make of a library ends one connection
            self.fault = error

    def give(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent now, and where to. Never raises."""
        if self.fault is None and self._network_paths:
            try:
                return self.datagrams_to_send(now)
            except Exception as error:  # noqa: BLE001 - as above
                self.fault = error
        return []

    def knows(self, stream: int) -> bool:
        """A stream is not over yet."""
        return stream in self._streams

    def held(self, stream: int) -> int:
        """Bytes of a stream that the library keeps until they have arrived."""
        record = self._streams.get(stream)
        return len(record.sender._buffer) if record is not None else 0

    def room(self, stream: int) -> int:
        """Bytes that the peer lets us send on a stream, were it alone; 0 when it does not let us open it yet."""
        record = self._streams.get(stream)
        if record is None or record.is_blocked:
            return 0
        return max(record.max_stream_data_remote - record.sender._buffer_stop, 0)

    def load(self) -> tuple[int, int]:
        """Of all streams: bytes that are kept until they have arrived, and how many more the peer lets us send."""
        senders = [stream.sender for stream in self._streams.values() if stream.sender._reset_error_code is None]
        unsent = sum(sender._buffer_stop - sender.highest_offset for sender in senders)
        return sum(len(sender._buffer) for sender in senders), (
            self._remote_max_data - self._remote_max_data_used - unsent
        )

    def reset(self, stream: int, code: int) -> None:
        """Send no more on a stream, and what was handed over no further."""
        record = self._streams.get(stream)
        if record is not None:
            record.sender.reset(code)
            self.handed_over -= len(record.sender._buffer) - sum(r.stop - r.start for r in record.sender._acked)
            record.sender._buffer.clear()

    def lost(self, stream: int) -> None:
        """A stream was reset: what lies behind its gaps will not come any more."""
        record = self._streams.get(stream)
        if record is not None:
            self.arrived += record.receiver.highest_offset - record.receiver.starting_offset()
            record.receiver._buffer.clear()

    def grant(self, stream: int, more: int) -> None:
        """Let the peer send so many bytes more on a stream."""
        record = self._streams.get(stream)
        if record is not None:
            record.max_stream_data_local += more

    def stop(self, stream: int, code: int) -> None:
        """Tell the peer that what it sends on a stream is not read."""
        record = self._streams.get(stream)
        if record is not None and not record.receiver.is_finished:
            record.receiver.stop(code)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """As the library, which keeps no account of it."""
        super().send_stream_data(stream_id, data, end_stream)
        self.handed_over += len(data)

    # What the library asks itself.

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._request_client_certificate = not self._is_client
        parse = self.tls._set_peer_certificate

        def check(shown: tls.Certificate) -> None:
            try:
                self.remote_key = self._check([certificate for certificate, _ in shown.certificates])
            except SecurityError as error:
                self.refusal = error
                raise tls.AlertBadCertificate("this certificate proves nothing") from error
            parse(shown)

        self.tls._set_peer_certificate = check  # type: ignore[assignment] # a method; before anything is verified with it

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end > HANDSHAKE_BYTES_MAX:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase=f"a handshake of more than {HANDSHAKE_BYTES_MAX} bytes",
            )
        super()._handle_crypto_frame(context, frame_type, buf)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        data, streams = self._local_max_data, self._local_max_streams_bidi
        allowed = self.arrived + CONNECTION_WINDOW
        if allowed - data.value >= CONNECTION_WINDOW // 2:
            data.value = allowed
        for limit, worth in (
            (data, data.value != data.sent),
            (streams, streams.value - streams.sent > streams.sent - streams.used),
        ):
            if worth:
                buf = builder.start_frame(
                    limit.frame_type,
                    capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buf.push_uint_var(limit.value)
                limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            assert stream.stream_id is not None  # only the streams of a handshake have none
            buf = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buf.push_uint_var(stream.stream_id)
            buf.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a datagram begins with."""

    to: bytes
    """The connection id it is sent to."""
    sender: bytes = b""
    """Where an answer goes, of a long header."""
    initial: bool = False
    """It may begin a connection."""
    foreign: bool = False
    """It is of a version that we do not speak."""
    token: bytes = b""


def read_header(data: bytes) -> Header | None:
    """None for what is no QUIC."""
    if not data:
        return None
    if not data[0] & 0x80:
        return Header(to=data[1 : 1 + ID_BYTES])
    try:
        header = pull_quic_header(Buffer(data=data), host_cid_length=ID_BYTES)
    except ValueError:
        return None
    return Header(
        to=header.destination_cid,
        sender=header.source_cid,
        initial=header.packet_type is QuicPacketType.INITIAL,
        foreign=header.packet_type is not QuicPacketType.VERSION_NEGOTIATION and header.version != VERSION,
        token=header.token,
    )


def offer_version(header: Header) -> bytes:
    """The answer to a version that we do not speak."""
    return encode_quic_version_negotiation(
        source_cid=header.to, destination_cid=header.sender, supported_versions=[VERSION]
    )


class Retries:
    """Whoever begins a connection is asked to do so again with a token, which shows that it is where it says; nothing is kept of it."""

    def __init__(self) -> None:
        self._tokens = QuicRetryTokenHandler()

    def ask(self, header: Header, address: Address, id: bytes, now: float) -> bytes:
        """The packet that asks; it is to be sent to `id` next."""
        token = self._tokens.create_token(
            address=address,
            original_destination_connection_id=header.to,
            retry_source_connection_id=id,
            now=now,
        )
        return encode_quic_retry(
            version=VERSION,
            source_cid=id,
            destination_cid=header.sender,
            original_destination_cid=header.to,
            retry_token=token,
        )

    def original_id(self, header: Header, address: Address, now: float) -> bytes | None:
        """What the first datagram was sent to of one that has come again with our token; None of others."""
        try:
            return self._tokens.validate_token(address=address, destination_cid=header.to, token=header.token, now=now)
        except ValueError:
            return None
