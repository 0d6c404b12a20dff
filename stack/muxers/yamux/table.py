"""The streams of a connection: which exist, what they have reserved, and how they are forgotten."""

from collections.abc import Callable

from stack.errors import LimitExceeded
from stack.muxers.yamux.parameters import YamuxParameters
from stack.muxers.yamux.stream import State, Stream, nobody
from stack.muxers.yamux.windows import ReceiveWindow
from stack.sansio.budget import Resource, Scope

CLOSED_MAX = 256
"""Streams we closed and the peer did not, of which we remember to tell it by a reset if it goes on sending."""

LATE_BYTES = 1024
"""So much may come on such a stream before that: a peer that answers to its protocol while what we have said last is on its way. A
reset would have some forget what they have not read yet (py-libp2p, go-yamux): a push of identify was lost so, now and then."""


class StreamTable:
    """Commands: `create`, `acknowledge`, `accept`, `settle`, `forget`, `end_all`, `rest`, `late_bytes`, `late_end`.

    Getters: `get`, `len`, `may_open`, `may_accept`, `grown`. `forgotten` is called for each stream that leaves; `backlog_opened`
    when enough of our streams were acknowledged.
    """

    __slots__ = (
        "_backlog_opened",
        "_closed",
        "_forgotten",
        "_memory",
        "_parameters",
        "_scope",
        "_streams",
        "_unaccepted",
        "_unacknowledged",
        "_unread",
        "get",
        "grown",
    )

    def __init__(
        self,
        parameters: YamuxParameters,
        scope: Scope,
        *,
        forgotten: Callable[[Stream], None],
        backlog_opened: Callable[[], None],
    ) -> None:
        self._parameters = parameters
        self._scope = scope
        bytes_here = scope.child("yamux streams", {Resource.BYTES: parameters.memory_max})
        self._memory = bytes_here.reserve(Resource.BYTES, 0)
        self._unread = scope.reserve(Resource.UNREAD, 0)
        self.grown = bytes_here.holders
        """Windows that are larger than at first."""
        self._forgotten = forgotten
        self._backlog_opened = backlog_opened
        self._streams: dict[int, Stream] = {}
        self.get = self._streams.get
        """The record of a stream that is not over, or None."""
        self._closed: dict[int, int] = {}
        """How much may still come."""
        self._unacknowledged = 0
        self._unaccepted: set[int] = set()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def may_open(self) -> bool:
        """The peer has acknowledged enough of our streams."""
        return self._unacknowledged < self._parameters.backlog_max

    @property
    def may_accept(self) -> bool:
        """There is room for another stream of the peer's."""
        room = len(self._streams) < self._parameters.streams_max
        return room and len(self._unaccepted) < self._parameters.backlog_max

    def create(self, id: int, *, outbound: bool, now: float) -> Stream:
        """A new stream. Raises LimitExceeded when the table or the budget is full; nothing is reserved then."""
        if len(self._streams) >= self._parameters.streams_max:
            raise LimitExceeded("streams of a connection", self._parameters.streams_max)
        if outbound and not self.may_open:
            raise LimitExceeded("streams that are not acknowledged", self._parameters.backlog_max)
        reservation = self._scope.reserve(Resource.STREAMS_OUT if outbound else Resource.STREAMS_IN)
        window = ReceiveWindow(self._memory, self._unread, self._parameters.window_max, now)
        stream = Stream(id, outbound=outbound, window=window, reservation=reservation)
        self._streams[id] = stream
        if outbound:
            self._unacknowledged += 1
        else:
            self._unaccepted.add(id)
        return stream

    def acknowledge(self, stream: Stream) -> None:
        """The peer has acknowledged a stream of ours; said twice, it means nothing."""
        if stream.outbound and not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
            if self._unacknowledged == self._parameters.backlog_max - 1:
                self._backlog_opened()

    def accept(self, id: int) -> bool:
        """The application takes a stream of the peer's; False when it did before, or the stream is over."""
        if id not in self._unaccepted:
            return False
        self._unaccepted.discard(id)
        return True

    def waits(self, stream: Stream) -> bool:
        """The application has not taken it yet."""
        return stream.id in self._unaccepted

    def settle(self, stream: Stream) -> None:
        """Forget `stream` if it is over. One the application has closed is over with our FIN, as in go-yamux."""
        if stream.over:
            self.forget(stream)
        elif stream.settled and not stream.reading:
            if len(self._closed) >= CLOSED_MAX:
                del self._closed[next(iter(self._closed))]
            self._closed[stream.id] = LATE_BYTES
            self.forget(stream)

    def forget(self, stream: Stream) -> None:
        """Let `stream` go and give back what it has reserved."""
        del self._streams[stream.id]
        self.acknowledge(stream)
        self._unaccepted.discard(stream.id)
        stream.drop()
        stream.receive_window.release()
        stream.reservation.release()
        self._forgotten(stream)

    def end_all(self) -> None:
        """The connection is over. A stream with unread bytes stays until they are read or it is closed; one that was
        never accepted will be neither."""
        for stream in tuple(self._streams.values()):
            stream.state = State.RESET
            if stream.id in self._unaccepted:
                self.forget(stream)
            else:
                stream.reservation.release()
                stream.receive_window.end()
                self.settle(stream)
        self._closed.clear()
        self._forgotten = nobody

    def rest(self, now: float) -> None:
        """Windows that were not used of late become small again."""
        for stream in self._streams.values():
            stream.receive_window.rest(now)

    def late_bytes(self, id: int, count: int) -> bool:
        """So many have come on a stream that is gone. Whether the peer is to be told that we closed it, which is said once."""
        left = self._closed.get(id)
        if left is None:
            return False
        self._closed[id] = left - count
        if count <= left:
            return False
        del self._closed[id]
        return True

    def late_end(self, id: int) -> None:
        """The peer has ended a stream that is gone: it need not be told."""
        self._closed.pop(id, None)
