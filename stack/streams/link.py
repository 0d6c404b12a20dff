"""The data path of a secured connection: between the socket and a `DataMachine`, in place.

Noise and the muxer run synchronously, one after the other, in whichever task moves the bytes; nothing is queued between
them. A payload byte is copied into a frame and encrypted there on its way out; decrypted in the buffer it was read into
and copied from there on its way in.
"""

from typing import Generic, TypeVar

import anyio

from stack.sansio.interfaces import DataMachine
from stack.streams.buffers import POOL, BufferPool
from stack.streams.interfaces import DirectStream, RawStream, SecureChannel, tell_end, under_way
from stack.streams.signs import Signs
from stack.streams.turns import Turn

E = TypeVar("E")

PIECE_BYTES = 16 * 1024
"""One `drain` of a stream that can only be waited for: the deadline around it is for so many bytes, not for all there are."""

LAST_FRAME_BYTES = 16 * 1024
"""Less room than this at the end of a buffer is left empty: small frames cost five times as much a byte as full ones."""


class SecureLink(Generic[E]):
    """Moves frames between `channel` and `machine`. Commands: `begin`, `flush`, `drain`, `receive`, `close`.

    One task may `receive`; one may `drain`; `flush` is for every task, because it never waits. Raises what the machine
    raises, SecurityError on a forged frame, and what the raw stream raises.
    """

    def __init__(self, channel: SecureChannel, machine: DataMachine[E], pool: BufferPool = POOL) -> None:
        self._stream = channel.stream
        self._direct = _direct(channel.stream)
        self._session = channel.session
        self._machine = machine
        self._pool = pool
        self._out: memoryview | None = None
        self._unsent: memoryview | None = None
        self._in: memoryview | None = None
        self._start = self._end = 0
        self._opened: memoryview | None = None
        """Plaintext in the buffer, in front of `_start`, that the machine has still to take."""
        self.behind = False
        """Not all that was read has been looked at: `receive` goes on with it, and does not wait."""
        self.intact = True
        """What was sealed and written so far is whole: neither was cut off in the middle, and more may follow."""
        self.heard_at = anyio.current_time()
        """When bytes last came, be it part of a frame."""
        self._written = self._heard = 0
        self._parked = channel.leftover
        self._plaintext = channel.plaintext

    def __repr__(self) -> str:
        return f"<SecureLink {self._stream!r}>"

    @property
    def unsent(self) -> bool:
        """Sealed bytes wait for the peer to read."""
        return self._unsent is not None

    @property
    def under_way(self) -> int:
        """Bytes that have not arrived at the peer's machine, as far as the stream can tell."""
        return len(self._unsent or b"") + under_way(self._stream)

    def tell_end(self) -> None:
        """Nothing more is written."""
        tell_end(self._stream)

    @property
    def signs(self) -> Signs:
        """That the peer is there."""
        handed_over = self._written + len(self._unsent or b"")
        return Signs(self.heard_at, handed_over, handed_over - self.under_way, self._heard)

    def begin(self) -> None:
        """Give the machine what was read before the link existed, or the first of it."""
        if self._plaintext:
            self._opened = memoryview(self._plaintext)
        if self._parked or self._opened:
            self._open_all(self._borrow(), Turn())

    def flush(self, turn: Turn | None = None) -> bool:
        """Write as much as goes without waiting, within `turn`; False when `drain` has to go on."""
        if self._direct is None:
            return False
        turn = turn or Turn()
        written = False
        while self._unsent is not None or self._fill():
            if written and turn.over:
                return False
            assert self._unsent is not None  # `_fill` has set it
            sent = self._direct.send_now(self._unsent)
            self._written += sent
            if sent < len(self._unsent):
                self._unsent = self._unsent[sent:]
                return False
            self._release_out()
            written = True
        return True

    async def drain(self) -> None:
        """Wait until the peer takes something, and write on. When cancelled, the connection is of no use any more.

        It returns after a piece, however much there is to write: who sets a deadline around it means a peer that reads nothing.
        """
        if self._direct is not None:
            await self._direct.wait_writable()
            self.flush()
            return
        if not self.intact:
            raise anyio.BrokenResourceError("a write was cut off in the middle")
        if self._unsent is not None or self._fill():
            assert self._unsent is not None  # `_fill` has set it
            self.intact = False
            await self._stream.send_all(self._unsent[:PIECE_BYTES])
            self.intact = True
            self._written += min(len(self._unsent), PIECE_BYTES)
            self._unsent = self._unsent[PIECE_BYTES:]
            if not self._unsent:
                self._release_out()

    async def receive(self, turn: Turn | None = None) -> None:
        """Wait for bytes; give the machine what is in the whole frames among them, as much as `turn` allows: it begins anew
        where there was something to wait for. May be cancelled without loss."""
        turn = turn or Turn()
        if self.behind:
            self._open_all(self._borrow(), turn)
            return
        if self._direct is None:
            self._park()
            await self._stream.wait_readable()
            turn.begin()
            received = await self._stream.receive_into(self._borrow()[self._end :])
        else:
            while (now := self._direct.receive_now(self._borrow()[self._end :])) is None:
                self._park()
                await self._stream.wait_readable()
                turn.begin()
            received = now
        self._end += received
        self._heard += received
        self.heard_at = anyio.current_time()
        self._open_all(self._borrow(), turn)

    def close(self) -> None:
        """Give all buffers back; what was not sent is lost."""
        self._release_out()
        self._opened = None
        self.behind = False
        self._start = self._end = 0
        self._park()

    def _fill(self) -> bool:
        """Seal as many frames as a buffer holds; False when the machine has nothing to say."""
        if not self.intact:
            return False
        self._out = buffer = self._pool.borrow()
        session = self._session
        prefix = session.prefix
        overhead = prefix + session.suffix
        filled = 0
        self.intact = False  # what the machine gives away here is lost when a frame cannot be sealed
        while (room := min(len(buffer) - filled - overhead, session.payload_max)) >= LAST_FRAME_BYTES:
            start = filled + prefix
            size = self._machine.write_to(buffer[start : start + room])
            if not size:
                break
            filled += session.seal(buffer[filled:], size)
        self.intact = True
        if not filled:
            self._release_out()
            return False
        self._unsent = buffer[:filled]
        return True

    def _release_out(self) -> None:
        self._unsent = None
        if self._out is not None:
            self._pool.give_back(self._out)
            self._out = None

    def _open_all(self, buffer: memoryview, turn: Turn) -> None:
        now = anyio.current_time()
        data = buffer[: self._end]
        self.behind = False
        while True:
            if self._opened is None:
                opened = self._session.open(data[self._start :])
                if opened is None:
                    break
                self._start += opened[0]
                self._opened = opened[1]
            if self._opened:
                self._opened = self._opened[self._machine.receive_data(self._opened, now) :]
            self._opened = self._opened or None
            if turn.over:
                self.behind = True
                return
        if self._start:
            self._end -= self._start
            buffer[: self._end] = data[self._start :]
            self._start = 0

    def _borrow(self) -> memoryview:
        if self._in is None:
            self._in = self._pool.borrow()
            self._end = len(self._parked)
            self._in[: self._end] = self._parked
            self._parked = b""
        return self._in

    def _park(self) -> None:
        """Nothing to read: keep the buffer only if it holds part of a frame and there are plenty."""
        if self._in is not None and (not self._end or self._pool.scarce):
            self._parked = bytes(self._in[: self._end])
            self._pool.give_back(self._in)
            self._in = None
            self._end = 0


def _direct(stream: RawStream) -> DirectStream | None:
    # An ability is asked for by its methods: wrappers of raw streams need not have it.
    return stream if hasattr(stream, "send_now") else None  # type: ignore[return-value] # seen in the line above
