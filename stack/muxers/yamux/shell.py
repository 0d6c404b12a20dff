"""Yamux over a secured channel."""

import anyio
import anyio.lowlevel

from stack.errors import LocalProtocolError, ProtocolError, SecurityError, without_frames
from stack.identity.keys import PublicKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.connection import YamuxMachine
from stack.muxers.yamux.events import (
    BacklogOpened,
    Event,
    GoAwayReceived,
    PongReceived,
    StreamEnded,
    StreamOpened,
    StreamReadable,
    StreamReset,
    StreamWritten,
    WindowOpened,
)
from stack.muxers.yamux.frames import GoAwayCode
from stack.muxers.yamux.parameters import YamuxParameters
from stack.sansio.budget import Scope
from stack.sansio.interfaces import StreamId
from stack.streams.buffers import POOL, BufferPool
from stack.streams.interfaces import SecureChannel
from stack.streams.link import SecureLink
from stack.streams.muxed import MachineStream
from stack.streams.signs import Question, Signs
from stack.streams.turns import Turn

STILL_SECONDS = 1.0
"""A connection that we close goes on writing what its streams were given, until the peer has taken nothing for so long: a
retransmission of TCP or two."""
LINGER_SECONDS = 3.0
"""And for so long in all, or until whoever runs it is cancelled: nobody waits for a slow line who wants to stop now."""
ARRIVAL_POLL_SECONDS, ARRIVAL_POLL_SECONDS_MAX = 0.001, 0.02
"""Between two looks at what has arrived, at first and at the most: the system tells no other way, and a peer on the same network has
it in less than a millisecond."""
HANG_UP_SECONDS = 0.5
"""For closing the raw stream."""


class YamuxMuxer:
    """The muxer `/yamux/1.0.0`; see `stack.muxers.interfaces.Muxer`."""

    def __init__(self, parameters: YamuxParameters | None = None, *, pool: BufferPool = POOL) -> None:
        self._parameters = parameters or YamuxParameters()
        self._pool = pool

    def connection(self, channel: SecureChannel, *, outbound: bool, scope: Scope) -> "YamuxConnection":
        """Take `channel` over; to be called on the event loop that will run it."""
        return YamuxConnection(channel, outbound=outbound, scope=scope, parameters=self._parameters, pool=self._pool)


class YamuxConnection:
    """A `MuxedConnection`."""

    def __init__(
        self, channel: SecureChannel, *, outbound: bool, scope: Scope, parameters: YamuxParameters, pool: BufferPool
    ) -> None:
        self._channel = channel
        self._silence_max = parameters.silence_max
        self.machine = YamuxMachine(outbound=outbound, parameters=parameters, scope=scope, now=anyio.current_time())
        """For the streams of this connection and for benchmarks."""
        self._link: SecureLink[Event] = SecureLink(channel, self.machine, pool)
        self._question = Question(self._link.signs)
        self._streams: dict[StreamId, MachineStream] = {}
        self._incoming: dict[StreamId, MachineStream] = {}
        self._pongs: dict[int, float | None] = {}
        self._changed = anyio.Event()
        self._write = anyio.Event()
        self._runs = False
        self._owes = False
        """We have closed, and something that was handed over had not arrived then."""
        self._cut: Exception | None = None
        """Why nothing can be written any more, while what has come is still read."""
        self._reading = anyio.CancelScope()
        self._writing = anyio.CancelScope()
        self._woken: MachineStream | None = None
        self.closed = False
        """It has ended, for whatever reason."""
        self.reason: Exception | None = None
        """Why, when we did not close it."""

    def __repr__(self) -> str:
        state = "closed" if self.closed else repr(self.machine)
        return f"<YamuxConnection {self.remote_peer} {state}>"

    @property
    def remote_peer(self) -> PeerId:
        """The peer that has proved its identity."""
        return self._channel.remote_peer

    @property
    def remote_key(self) -> PublicKey:
        """Its identity key."""
        return self._channel.remote_key

    @property
    def local_address(self) -> Multiaddr:
        """Of the raw stream."""
        return self._channel.stream.local_address

    @property
    def remote_address(self) -> Multiaddr:
        """Of the raw stream."""
        return self._channel.stream.remote_address

    @property
    def stream_count(self) -> int:
        """Streams that are not over."""
        return self.machine.stream_count

    @property
    def signs(self) -> Signs:
        """See `MuxedConnection.signs`."""
        return self._link.signs

    async def run(self) -> None:
        """Move bytes until the connection ends; returns when it was closed by either side or broke."""
        self._runs = True
        try:
            if not self.closed:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._keep_reading)
                    await self._keep_writing()
        finally:  # also of one that broke before it ran
            self._end(None)
            try:
                await self._write_the_rest()
            finally:
                await self._let_go()

    async def open_stream(self) -> MachineStream:
        """A new outbound stream; waits while too many are not acknowledged.

        Raises BrokenResourceError when the connection is gone or going, LimitExceeded.
        """
        while not self.machine.may_open and not self.closed:
            await self._changed.wait()
        if self.closed:
            raise anyio.BrokenResourceError("the connection is closed")
        try:
            id = self.machine.open()
        except LocalProtocolError as error:
            raise anyio.BrokenResourceError(str(error)) from error
        # Not flushed here: what is sent at once goes into the same frame as the opening.
        self._write.set()
        stream = self._streams[id] = MachineStream(self, self.machine, id)
        return stream

    async def accept_stream(self) -> MachineStream:
        """The next inbound stream. Raises EndOfStream when the connection has ended."""
        while not self._incoming:
            if self.closed:
                raise anyio.EndOfStream
            await self._changed.wait()
        id = next(iter(self._incoming))
        stream = self._incoming.pop(id)
        self.machine.accept(id)
        self._write.set()
        return stream

    async def ping(self) -> float:
        """Seconds for a round trip. Raises BrokenResourceError; the caller sets the deadline."""
        number = self.machine.ping(anyio.current_time())
        self._pongs[number] = None
        try:
            self.flush()
            while (round_trip := self._pongs[number]) is None:
                if self.closed:
                    raise anyio.BrokenResourceError("the connection is closed")
                await self._changed.wait()
            return round_trip
        finally:
            del self._pongs[number]

    async def aclose(self) -> None:
        """Say goodbye and close; never waits for the peer. What was handed over is still written by `run`, for some seconds,
        as long as the peer goes on taking it."""
        if not self.closed:
            self._owes = self.machine.pending or self._link.under_way > 0
            self.machine.go_away()
            self.flush()
            self._end(None)
            if not self._runs:
                await self._let_go()

    def flush(self, turn: Turn | None = None) -> None:
        """Write what goes without waiting; leave the rest to the writing task, also when `turn` is over."""
        if self.closed or self._cut is not None or not (self.machine.pending or self._link.unsent):
            return
        try:
            complete = self._link.flush(turn)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._cut_off(error)
            return
        except SecurityError as error:
            self._end(error)
            return
        self._dispatch()
        if not complete:
            self._write.set()

    def forget(self, id: StreamId) -> None:
        """A stream was closed by the application."""
        self._streams.pop(id, None)
        self._incoming.pop(id, None)

    async def _keep_reading(self) -> None:
        try:
            with self._reading:
                await self._read_on()
            self._end(self._cut)
        except ProtocolError as error:
            # What came before the offence is still told, and the machine's last words (go-away) are written.
            self._dispatch()
            self.flush()
            self._end(error)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, SecurityError) as error:
            self._dispatch()
            self._end(self._cut or error)

    async def _read_on(self) -> None:
        turn = Turn()
        self._link.begin()
        self._dispatch()
        while True:
            self.flush(turn)
            if self._woken is not None or self._link.behind or turn.over:
                woken, self._woken = self._woken, None
                await anyio.lowlevel.checkpoint()
                turn.begin()
                if woken is not None and woken.waking:
                    # Whoever was woken posts its next buffer before more is read: that saves a copy. trio runs its
                    # tasks in random order, so this one may have been the first.
                    await anyio.lowlevel.checkpoint()
            await self._link.receive(turn)
            while not self._dispatch(turn):
                await turn.give_way()

    async def _keep_writing(self) -> None:
        try:
            with self._writing:
                while not self.closed:
                    with anyio.CancelScope(deadline=self.machine.next_timeout()) as pause:
                        await self._write.wait()
                    if pause.cancelled_caught:
                        self._look_after_silence()
                    self._write = anyio.Event()
                    self.flush()
                    await self._write_on()
            self._owes = self._owes and not self._writing.cancelled_caught
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._cut_off(error)
        except (ProtocolError, SecurityError) as error:
            self._end(error)

    def _look_after_silence(self) -> None:
        """Raises RemoteProtocolError when the peer was asked and nothing has moved since."""
        now, signs = anyio.current_time(), self._link.signs
        if not self.machine.asked:
            self._question = Question(signs)
            self.machine.heard_part(signs.heard_at)
        elif self._question.shows_life(signs):
            self.machine.heard_part(now)
        self.machine.handle_timeout(now)

    async def _write_on(self) -> None:
        while not self.closed and (self._link.unsent or self.machine.pending):
            if not await self._drain(self._silence_max):
                self._end(anyio.BrokenResourceError(f"the peer has read nothing for {self._silence_max:g} s"))
            self._dispatch()

    async def _drain(self, seconds: float) -> bool:
        """Write on when there is room; False when there was none for so long, and nothing of what was written before has arrived."""
        arrived = self._link.signs.arrived
        with anyio.move_on_after(seconds) as patience:
            await self._link.drain()
        return not patience.cancelled_caught or (self._link.intact and self._link.signs.arrived > arrived)

    async def _write_the_rest(self) -> None:
        """We have closed: what was handed over before is still written, and arrives."""
        if not self._owes or self.reason is not None or not self._link.intact:
            return
        try:
            with anyio.move_on_after(LINGER_SECONDS):
                while self._link.unsent or self.machine.pending:
                    if not await self._drain(STILL_SECONDS):
                        return
                await self._arrive()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, SecurityError):
            pass  # nobody is there to take it

    async def _arrive(self) -> None:
        """Wait until what was written is at the peer's machine: a socket that is closed with unread bytes in it is reset, and
        throws away what it has still to send. The peer is told that this is the end: else its system, which has nothing to send,
        acknowledges the last bytes 40 ms later."""
        left = self._link.under_way
        if left:
            self._link.tell_end()
        moved = anyio.current_time()
        pause = ARRIVAL_POLL_SECONDS
        while left and anyio.current_time() - moved < STILL_SECONDS:
            await anyio.sleep(pause)
            pause = min(2 * pause, ARRIVAL_POLL_SECONDS_MAX)
            before, left = left, self._link.under_way
            if left != before:
                moved = anyio.current_time()

    async def _let_go(self) -> None:
        self.machine.close()
        self._link.close()
        with anyio.move_on_after(HANG_UP_SECONDS, shield=True):
            await self._channel.stream.aclose()

    def _cut_off(self, reason: Exception) -> None:
        """The raw stream takes no more. A peer that has said goodbye and hung up may have sent a lot before: that is read first."""
        if not self._runs:
            self._end(reason)
        elif self._cut is None:
            self._cut = without_frames(reason)
            self._reading.deadline = anyio.current_time() + LINGER_SECONDS
            self._writing.cancel()

    def _end(self, reason: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self.reason = reason and without_frames(reason)
        for stream in tuple(self._streams.values()):
            stream.broke()
        self._streams.clear()
        self._incoming.clear()
        self._notify()
        # Writing is not cut off in the middle: it is told, and has its time to end.
        self._write.set()
        self._reading.cancel()
        if reason is None:
            self._writing.deadline = anyio.current_time() + STILL_SECONDS
        else:
            self._writing.cancel()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _dispatch(self, turn: Turn | None = None) -> bool:
        """Tell the streams what has happened; False when `turn` was over before all was told."""
        while (event := self.machine.next_event()) is not None:
            match event:
                case StreamReadable(stream=id):
                    if (stream := self._streams.get(id)) is not None:
                        self._woken = stream
                        stream.wake()
                case StreamWritten() | WindowOpened():
                    if (stream := self._streams.get(event.stream)) is not None:
                        stream.wake()
                case StreamEnded(stream=id):
                    if (stream := self._streams.get(id)) is not None:
                        stream.ended()
                case StreamReset(stream=id):
                    self._incoming.pop(id, None)
                    if (stream := self._streams.pop(id, None)) is not None:
                        stream.broke()
                case StreamOpened(stream=id):
                    self._streams[id] = self._incoming[id] = MachineStream(self, self.machine, id)
                    self._notify()
                case PongReceived(ping=number, round_trip=round_trip):
                    if number in self._pongs:
                        self._pongs[number] = round_trip
                        self._notify()
                case BacklogOpened():
                    self._notify()
                case GoAwayReceived(code=code):
                    if code != GoAwayCode.NORMAL:
                        self._end(anyio.BrokenResourceError(f"the peer gave up the connection with code {code}"))
            if turn is not None and turn.over:
                return False
        return True
