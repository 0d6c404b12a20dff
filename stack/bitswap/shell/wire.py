"""Messages from streams, in buffers that grow with what comes."""

from collections.abc import Awaitable, Callable, Generator
from typing import cast

import anyio
import anyio.to_thread

from stack.bitswap.counting import BlockBytes
from stack.bitswap.cutting import FIRST_BYTES, LEAD_BYTES, Cutter
from stack.bitswap.lending import LOOK_SECONDS, Borrowing, Granted, Lender
from stack.bitswap.messages import WANTS_PER_MESSAGE_MAX, Message, decode_by_and_by, in_parts
from stack.bitswap.shell.buffers import MessageBuffers, buffer_size
from stack.bitswap.shell.lane import Throttle
from stack.bitswap.wants import SessionId
from stack.errors import LimitExceeded, RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.net.addresses import group_of
from stack.net.interfaces import Host
from stack.platform import trim_memory
from stack.sansio.budget import Resource
from stack.sansio.pace import Pace
from stack.streams.interfaces import Stream
from stack.streams.turns import Turn

__all__ = ["FIRST_BYTES", "LEAD_BYTES", "Loan", "Receiver", "Throttle"]

MIB = 1024 * 1024

RECEIVE_TOTAL_MAX = 48 * MIB
"""Received from all peers and not yet handed over; at most half of what the node may hold for peers. What finds no
room here waits in the muxer, and is copied twice."""

RECEIVE_UNASKED_MAX = 8 * MIB
"""The same of all peers whom we asked nothing, at most a quarter of the whole: they can send us only wantlists, and blocks that
we have had from others meanwhile."""

ASKED_SECONDS = 60.0
"""For so long after it has sent something that was asked, a peer counts as asked: what was withdrawn may be on its way."""

ASKED_PEERS_MAX = 1024

MESSAGE_SECONDS = 10.0
"""A message that fits into the lead must be there so long after its first byte."""

IDLE_SECONDS = 180.0
"""A stream on which nothing comes is closed; its peer opens another one when it has something to say."""

IDLE_STREAMS_MAX = 16
"""Of one peer. When there are more the one that has been idle longest is closed, not the newcomer."""

PROGRESS_BYTES = 16 * 1024
"""A peer is alive when it has sent this much of a message: one byte now and then is not enough."""

ENTRIES_PER_SECOND = 10_000
WORKERS_MAX = 1024
"""Wants and presences of one peer that are looked at, over time, and peers of whom that is remembered. Each costs some 10 us of
the event loop; who fetches ten megabytes a second in the smallest files says less."""

MISS_ENTRIES = 8
"""A want for what is not here counts like so many more: it is looked up, kept, and answered, for nothing. Measured: 50 us of the
event loop, so that a peer which wants what nobody has gets a sixteenth of it (attack 5)."""

REST_SECONDS = 30.0
"""Buffers that nobody has needed for so long are let go."""

SPEED_BYTES = MIB
"""A second. Who has sent a message so fast gets as much memory at once for the next one."""


class Loan:
    """The memory of a long message, charged to its peer; `release` gives both back and may be called twice."""

    __slots__ = ("_receiver", "began", "blocks", "borrowing", "brought", "buffer", "granted", "scope", "told", "view")

    def __init__(self, receiver: "Receiver", borrowing: Borrowing, began: float) -> None:
        self._receiver = receiver
        self.borrowing = borrowing
        self.began = began
        self.buffer: bytearray | None = None
        self.blocks = BlockBytes()
        self.brought: dict[SessionId, int] = {}
        """Bytes of its blocks that have been delivered, by session."""
        self.told = 0
        """Bytes of blocks of which it was told that they have come, until somebody tells what became of them."""
        self.view = memoryview(b"")
        """The message, once it is whole."""
        self.granted = anyio.Event()
        self.scope = anyio.CancelScope()
        """Of whoever waits for its bytes."""

    @property
    def peer(self) -> PeerId:
        """Who sends it."""
        return self.borrowing.peer

    def release(self) -> None:
        """Give the buffer back."""
        self._receiver.give_back(self)


class Receiver:
    """Reads inbound streams. `receive(peer, message, loan)` gets each message and must release the loan, if there is one,
    when it is done with the blocks; `progress(peer, size)` tells while a long one comes that so much more of blocks has,
    and `broken(peer, size, ours)` that so much of it has come for nothing, for a reason of ours or not; `asked(peer)` says whether we
    expect blocks. Those are read no faster than `throttle` allows, and those of short messages, for which there is no
    loan, as there is `room`.
    """

    def __init__(
        self,
        host: Host,
        *,
        receive: Callable[[PeerId, Message, Loan | None], None],
        progress: Callable[[PeerId, int], None],
        broken: Callable[[PeerId, int, bool], None],
        asked: Callable[[PeerId], bool],
        room: Callable[[], Awaitable[object]],
        throttle: Throttle | None = None,
    ) -> None:
        self._host = host
        self._throttle = throttle
        self._receive = receive
        self._progress = progress
        self._broken = broken
        self._asked = asked
        self._room = room
        self._buffers = MessageBuffers()
        memory = host.budget.limit(Resource.BYTES)
        total = RECEIVE_TOTAL_MAX if memory is None else min(RECEIVE_TOTAL_MAX, memory // 2)
        self._receiving = host.budget.child("messages on their way here", {Resource.BYTES: total})
        unasked = min(RECEIVE_UNASKED_MAX, total // 4)
        self._from_unasked = self._receiving.child("messages nobody asked for", {Resource.BYTES: unasked})
        self._lender = Lender(self._receiving, self._from_unasked)
        self._loans: dict[Borrowing, Loan] = {}
        self._asked_at: dict[PeerId, float] = {}
        self._work: dict[PeerId, _Work] = {}
        self._long_wantlist = anyio.Lock()
        self._idle: dict[PeerId, dict[anyio.CancelScope, None]] = {}

    @property
    def used(self) -> int:
        """Bytes of buffers that are lent, for tests and for `stack doctor`."""
        return self._receiving.used(Resource.BYTES)

    @property
    def _unasked(self) -> int:
        """Of them, those of peers that were asked nothing."""
        return self._from_unasked.used(Resource.BYTES)

    async def rest(self) -> None:
        """The duty of letting buffers go, and all that is free where nothing is being received."""
        while True:
            await anyio.sleep(REST_SECONDS)
            self._buffers.rest()
            if not self.used:
                await anyio.to_thread.run_sync(trim_memory)

    async def serve(self, stream: Stream, *, ours: bool = False) -> None:
        """Read messages until the peer ends the stream, or nothing has come for long; of a stream of ours we have one a peer, and
        keep it however long the peer is silent there.

        Raises RemoteProtocolError on what is malformed, too long or too slow, LimitExceeded when there is no memory for it,
        and what the stream raises.
        """
        cutter = Cutter()
        loan: Loan | None = None
        try:
            while True:
                if cutter.size is None:
                    if not await self._receive_short(stream, cutter, ours):
                        # Not closed politely: what its peer sends before it sees the end would be lost without a word.
                        stream.reset()
                        return
                else:
                    loan = loan or self._begin(stream)
                    await self._receive_long(stream, cutter, loan)
                while (cut := cutter.next_message()) is not None:
                    if loan is not None:
                        self._arrived(loan, cut.data, cutter)
                    # From here on it is the business of who receives it.
                    whole, loan = loan, None
                    await self._read(stream.remote_peer, cut.data, whole)
        except anyio.EndOfStream:
            if cutter.begun:
                raise RemoteProtocolError("stream ended inside of a message") from None
        finally:
            if loan is not None:
                loan.release()

    async def _receive_short(self, stream: Stream, cutter: Cutter, ours: bool) -> bool:
        """Something more of what fits into the lead; False when nothing comes for long or its place is needed."""
        if cutter.begun:
            with anyio.move_on_after(MESSAGE_SECONDS) as limit:
                cutter.filled(await stream.receive_into(cutter.buffer()))
            if limit.cancelled_caught:
                raise RemoteProtocolError("a message did not arrive in time")
            return True
        if ours:
            cutter.filled(await stream.receive_into(cutter.buffer()))
            return True
        peer = stream.remote_peer
        idle = self._idle.setdefault(peer, {})
        with anyio.move_on_after(IDLE_SECONDS) as limit:
            idle[limit] = None
            if len(idle) > IDLE_STREAMS_MAX:
                next(iter(idle)).cancel()
            try:
                cutter.filled(await stream.receive_into(cutter.buffer()))
            finally:
                del idle[limit]
                if not idle and self._idle.get(peer) is idle:
                    del self._idle[peer]
        return not limit.cancelled_caught

    def _begin(self, stream: Stream) -> Loan:
        peer, now = stream.remote_peer, anyio.current_time()
        asked = self._asked(peer) or now - self._asked_at.get(peer, -ASKED_SECONDS) < ASKED_SECONDS
        group = group_of(stream.remote_address)
        borrowing = self._lender.begin(peer, group, self._host.peer_budget(peer), asked=asked, now=now)
        loan = self._loans[borrowing] = Loan(self, borrowing, now)
        return loan

    async def _receive_long(self, stream: Stream, cutter: Cutter, loan: Loan) -> None:
        """Memory for what comes next, and what comes until that is full."""
        borrowing = loan.borrowing
        if needed := cutter.needs:
            await self._lend(cutter, loan, buffer_size(needed))
        throttle = self._throttle if borrowing.asked else None
        while len(cutter.buffer()):
            with anyio.move_on_after(LOOK_SECONDS) as loan.scope:
                while room := cutter.buffer():
                    count = await stream.receive_into(room if throttle is None else room[: throttle.piece])
                    cutter.filled(count)
                    self._lender.progress(borrowing, count, anyio.current_time())
                    fresh = loan.blocks.look(cutter.come) - loan.told
                    if fresh >= PROGRESS_BYTES:
                        loan.told += fresh
                        self._progress(loan.peer, fresh)
                    if throttle is not None:
                        borrowing.held_up = True
                        await throttle.pause(count, loan.scope)
                        borrowing.held_up = False
            self._look()
            _check(borrowing)

    async def _lend(self, cutter: Cutter, loan: Loan, amount: int) -> None:
        """Waiting here is what slows a peer down."""
        loan.granted = anyio.Event()
        self._lender.ask(loan.borrowing, amount, anyio.current_time())
        self._settle()
        while not loan.granted.is_set():
            with anyio.move_on_after(LOOK_SECONDS):
                await loan.granted.wait()
            self._look()
        _check(loan.borrowing)
        before = cutter.lend(self._buffers.borrow(amount))
        loan.buffer = cutter.memory
        if before is not None:
            self._buffers.give_back(before)

    def _arrived(self, loan: Loan, data: memoryview, cutter: Cutter) -> None:
        self._lender.arrived(loan.borrowing)
        loan.view = data
        now = anyio.current_time()
        if loan.borrowing.asked:
            self._asked_at.pop(loan.peer, None)
            self._asked_at[loan.peer] = now
            if len(self._asked_at) > ASKED_PEERS_MAX:
                del self._asked_at[next(iter(self._asked_at))]
        fast = len(data) >= SPEED_BYTES * (now - loan.began)
        cutter.first = max(len(data), FIRST_BYTES) if fast else FIRST_BYTES

    async def _read(self, peer: PeerId, data: memoryview, loan: Loan | None) -> None:
        """Understand a message and hand it over. A long wantlist is work: one at a time, in turns of the event loop, and no more
        of one peer than it may have done for it."""
        work = self._work_of(peer)
        decoding = decode_by_and_by(data)
        try:
            try:
                next(decoding)
            except StopIteration as end:
                message = cast(Message, end.value)
                whole, loan = loan, None
                self._hand_over(peer, message, whole)
                if message.blocks and whole is None:
                    await self._room()
                entries = _entries(message)
                if entries and (delay := work.delay(entries)):
                    await anyio.sleep(delay)
                return
            is_lent = loan is not None
            async with work.lock:
                await anyio.sleep(work.delay(0))
                async with self._long_wantlist:
                    turn = Turn()
                    message = await _decode(decoding, turn)
                    for part in in_parts(message):
                        await turn.give_way()
                        whole, loan = loan if part.blocks else None, None if part.blocks else loan
                        self._hand_over(peer, part, whole)
                work.delay(_entries(message))
            if message.blocks and not is_lent:
                await self._room()
        finally:
            if loan is not None:
                loan.release()

    def _hand_over(self, peer: PeerId, message: Message, loan: Loan | None) -> None:
        try:
            self._receive(peer, message, loan)
        except BaseException:
            if loan is not None:
                loan.release()
            raise

    def missed(self, peer: PeerId, wants: int) -> None:
        """So many of what it wanted are not here."""
        if wants:
            self._work_of(peer).delay(MISS_ENTRIES * wants)

    def _work_of(self, peer: PeerId) -> "_Work":
        work = self._work.pop(peer, None) or _Work()
        self._work[peer] = work
        if len(self._work) > WORKERS_MAX:
            del self._work[next(iter(self._work))]
        return work

    def _look(self) -> None:
        self._lender.look(anyio.current_time())
        self._settle()

    def _settle(self) -> None:
        while (effect := self._lender.next_effect()) is not None:
            loan = self._loans[effect.borrowing]
            loan.granted.set()
            if not isinstance(effect, Granted):
                loan.scope.cancel()

    def give_back(self, loan: Loan) -> None:
        """A loan is released."""
        if self._loans.pop(loan.borrowing, None) is None:
            return
        if loan.told:
            self._broken(loan.peer, loan.told, loan.borrowing.ours)
        if loan.buffer is not None:
            self._buffers.give_back(loan.buffer)
            loan.buffer = None
        self._lender.release(loan.borrowing, anyio.current_time())
        self._settle()


class _Work:
    """What one peer, on all its streams together, has had done for it lately."""

    __slots__ = ("_pace", "lock")

    def __init__(self) -> None:
        self._pace = Pace(ENTRIES_PER_SECOND, anyio.current_time(), burst=WANTS_PER_MESSAGE_MAX)
        self.lock = anyio.Lock()
        """Its long wantlists come one after the other."""

    def delay(self, entries: int) -> float:
        """Seconds to wait after so many more."""
        return self._pace.take(entries, anyio.current_time())


def _entries(message: Message) -> int:
    return len(message.wants) + len(message.presences)


async def _decode(decoding: Generator[None, None, Message], turn: Turn) -> Message:
    while True:
        try:
            next(decoding)
        except StopIteration as end:
            return cast(Message, end.value)
        await turn.give_way()


def _check(borrowing: Borrowing) -> None:
    if borrowing.taken_back:
        if borrowing.ours:
            raise LimitExceeded("bytes for messages on their way here", 0)
        raise RemoteProtocolError("a message did not go on")
