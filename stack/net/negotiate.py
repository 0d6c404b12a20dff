"""Agreeing on a protocol over a stream with multistream-select 1.0."""

from collections.abc import Container, Sequence

import anyio

from stack.net.multistream import Proposer, Responder
from stack.sansio.interfaces import Buffer
from stack.streams.interfaces import MuxedStream, RawStream
from stack.streams.pump import drive


async def select_one(stream: RawStream | MuxedStream, protocols: Sequence[str]) -> str:
    """Propose `protocols` one after the other; return the first that the peer speaks. Reads nothing beyond the answer.

    Raises NegotiationError, RemoteProtocolError, and what the stream raises. The caller sets the deadline.
    """
    machine = Proposer(protocols)
    return (await drive(stream, machine, at_most=machine.wanted)).protocol


async def serve(stream: RawStream | MuxedStream, supported: Container[str]) -> str:
    """Answer proposals until one is in `supported`; return it. Reads nothing beyond the proposal.

    Raises NegotiationError, RemoteProtocolError, and what the stream raises. The caller sets the deadline.
    """
    machine = Responder(supported)
    return (await drive(stream, machine, at_most=machine.wanted)).protocol


class LazyStream:
    """A muxed stream on which `protocol` is proposed together with the first data; a MuxedStream itself.

    Saves a round trip where the peer is known to speak the protocol. The answer is read before the first receive, which
    raises NegotiationError when the peer does not speak it after all; the stream is reset then.
    """

    __slots__ = ("_answered", "_lock", "_machine", "_preface", "_stream", "protocol")

    def __init__(self, stream: MuxedStream, protocol: str) -> None:
        self._stream = stream
        self.protocol = protocol
        self._machine = Proposer([protocol])
        self._preface = self._machine.data_to_send()
        self._answered = False
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
        preface, self._preface = self._preface, b""
        if preface:
            await self._stream.send_buffers(preface, *items)
        else:
            await self._stream.send_buffers(*items)

    async def send_eof(self) -> None:
        """As `MuxedStream.send_eof`; the proposal is sent before."""
        await self._propose()
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As `MuxedStream.aclose`; what was not proposed yet never will be."""
        await self._stream.aclose()

    def reset(self) -> None:
        """As `MuxedStream.reset`."""
        self._stream.reset()

    async def _propose(self) -> None:
        preface, self._preface = self._preface, b""
        if preface:
            await self._stream.send(preface)

    async def _answer(self) -> None:
        async with self._lock:
            if self._answered:
                return
            await self._propose()
            try:
                await drive(self._stream, self._machine, at_most=self._machine.wanted)
            except Exception:  # whatever went wrong, half an answer may have been read: the stream is of no use
                self._stream.reset()
                raise
            self._answered = True
