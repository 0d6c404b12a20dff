"""`/stack/announce/1.0.0` on streams: questions of ours, and those of others. The machine decides what is asked and answered."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from stack.announce.events import Ask, Found
from stack.announce.lookups import FOUND_MAX
from stack.announce.messages import (
    PROTOCOL,
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    Request,
    Response,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from stack.net.failures import ASK_ERRORS
from stack.net.interfaces import Host
from stack.sansio.budget import Resource, Scope
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.streams.interfaces import Stream
from stack.streams.patience import patient

T = TypeVar("T")

ANSWER_SECONDS, ANSWER_SECONDS_MAX = 10.0, 30.0
"""For a dial, and again for a question and its answer, which may take longer while the line is busy with a fetch (`patient`)."""
REQUEST_SECONDS = 10.0
"""For a question to come, whole."""
SEND_SECONDS = 30.0
"""For an answer to be taken."""
READ_BYTES = 16 * 1024
WAITING_MAX = 32
"""Records that wait for an asker to read; more are dropped, since it will ask again."""


class Inbox:
    """Messages of one stream, each at most `limit` bytes; what is not whole yet is drawn from the peer's budget."""

    def __init__(self, stream: Stream, limit: int, budget: Scope) -> None:
        self._stream = stream
        self._reader = DelimitedReader(limit, backlog=limit + READ_BYTES + 16)
        self._held = budget.reserve(Resource.BYTES, 0)

    async def next_message(self) -> bytes:
        """The next one. Raises ASK_ERRORS; EndOfStream when there is none."""
        while (message := self._reader.next_message()) is None:
            data = await self._stream.receive(READ_BYTES)
            self._held.grow(len(data))
            self._reader.receive_data(data)
        self._held.shrink(len(message) + 4)
        return message

    def close(self) -> None:
        """Give back what is held."""
        self._held.release()


async def ask(
    host: Host,
    effect: Ask,
    prepared: Callable[[Response], Awaitable[Response]],
    answered: Callable[[Response | None, bool], None],
    limiter: anyio.CapacityLimiter,
) -> None:
    """Ask a member. `answered` is called once with its answer, or None, and True; then with what follows, and False. The answer
    has gone through `prepared` before.

    `limiter` bounds how many wait for an answer; the machine has a deadline of its own.
    """
    stream: Stream | None = None
    inbox: Inbox | None = None
    first = True
    try:
        async with limiter:
            if effect.addresses:
                with anyio.fail_after(ANSWER_SECONDS):
                    await host.connect(effect.peer, effect.addresses)
            stream = await host.open_stream(effect.peer, PROTOCOL)
            inbox = Inbox(stream, RESPONSE_BYTES_MAX, host.peer_budget(effect.peer))
            async with patient(stream, ANSWER_SECONDS, ANSWER_SECONDS_MAX):
                await stream.send(encode_delimited(encode_request(effect.request)))
                response = await prepared(decode_response(await inbox.next_message()))
        first = False
        answered(response, True)
        while effect.request.keep:
            answered(decode_response(await inbox.next_message()), False)
    except ASK_ERRORS:
        if first:
            answered(None, True)
    except Exception:
        # The machine waits for a word, whatever has happened.
        if first:
            answered(None, True)
        raise
    finally:
        if inbox is not None:
            inbox.close()
        if stream is not None:
            stream.reset()


class Served:
    """A stream on which somebody has asked, and may be told more."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._wake = anyio.Event()
        self._ended = False

    def push(self, data: bytes) -> None:
        """A record for the asker."""
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(data)
            self._wake.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake.set()

    async def run(self, stream: Stream) -> None:
        """Send what comes until either side has enough. Raises ASK_ERRORS, as they are and not in a group."""
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, stream, tasks.cancel_scope)
            try:
                await self._send_all(stream)
            except ASK_ERRORS as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _send_all(self, stream: Stream) -> None:
        while not self._ended or self._waiting:
            if not self._waiting:
                self._wake = anyio.Event()
                await self._wake.wait()
                continue
            await send(stream, Response(records=(self._waiting.popleft(),)))

    async def _watch(self, stream: Stream, scope: anyio.CancelScope) -> None:
        """The asker says nothing more; that it has gone is seen here."""
        try:
            while True:
                await stream.receive(READ_BYTES)
        except ASK_ERRORS:
            scope.cancel()


async def receive_request(stream: Stream, budget: Scope) -> Request:
    """What somebody asks. Raises ASK_ERRORS."""
    inbox = Inbox(stream, REQUEST_BYTES_MAX, budget)
    try:
        with anyio.fail_after(REQUEST_SECONDS):
            return decode_request(await inbox.next_message())
    finally:
        inbox.close()


async def send(stream: Stream, response: Response) -> None:
    """Raises ASK_ERRORS."""
    with anyio.fail_after(SEND_SECONDS):
        await stream.send(encode_delimited(encode_response(response)))


class Finding(Generic[T]):
    """What a lookup finds, as it comes: an async iterator. It is over when it is closed or nobody holds it any more. Of what nobody takes
    FOUND_MAX wait, as many authors as a lookup tells of; whose records change each minute fills no more."""

    def __init__(self, convert: Callable[[Found], list[T]], close: Callable[[], None], *, goes_on: bool) -> None:
        self._convert = convert
        self._close = close
        self._goes_on = goes_on
        self._found: deque[T] = deque()
        self._wake = anyio.Event()
        self._ended = False

    def __aiter__(self) -> "Finding[T]":
        return self

    async def __anext__(self) -> T:
        """The next; waits for it. May be cancelled."""
        while not self._found:
            if self._ended:
                raise StopAsyncIteration
            self._wake = anyio.Event()
            await self._wake.wait()
        return self._found.popleft()

    async def aclose(self) -> None:
        """Stop asking; for `contextlib.aclosing`."""
        self._end()
        self._close()

    def put(self, found: Found) -> None:
        """For the service: something was found."""
        self._found.extend(self._convert(found)[: FOUND_MAX - len(self._found)])
        self._wake.set()

    def round_ended(self, answers: int) -> None:
        """For the service: all have been asked."""
        if answers and not self._goes_on:
            self._end()
            self._close()

    def _end(self) -> None:
        self._ended = True
        self._wake.set()
