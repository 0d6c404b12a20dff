"""Judges messages: signatures in worker threads, several at a time, then what the application has set for the topic."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import anyio.lowlevel
import anyio.to_thread

from stack.gossipsub.events import Validate, Verdict
from stack.gossipsub.messages import Message
from stack.gossipsub.signing import is_authentic
from stack.identity.peer_id import PeerId
from stack.streams.supervision import Supervisor
from stack.streams.turns import Turn

_log = logging.getLogger(__name__)

VERIFIERS = 2
"""Tasks that verify signatures; each call into cryptography leaves the GIL for 120 us."""
BATCH = 32
"""Messages verified in one worker call: a call costs about as much as one signature."""
INLINE = 2
"""So few are verified on the spot."""
HELP_FROM = 32
"""When more wait, whoever reads from a peer verifies some. While it does, it holds no GIL: a verifier needs that after each
signature, and would wait 5 ms for a reader that only decodes. A quarter more messages on two cores."""
HELP = 8
"""So many at a time: a millisecond, then others run."""
WAITING_MAX = 256
"""Messages whose signatures are being verified or wait for that before peers are read from any further. With what one read
brings, 500 of the smallest, that is less than may be pending of one peer: nothing is dropped because a worker thread had to
wait for a processor."""
CALLS = 16
"""Calls of one asynchronous validator at a time."""
CALLS_WAITING_MAX = 1024
"""Messages that wait for one asynchronous validator; more are dropped unjudged (go-libp2p-pubsub: 1,024 at a time)."""
CALL_SECONDS = 30.0
"""For one call; a message whose validator takes longer is ignored."""

Validator = Callable[[PeerId, Message], Verdict]
"""Judges a message at once, given who sent it to us."""
AsyncValidator = Callable[[PeerId, Message], Awaitable[Verdict]]
"""The same, for what takes time."""
Result = Callable[[Sequence[tuple[int, Verdict]]], None]
"""Takes verdicts, each with the token of its `Validate`."""


class _Queue:
    """An asynchronous validator and what waits for it."""

    def __init__(self, validator: AsyncValidator) -> None:
        self.validator = validator
        self.waiting: deque[Validate] = deque()
        self.running = 0


class _Batch:
    """Messages whose signatures are verified together."""

    def __init__(self, validates: Iterable[Validate]) -> None:
        self.validates = deque(validates)
        self.authentic: deque[bool | None] | None = None
        """Once it is known, None for what could not be judged. Both lose what is told."""


class Judge:
    """Commands: `submit`, `set_validator`, `set_async_validator`, `wait_for_room`, `close`. Its tasks are the owner's."""

    def __init__(self, tasks: Supervisor, result: Result) -> None:
        self._tasks = tasks
        self._result = result
        self._validators: dict[str, Validator] = {}
        self._queues: dict[str, _Queue] = {}
        self._unverified: deque[Validate] = deque()
        self._under_way: deque[_Batch] = deque()
        self._count = 0
        """Messages in both."""
        self._work = anyio.Event()
        self._room = anyio.Event()
        self._closed = False
        self._limiter = anyio.CapacityLimiter(VERIFIERS)
        for _ in range(VERIFIERS):
            tasks.keep(self._verify, owner="verifying messages")

    def set_validator(self, topic: str, validator: Validator | None) -> None:
        """Judge messages of a topic on the event loop; None: no more."""
        self._queues.pop(topic, None)
        if validator is None:
            self._validators.pop(topic, None)
        else:
            self._validators[topic] = validator

    def set_async_validator(self, topic: str, validator: AsyncValidator) -> None:
        """Judge messages of a topic in tasks."""
        self._validators.pop(topic, None)
        self._queues[topic] = _Queue(validator)

    def submit(self, validate: Validate) -> None:
        """A message that wants a verdict; it comes later, never from within this call."""
        self._unverified.append(validate)
        self._count += 1
        if len(self._unverified) in (1, BATCH):
            self._work.set()

    async def wait_for_room(self) -> None:
        """Return when so few are unverified that more may come. Verdicts may come from within."""
        while len(self._unverified) > HELP_FROM and not self._closed:
            await self._settle(self._take(HELP), HELP)
            await self._finish()
        while self._count > WAITING_MAX and not self._closed:
            if self._room.is_set():
                self._room = anyio.Event()
            await self._room.wait()

    def close(self) -> None:
        """Nobody verifies any more: let those go who wait."""
        self._closed = True
        self._room.set()

    async def _verify(self) -> None:
        while True:
            # A second verifier only takes whole batches: small ones cost more than they bring.
            while len(self._unverified) < (BATCH if self._under_way else 1) and not self._is_to_be_told:
                if self._work.is_set():
                    self._work = anyio.Event()
                await self._work.wait()
            if not self._is_to_be_told:
                await self._settle(self._take(BATCH), INLINE)
            await self._finish()

    def _take(self, count: int) -> _Batch:
        """The next that wait, at most so many."""
        batch = _Batch([self._unverified.popleft() for _ in range(min(count, len(self._unverified)))])
        self._under_way.append(batch)
        return batch

    async def _settle(self, batch: _Batch, inline: int) -> None:
        """Verify a batch, on the spot when it is at most `inline`. Whatever happens it is settled: what came after it waits for it."""
        try:
            try:
                if sum(validate.verify for validate in batch.validates) <= inline:
                    authentic = _check(batch.validates)
                else:
                    authentic = await anyio.to_thread.run_sync(_check, batch.validates, limiter=self._limiter)
            except Exception as error:  # noqa: BLE001 - a container may have no thread to spare, or no memory for one
                _log.debug("messages are verified without a thread: %r", error)
                authentic = await _check_by_turns(batch.validates)
            batch.authentic = deque(authentic)
        finally:
            if batch.authentic is None:
                batch.authentic = deque([None] * len(batch.validates))

    async def _finish(self) -> None:
        """Tell the verdicts on what has been verified, turn by turn. A verifier goes on where this is cancelled."""
        try:
            while self._tell_some():
                await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        finally:
            if self._unverified or self._is_to_be_told:
                self._work.set()

    @property
    def _is_to_be_told(self) -> bool:
        return bool(self._under_way) and self._under_way[0].authentic is not None

    def _tell_some(self) -> bool:
        """Tell them for one turn, in the order in which they came: Kubo ignores messages of an author that arrive after a later
        one. True when there are more."""
        turn = Turn()
        verdicts: list[tuple[int, Verdict]] = []
        while self._under_way and (authentic := self._under_way[0].authentic) is not None and not turn.over:
            batch = self._under_way[0]
            validate = batch.validates.popleft()
            is_authentic = authentic.popleft()
            if is_authentic:
                verdict = self._judge(validate)
            else:
                verdict = Verdict.IGNORE if is_authentic is None else Verdict.BAD_SIGNATURE
            if verdict is not None:
                verdicts.append((validate.token, verdict))
            self._count -= 1
            if not batch.validates:
                self._under_way.popleft()
        if self._count <= WAITING_MAX:
            self._room.set()
        if verdicts:
            self._result(verdicts)
        return self._is_to_be_told

    def _judge(self, validate: Validate) -> Verdict | None:
        """The verdict on a message whose signature is good, None when it comes later."""
        topic = validate.message.topic
        validator = self._validators.get(topic)
        if validator is not None:
            try:
                return validator(validate.peer, validate.message)
            except Exception:  # noqa: BLE001 - the application's code may raise anything; nobody is blamed for that
                _log.exception("fault in the validator of %r", topic)
                return Verdict.IGNORE
        queue = self._queues.get(topic)
        if queue is None:
            return Verdict.ACCEPT
        if queue.running < CALLS:
            queue.running += 1
            self._tasks.start(self._call, queue, validate, owner="a validator of messages")
        elif len(queue.waiting) < CALLS_WAITING_MAX:
            queue.waiting.append(validate)
        else:
            return Verdict.THROTTLED
        return None

    async def _call(self, queue: _Queue, validate: Validate) -> None:
        """Judge one message after the other while any wait."""
        next_one: Validate | None = validate
        try:
            while next_one is not None:
                verdict = Verdict.IGNORE
                try:
                    with anyio.move_on_after(CALL_SECONDS):
                        verdict = await queue.validator(next_one.peer, next_one.message)
                except Exception:  # noqa: BLE001 - as above
                    _log.exception("fault in the validator of %r", next_one.message.topic)
                self._result([(next_one.token, verdict)])
                next_one = queue.waiting.popleft() if queue.waiting else None
        finally:
            queue.running -= 1


def _check(batch: Iterable[Validate]) -> list[bool | None]:
    """Runs in a worker thread."""
    return [_is_authentic(validate) for validate in batch]


async def _check_by_turns(batch: Iterable[Validate]) -> list[bool | None]:
    turn = Turn()
    authentic: list[bool | None] = []
    for validate in batch:
        authentic.append(_is_authentic(validate))
        await turn.give_way()
    return authentic


def _is_authentic(validate: Validate) -> bool | None:
    """None where that cannot be told, which is not the sender's fault."""
    try:
        return not validate.verify or is_authentic(validate.message)
    except Exception:  # noqa: BLE001 - those that came after it wait for this verdict
        _log.exception("fault in verifying a message of %r", validate.message.topic)
        return None
