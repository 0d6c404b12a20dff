"""The streams of a muxer machine as anyio byte streams."""

from types import TracebackType
from typing import Protocol

import anyio
import anyio.lowlevel

from stack.errors import LocalProtocolError
from stack.identity.peer_id import PeerId
from stack.sansio.interfaces import Buffer, StreamId
from stack.streams.turns import Turn


class MuxerMachine(Protocol):
    """What a stream asks of the machine of its connection; `stack.muxers.yamux.connection` says what each does."""

    @property
    def pending(self) -> bool: ...
    def waiting(self, stream: StreamId) -> int: ...
    def unwritten(self, stream: StreamId) -> int: ...
    def send(self, stream: StreamId, data: Buffer) -> int: ...
    def retract(self, stream: StreamId) -> int: ...
    def read_into(self, stream: StreamId, out: memoryview) -> int: ...
    def post(self, stream: StreamId, buffer: memoryview) -> None: ...
    def collect(self, stream: StreamId) -> int: ...
    def withdraw(self, stream: StreamId) -> None: ...
    def finish(self, stream: StreamId) -> None: ...
    def close_stream(self, stream: StreamId) -> None: ...
    def reset(self, stream: StreamId) -> None: ...


class StreamOwner(Protocol):
    """What a stream asks of the shell of its connection."""

    @property
    def remote_peer(self) -> PeerId: ...

    @property
    def reason(self) -> Exception | None:
        """Why the connection broke, if it did."""
        ...

    def flush(self) -> None:
        """Write what goes without waiting; see to the rest."""
        ...

    def forget(self, id: StreamId) -> None:
        """The application has closed or reset the stream."""
        ...


class MachineStream:
    """A `MuxedStream`, and an anyio byte stream. One task may receive and one may send."""

    __slots__ = (
        "_broken",
        "_closed",
        "_connection",
        "_ended",
        "_finished",
        "_machine",
        "_readable",
        "_sending",
        "_turn",
        "_unwanted",
        "_writable",
        "id",
    )

    def __init__(self, connection: StreamOwner, machine: MuxerMachine, id: StreamId) -> None:
        self._connection = connection
        self._machine = machine
        self.id = id
        """Its number in the connection."""
        self._readable: anyio.Event | None = None
        self._writable: anyio.Event | None = None
        self._turn = Turn()
        self._sending = False
        self._closed = False
        self._finished = False
        self._ended = False
        self._broken = False
        self._unwanted = False

    def __repr__(self) -> str:
        states = [name for name in ("closed", "finished", "ended", "broken") if getattr(self, f"_{name}")]
        return f"<MachineStream {self.id} of {self._connection.remote_peer} {' '.join(states) or 'open'}>"

    async def __aenter__(self) -> "MachineStream":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.reset()
        await self.aclose()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At least one byte. Raises EndOfStream, BrokenResourceError (reset), ClosedResourceError, BusyResourceError."""
        machine = self._machine
        while not (waiting := machine.waiting(self.id)):
            await self._wait_readable()
        await self._turn.give_way()
        out = bytearray(min(max_bytes, waiting))
        return bytes(out[: await self.receive_into(memoryview(out))])

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill at most `len(buffer)` bytes; raises as `receive`. Bytes that come while it waits are copied once."""
        machine = self._machine
        while len(buffer):
            if machine.waiting(self.id):
                await self._turn.give_way()
                received = machine.read_into(self.id, buffer)
            else:
                received = await self._receive_posted(buffer)
            if received:
                if machine.pending:
                    self._connection.flush()
                return received
        return 0

    async def send(self, item: Buffer) -> None:
        """Write everything; `item` must not change until the return. Raises BrokenResourceError, ClosedResourceError,
        BusyResourceError. When cancelled after a part was written, the stream is reset."""
        await self.send_buffers(item)

    async def send_buffers(self, *items: Buffer) -> None:
        """The same for several buffers, without joining them."""
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        machine = self._machine
        offered = 0
        self._sending = True
        try:
            await self._turn.give_way()
            for item in items:
                rest = memoryview(item).cast("B")
                while rest:
                    self._check_sending()
                    if taken := machine.send(self.id, rest):
                        offered += taken
                        rest = rest[taken:]
                    else:
                        await self._wait_writable()
            self._connection.flush()
            while machine.unwritten(self.id):
                await self._wait_writable()
            self._check_open()
        except LocalProtocolError:
            # The peer has reset the stream, and the connection has not come to telling us.
            raise anyio.BrokenResourceError(self._why()) from None
        except BaseException:
            if machine.retract(self.id) < offered:
                self.reset()
            raise
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """No more from us; receiving goes on. Raises BrokenResourceError, ClosedResourceError."""
        if not self._finished:
            self._check_sending()
            self._finished = True
            try:
                self._machine.finish(self.id)
            except LocalProtocolError:
                raise anyio.BrokenResourceError(self._why()) from None
            self._connection.flush()

    async def aclose(self) -> None:
        """Finish both directions; what was sent is still delivered. Never waits. A task that waits is told."""
        if not self._closed:
            self._closed = True
            # What a `send` has not finished must not look complete at the other end.
            (self._machine.reset if self._sending else self._machine.close_stream)(self.id)
            self._connection.forget(self.id)
            self._connection.flush()
            self.wake()

    def reset(self) -> None:
        """Drop the stream at once, on both ends; a task that waits gets BrokenResourceError."""
        if not self._closed:
            self._machine.reset(self.id)
            self._connection.forget(self.id)
            self._connection.flush()
            self.broke()

    def broke(self) -> None:
        """The stream, or its connection, is gone; what has come before can still be read."""
        self._broken = True
        self.wake()

    @property
    def waiting(self) -> int:
        """Bytes that have come and can be read at once."""
        return self._machine.waiting(self.id)

    @property
    def waking(self) -> bool:
        """A receiver was woken and has not run yet."""
        return self._readable is not None and self._readable.is_set()

    def ended(self) -> None:
        """The peer sends no more."""
        self._ended = True
        self.wake()

    def unwanted(self) -> None:
        """The peer reads no more: sending breaks, receiving goes on."""
        self._unwanted = True
        self.wake()

    def wake(self) -> None:
        """Something changed: there is more to read, or room to write."""
        if self._readable is not None:
            self._readable.set()
        if self._writable is not None:
            self._writable.set()

    async def _receive_posted(self, buffer: memoryview) -> int:
        machine = self._machine
        self._check_receiving()
        machine.post(self.id, buffer)
        try:
            await self._wait_readable()
        except BaseException:
            machine.withdraw(self.id)
            raise
        return machine.collect(self.id)

    async def _wait_readable(self) -> None:
        self._check_receiving()
        self._readable = anyio.Event()
        try:
            await self._readable.wait()
            self._turn.begin()
        finally:
            self._readable = None

    async def _wait_writable(self) -> None:
        self._check_open()
        # The event exists before the flush, which may set it.
        self._writable = anyio.Event()
        try:
            self._connection.flush()
            await self._writable.wait()
            self._turn.begin()
        finally:
            self._writable = None

    def _check_receiving(self) -> None:
        if self._readable is not None:
            raise anyio.BusyResourceError("receiving from")
        if self._ended and not self._closed:
            raise anyio.EndOfStream
        self._check_open()

    def _check_sending(self) -> None:
        if self._finished:
            raise anyio.ClosedResourceError
        self._check_open()
        if self._unwanted:
            raise anyio.BrokenResourceError("the peer reads no more")

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._broken:
            raise anyio.BrokenResourceError(self._why())

    def _why(self) -> str:
        reason = self._connection.reason
        if reason is None:
            return "the stream was reset"
        hung_up = "the peer hung up" if isinstance(reason, anyio.EndOfStream) else "it was lost"
        return f"the connection broke: {str(reason) or hung_up}"
