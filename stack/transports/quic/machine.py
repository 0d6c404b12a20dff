"""A QUIC connection as a machine: datagrams and time in, datagrams and events out. Pure, but for the randomness that the library draws.

Sources: RFC 9000 and 9001; libp2p specs quic/README.md and tls/tls.md; go-libp2p for what they leave open (idle timeout, keep-alive).
"""

from collections import deque
from collections.abc import Sequence

from stack.errors import LimitExceeded, RemoteProtocolError, SecurityError, StackError, TransportError
from stack.identity.keys import PublicKey
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.muxers.yamux.events import PongReceived
from stack.sansio.budget import Scope
from stack.security.tls.certificate import BadCertificate, check_certificate
from stack.transports.quic import streams
from stack.transports.quic.library import ALPN, IDLE_SECONDS, Address, Credentials, LibraryConnection
from stack.transports.quic.library import events as library_events
from stack.transports.quic.streams import INTERNAL_ERROR, QuicStreams
from stack.values import dataclass

KEEP_ALIVE_SECONDS = 15.0
"""Without a datagram from the peer, after which it is asked for one (go-libp2p)."""
CRYPTO_ERROR = 0x100
"""Alerts of TLS as codes of QUIC (RFC 9001, 4.8), for which CRYPTO_ERROR is added."""
CERTIFICATE_REQUIRED = CRYPTO_ERROR + 116
NO_APPLICATION_PROTOCOL = CRYPTO_ERROR + 120
REASON_CHARACTERS = 100
"""Of what the peer says when it closes."""
CHAIN = "more than one certificate: exactly one is allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFinished:
    """The peer has proved who it is; `adopt` is what comes next."""

    remote_key: PublicKey
    remote_peer: PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAdded:
    """Datagrams may come to this connection id."""

    id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRemoved:
    """They will not any more."""

    id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnded:
    """Nothing more comes; there may be a last datagram to send."""

    reason: StackError | None
    """None: one of the two has closed it as agreed."""


Event = HandshakeFinished | RouteAdded | RouteRemoved | ConnectionEnded | streams.Event


class QuicMachine:
    """One end of a connection.

    Facts: `receive_datagram`, `handle_timeout`. Commands: `adopt`, `ping`, `close`, and those of `streams` once it is adopted. Outputs:
    `datagrams`, `next_event`, `next_timeout`. Getters: `id`, `ended`, `owes`, `handed_over`, `acknowledged`.
    """

    streams: QuicStreams
    """From `adopt` on."""

    def __init__(self, library: LibraryConnection, *, outbound: bool, now: float) -> None:
        self._library = library
        self._outbound = outbound
        self._events: deque[Event] = deque()
        self._early: deque[library_events.QuicEvent] = deque()
        """What has come on streams before the connection was adopted: within the first window."""
        self._secured = False
        self.adopted = False
        self._heard_at = now
        self._pings: dict[int, float] = {}
        self._next_ping = 1
        self.ended = False

    @classmethod
    def dial(
        cls, credentials: Credentials, address: Address, *, expected: PeerId | None, wall: float, now: float
    ) -> "QuicMachine":
        """Begin a connection. `expected` is who has to be there; `wall`, seconds since 1970, is what certificates are judged by."""
        library = LibraryConnection(credentials, lambda shown: _check(shown, wall, expected), outbound=True)
        library.connect(address, now)
        return cls(library, outbound=True, now=now)

    @classmethod
    def accept(
        cls, credentials: Credentials, *, original_id: bytes, retry_id: bytes | None, wall: float, now: float
    ) -> "QuicMachine":
        """For who has begun one; `receive_datagram` gets what it has sent."""
        library = LibraryConnection(
            credentials,
            lambda shown: _check(shown, wall, None),
            outbound=False,
            original_id=original_id,
            retry_id=retry_id,
        )
        return cls(library, outbound=False, now=now)

    def __repr__(self) -> str:
        state = "ended" if self.ended else f"{len(self.streams)} streams" if self.adopted else "handshake"
        return f"<QuicMachine {'out' if self._outbound else 'in'}bound, {state}>"

    @property
    def id(self) -> bytes:
        """What datagrams are sent to at first."""
        return self._library.host_cid

    @property
    def remote_id(self) -> bytes:
        """What the first datagram is sent to, of one that was dialled."""
        return self._library.original_destination_connection_id

    @property
    def owes(self) -> bool:
        """Something that was handed over has not arrived."""
        return not self.ended and self._library.owes

    @property
    def handed_over(self) -> int:
        """Bytes for streams so far, without those that were taken back when a stream was reset."""
        return self._library.handed_over

    @property
    def acknowledged(self) -> int:
        """Of those what has arrived at the peer."""
        return self._library.acknowledged

    def is_silent(self, seconds: float, now: float) -> bool:
        """Nothing has come for so long."""
        return now - self._heard_at >= seconds

    # Facts.

    def receive_datagram(self, data: bytes, address: Address, now: float) -> None:
        """Take a datagram. Never raises: what is wrong ends the connection."""
        if not self.ended:
            self._heard_at = now
            self._library.take(data, address, now)
            self._process(now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        if self.ended:
            return None
        due = [self._library.get_timer()]
        if self.adopted:
            due += [self._heard_at + KEEP_ALIVE_SECONDS, self.streams.next_timeout()]
        return min((at for at in due if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Time has passed: something is sent again, the peer is asked whether it is there, or it is over."""
        if self.ended:
            return
        timer = self._library.get_timer()
        if timer is not None and timer <= now:
            self._library.handle_timer(now)
        if self.adopted:
            self.streams.rest(now)
            if now >= self._heard_at + KEEP_ALIVE_SECONDS:
                self._heard_at = now
                self._library.send_ping(0)
        self._process(now)

    # Commands.

    def adopt(self, scope: Scope, now: float) -> None:
        """Who is there is known: from now on there are streams, and what they hold is drawn from `scope`."""
        self.streams = QuicStreams(self._library, scope, self._events.append, outbound=self._outbound, now=now)
        self.adopted = True
        if not self.ended:
            self._process(now)

    def ping(self, now: float) -> int:
        """Measure the round trip; `PongReceived` will carry the returned number."""
        number = self._next_ping
        self._next_ping += 1
        self._pings[number] = now
        self._library.send_ping(number)
        return number

    def close(self, code: int = 0, reason: StackError | None = None) -> None:
        """It is over, for us; what is still on its way is dropped. The last datagram tells the peer."""
        self._library.close(code)
        self._end(reason)

    # Outputs.

    def next_event(self) -> Event | None:
        """The next thing that happened, or None."""
        return self._events.popleft() if self._events else None

    def datagrams(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent now, and where to."""
        datagrams = self._library.give(now)
        if not self.ended and self._library.fault is not None:
            self._process(now)
        return datagrams

    # Parts.

    def _process(self, now: float) -> None:
        try:
            while self.adopted and not self.ended and self._early:
                self._handle(self._early.popleft(), now)
            while not self.ended and (event := self._library.next_event()) is not None:
                self._handle(event, now)
            if self.adopted and not self.ended:
                self.streams.moved(now)
        except (RemoteProtocolError, LimitExceeded) as error:
            self.close(INTERNAL_ERROR, error)
        if not self.ended and (reason := self._reason()) is not None:
            self._end(*reason)

    def _handle(self, event: library_events.QuicEvent, now: float) -> None:
        match event:
            case library_events.ConnectionIdIssued(connection_id=id):
                self._events.append(RouteAdded(id=id))
            case library_events.ConnectionIdRetired(connection_id=id):
                self._events.append(RouteRemoved(id=id))
            case library_events.HandshakeCompleted(alpn_protocol=protocol):
                self._secure(protocol)
            case library_events.PingAcknowledged(uid=number):
                if (asked_at := self._pings.pop(number, None)) is not None:
                    self._events.append(PongReceived(ping=number, round_trip=now - asked_at))
            case _ if not self.adopted:
                self._early.append(event)
            case library_events.StreamDataReceived(stream_id=id, data=data, end_stream=ended):
                self.streams.received(id, data, ended=ended, now=now)
            case library_events.StreamReset(stream_id=id):
                self.streams.was_reset(id, now)
            case library_events.StopSendingReceived(stream_id=id):
                self.streams.was_stopped(id)

    def _secure(self, protocol: str | None) -> None:
        key = self._library.remote_key
        if key is None:
            self.close(CERTIFICATE_REQUIRED, BadCertificate("the peer shows no certificate"))
        elif protocol != ALPN:
            self.close(NO_APPLICATION_PROTOCOL, SecurityError(f"the peer does not speak {ALPN} over QUIC"))
        else:
            self._secured = True
            self._events.append(HandshakeFinished(remote_key=key, remote_peer=PeerId.of(key)))

    def _end(self, reason: StackError | None) -> None:
        if not self.ended:
            self.ended = True
            self._early.clear()
            self._events.append(ConnectionEnded(reason=reason))

    def _reason(self) -> tuple[StackError | None] | None:
        """Why it is over, if it is: a tuple of one, since there may be no reason."""
        library = self._library
        if library.fault is not None:
            return (RemoteProtocolError(f"a datagram that QUIC cannot read: {library.fault!r}", code=INTERNAL_ERROR),)
        ending = library.ending
        if ending is None:
            return None
        if library.refusal is not None:
            return (library.refusal,)
        code = ending.error_code
        if ending.reason_phrase == "Idle timeout":
            return (TransportError(f"the peer was silent for {IDLE_SECONDS:g} s"),)
        if library.ended_by_peer:
            if code == 0 and self._secured:
                return (None,)
            said = f"{ending.reason_phrase[:REASON_CHARACTERS]!r}"
            if code & ~0xFF == CRYPTO_ERROR:
                return (
                    SecurityError(f"the peer refused the handshake with alert {code - CRYPTO_ERROR} of TLS: {said}"),
                )
            return (TransportError(f"the peer ended the connection with code {code:#x}: {said}"),)
        if code & ~0xFF == CRYPTO_ERROR:
            return (SecurityError(f"the TLS handshake failed: {ending.reason_phrase}"),)
        return (RemoteProtocolError(f"the peer broke a rule of QUIC: {ending.reason_phrase}", code=code),)


def _check(shown: Sequence[bytes], wall: float, expected: PeerId | None) -> PublicKey:
    if len(shown) != 1:
        raise BadCertificate(CHAIN)
    key = check_certificate(shown[0], wall)
    peer = PeerId.of(key)
    if expected is not None and peer != expected:
        raise PeerIdMismatch(expected, peer)
    return key
