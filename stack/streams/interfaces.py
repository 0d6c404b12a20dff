"""Streams as the rest of the stack sees them: raw bytes, secured frames, multiplexed connections, negotiated streams.

All of them raise what anyio documents: `EndOfStream` (the peer ended its side), `ClosedResourceError` (we closed),
`BrokenResourceError` (it died or was reset). Everything that awaits may be cancelled; a cancelled `send` leaves the
stream unusable for sending, a cancelled receive loses nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from stack.identity.keys import PublicKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.interfaces import Buffer
from stack.streams.signs import Signs
from stack.values import dataclass


class RawStream(Protocol):
    """What a transport gives: a reliable stream of bytes in both directions, one reader and one writer at a time."""

    @property
    def local_address(self) -> Multiaddr: ...
    @property
    def remote_address(self) -> Multiaddr: ...

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes, fill at most `len(buffer)`, return how many (at least 1). Raises EndOfStream."""
        ...

    async def wait_readable(self) -> None:
        """Return when `receive_into` would not wait: buffers are borrowed only from then on."""
        ...

    async def send_all(self, data: memoryview) -> None:
        """Write everything; `data` may be reused after the return. Raises BrokenResourceError."""
        ...

    async def aclose(self) -> None:
        """Close both directions; never waits for the peer."""
        ...


class DirectStream(RawStream, Protocol):
    """A raw stream that can also be tried without waiting, so that no task has to be woken to move bytes."""

    def receive_now(self, buffer: memoryview) -> int | None:
        """As `receive_into`, but None when nothing is there yet."""
        ...

    def send_now(self, data: memoryview) -> int:
        """Write as much as is taken at once, 0 when nothing is. Raises BrokenResourceError, ClosedResourceError."""
        ...

    async def wait_writable(self) -> None:
        """Return when `send_now` would take something. Raises BrokenResourceError, ClosedResourceError."""
        ...


class TrackedStream(RawStream, Protocol):
    """A raw stream that can tell what of what it has taken is still on its way."""

    @property
    def under_way(self) -> int:
        """Bytes that have not arrived at the other end's machine: closing the stream now may lose them."""
        ...

    def tell_end(self) -> None:
        """Say that nothing more is written, without closing: who hears that hangs up, and what has arrived is acknowledged with it."""
        ...


def under_way(stream: RawStream) -> int:
    """The same of any raw stream; 0 for one that cannot tell."""
    # An ability is asked for by its name: wrappers of raw streams need not have it.
    return getattr(stream, "under_way", 0)


def tell_end(stream: RawStream) -> None:
    """The same of any raw stream; nothing of one that cannot."""
    if (tell := getattr(stream, "tell_end", None)) is not None:
        tell()


class CipherSession(Protocol):
    """The pure data path of a secured connection: frames are sealed and opened in place.

    A frame is `[prefix | ciphertext | tag]`. `prefix` and `suffix` are the bytes around the plaintext, `payload_max` is
    the most one frame carries.
    """

    prefix: int
    suffix: int
    payload_max: int

    def seal(self, frame: memoryview, size: int) -> int:
        """The plaintext lies at `frame[prefix : prefix + size]`; encrypt it in place, return the frame's length."""
        ...

    def open(self, data: memoryview) -> tuple[int, memoryview] | None:
        """Decrypt the first frame of `data` in place: (bytes consumed, the plaintext as a view), or None if cut short.

        Raises SecurityError on a bad tag; the connection is then unusable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureChannel:
    """A finished security handshake. Nothing half-made is ever handed out."""

    stream: RawStream
    session: CipherSession
    local_peer: PeerId
    remote_peer: PeerId
    remote_key: PublicKey
    muxer: str | None
    """The muxer agreed inside the handshake (early negotiation), or None."""
    leftover: bytes
    """Raw bytes that were read behind the handshake; they belong to the session."""
    plaintext: bytes = b""
    """Bytes the session has already opened, behind a negotiation on the channel; they belong to the muxer."""


class MuxedStream(Protocol):
    """One of the streams of a connection; also an anyio byte stream."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At least one byte. Raises EndOfStream, BrokenResourceError (reset), ClosedResourceError."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """The fast form: fill at most `len(buffer)` with one copy, return how many (1 or more). Raises as `receive`."""
        ...

    async def send(self, item: Buffer) -> None:
        """Write all of it. `item` must not change until the return. Raises BrokenResourceError, ClosedResourceError."""
        ...

    async def send_buffers(self, *items: Buffer) -> None:
        """Write several buffers one after the other, without joining them."""
        ...

    async def send_eof(self) -> None:
        """No more from us; receiving goes on."""
        ...

    async def aclose(self) -> None:
        """Finish both directions politely: what was sent is still delivered. Never waits for the peer."""
        ...

    def reset(self) -> None:
        """Drop the stream at once, both ends; never waits. Harmless on a stream that is finished."""
        ...


class Stream(MuxedStream, Protocol):
    """A stream on which a protocol has been agreed."""

    @property
    def protocol(self) -> str: ...
    @property
    def remote_peer(self) -> PeerId: ...
    @property
    def remote_address(self) -> Multiaddr: ...


class MuxedConnection(Protocol):
    """A secured connection that carries many streams. `run` is started by its owner and ends with the connection."""

    @property
    def remote_peer(self) -> PeerId: ...
    @property
    def remote_key(self) -> PublicKey: ...
    @property
    def local_address(self) -> Multiaddr: ...
    @property
    def remote_address(self) -> Multiaddr: ...
    @property
    def closed(self) -> bool: ...
    @property
    def stream_count(self) -> int: ...
    @property
    def signs(self) -> Signs:
        """What shows that the peer, or its machine, is there, without asking it."""
        ...

    async def run(self) -> None:
        """Move bytes until the connection ends; returns normally when it was closed by either side or broke."""
        ...

    async def open_stream(self) -> MuxedStream:
        """A new outbound stream. Raises BrokenResourceError when the connection is gone, LimitExceeded."""
        ...

    async def accept_stream(self) -> MuxedStream:
        """The next inbound stream. Raises EndOfStream when the connection has ended."""
        ...

    async def ping(self) -> float:
        """Seconds for a round trip of the muxer. Raises BrokenResourceError."""
        ...

    async def aclose(self) -> None:
        """Say goodbye and close; never waits for the peer."""
        ...


StreamHandler = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream. The stream is closed when it returns, reset when it raises."""
