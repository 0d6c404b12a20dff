"""Agreeing on a protocol over a stream with multistream-select 1.0."""

from collections.abc import Container, Sequence

import anyio

from stack.net.multistream import Proposer, Responder
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import MuxedStream, RawStream
from stack.streams.pump import drive
from stack.streams.signs import Patience


async def select_one(
    stream: RawStream | MuxedStream, protocols: Sequence[str], patience: Patience | None = None
) -> str:
    """Propose `protocols` one after the other; return the first that the peer speaks. Reads nothing beyond the answer.

    Raises NegotiationError, RemoteProtocolError, what the stream raises, and TimeoutError where the `patience` with an answer ends. The
    caller sets the deadline.
    """
    machine = Proposer(protocols, patience)
    return (await drive(stream, machine, at_most=machine.wanted)).protocol


async def serve(stream: RawStream | MuxedStream, supported: Container[str], patience: Patience | None = None) -> str:
    """Answer proposals until one is in `supported`; return it. Reads nothing beyond the proposal.

    Raises NegotiationError, RemoteProtocolError, what the stream raises, and TimeoutError where the `patience` with a proposal ends. The
    caller sets the deadline.
    """
    machine = Responder(supported, patience)
    return (await drive(stream, machine, at_most=machine.wanted)).protocol


class LazyStream:
    """A muxed stream on which `protocol` is proposed together with the first data; a MuxedStream itself.

    Saves a round trip where the peer is known to speak the protocol. The answer is read before the first receive, which
    raises NegotiationError when the peer does not speak it after all; the stream is reset then. One task may receive while
    another sends, from the first moment on: the proposal is written once, by whoever comes first.
    """

    __slots__ = ("_answer_scope", "_answered", "_lock", "_machine", "_preface", "_proposing", "_stream", "protocol")

    def __init__(self, stream: MuxedStream, protocol: str) -> None:
        self._stream = stream
        self.protocol = protocol
        self._machine = Proposer([protocol])
        self._preface = self._machine.data_to_send()
        """The proposal, while it has not been written and nobody is about to."""
        self._proposing: anyio.Event | None = None
        """A receiver writes it; who wants to send waits for this."""
        self._answered = False
        self._answer_scope: anyio.CancelScope | None = None
        """A receiver that waits for the answer."""
        self._lock = anyio.Lock()

    def __repr__(self) -> str:
        return f"<LazyStream {self.protocol} on {self._stream!r}>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As `MuxedStream.receive`; the first call reads the answer."""
        if not self._answered:
            await self._answer()
        return await self._stream.receive(max_bytes)

    async def receive_into(self, buffer: memoryview) -> int:
        """As `MuxedStream.receive_into`; the first call reads the answer."""
        if not self._answered:
            await self._answer()
        return await self._stream.receive_into(buffer)

    async def send(self, item: Buffer) -> None:
        """As `MuxedStream.send`; the first call sends the proposal in front."""
        await self.send_buffers(item)

    async def send_buffers(self, *items: Buffer) -> None:
        """As `MuxedStream.send_buffers`; the first call sends the proposal in front."""
        while self._proposing is not None:
            await self._proposing.wait()
        if self._preface:
            await self._send_first(*items)
        else:
            await self._stream.send_buffers(*items)

    async def send_eof(self) -> None:
        """As `MuxedStream.send_eof`; the proposal is sent before."""
        while self._proposing is not None:
            await self._proposing.wait()
        if self._preface:
            await self._send_first()
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As `MuxedStream.aclose`; what was not proposed yet never will be."""
        await self._stream.aclose()

    def reset(self) -> None:
        """As `MuxedStream.reset`."""
        self._stream.reset()

    async def _send_first(self, *items: Buffer) -> None:
        preface, self._preface = self._preface, b""
        try:
            await self._stream.send_buffers(preface, *items)
        except BaseException:
            # Nothing has gone, or the stream is reset: whoever comes next proposes, and so does who waits for the answer.
            self._preface = preface
            if self._answer_scope is not None:
                self._answer_scope.cancel()
            raise

    async def _answer(self) -> None:
        async with self._lock:
            while not self._answered:
                if self._preface:
                    await self._propose()
                try:
                    with anyio.CancelScope() as self._answer_scope:
                        await self._read_answer()
                finally:
                    self._answer_scope = None

    async def _propose(self) -> None:
        self._proposing = anyio.Event()
        try:
            await self._send_first()
        finally:
            self._proposing.set()
            self._proposing = None

    async def _read_answer(self) -> None:
        try:
            await drive(self._stream, self._machine, at_most=self._machine.wanted)
        except Exception:  # whatever went wrong, half an answer may have been read: the stream is of no use
            self._stream.reset()
            raise
        self._answered = True
