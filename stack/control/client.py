"""`Api` over the control socket of a node that runs in another process."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TypeVar, cast

import anyio
from anyio.abc import ByteStream

from stack.control.errors import NodeGone, NodeUnreachable
from stack.control.frames import CONTROL_VERSION, FrameStream, dump, load
from stack.control.sockets import connect_local
from stack.errors import StackError
from stack.files import events as fetch_events
from stack.node import api
from stack.node.api import Ask, Read, Stay, Watch, Write
from stack.node.exits import told_error
from stack.node.home import ControlAddress
from stack.node.schema import from_tagged, to_tagged
from stack.pb.control_pb2 import Call, Data, Frame, Hello

A = TypeVar("A")

ANSWERS: dict[str, type] = {
    name: kind for module in (api, fetch_events) for name, kind in vars(module).items() if isinstance(kind, type)
}

CONNECT_SECONDS = 5.0


@contextmanager
def _no_answer() -> Iterator[None]:
    """Around what is read of the node, and nothing else: what a program raises while it follows something is its own."""
    try:
        yield
    except TimeoutError as error:
        raise NodeUnreachable("the node that holds this home does not answer") from error
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise NodeGone("the node that holds this home went away before it had answered") from error


class ControlClient:
    """Asks the node behind `address`; each request opens a connection of its own."""

    is_elsewhere = True

    def __init__(
        self, address: ControlAddress, waiting: Callable[[], AbstractAsyncContextManager[object]] = nullcontext
    ) -> None:
        """`waiting` is around the first wait for a sign of the node."""
        self._address = address
        self._waiting = waiting

    @asynccontextmanager
    async def staying(self) -> AsyncIterator[None]:
        """For as long as the context lasts the node waits with its end, where that can wait, so that one request after the other is
        answered. Raises NodeGone when nobody is there any more, NodeUnreachable."""
        async with self._call(Stay()):
            yield

    @asynccontextmanager
    async def _call(self, request: object) -> AsyncIterator[FrameStream]:
        stream = await self._connect()
        async with stream:
            frames = FrameStream(stream)
            with _no_answer():
                waiting, self._waiting = self._waiting, nullcontext
                async with waiting():
                    with anyio.fail_after(CONNECT_SECONDS):
                        theirs = (await frames.receive()).hello
                if theirs.version != CONTROL_VERSION:
                    raise NodeUnreachable(
                        f"the running node ({theirs.agent or 'unknown'}) speaks version {theirs.version} of the control "
                        f"protocol, this command {CONTROL_VERSION}: restart the node, or use its own version of the command"
                    )
                await frames.send(Frame(hello=Hello(version=CONTROL_VERSION, token=self._address.token)))
                await frames.send(Frame(call=Call(request=dump(to_tagged(request)))))
            yield frames

    async def _connect(self) -> ByteStream:
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                if self._address.path is not None:
                    return await connect_local(self._address.path)
                return await anyio.connect_tcp(self._address.host, self._address.port)
        except (OSError, TimeoutError) as error:
            cause = error.__cause__ or error  # anyio's own says only that it was to no avail
            gone = isinstance(cause, FileNotFoundError | ConnectionRefusedError)
            message = f"the node that holds this home cannot be reached: {error}"
            raise (NodeGone if gone else NodeUnreachable)(message) from error

    async def ask(self, request: Ask[A]) -> A:
        """One answer."""
        async with self._call(request) as frames:
            return cast(A, _only([answer async for answer in _Items(frames)]))

    @asynccontextmanager
    async def watch(self, request: Watch[A]) -> AsyncIterator[AsyncIterator[A]]:
        """Events; leaving the context closes the connection, which ends the work there."""
        async with self._call(request) as frames:
            yield cast(AsyncIterator[A], _Items(frames))

    @asynccontextmanager
    async def read(self, request: Read) -> AsyncIterator[AsyncIterator[bytes]]:
        """A byte stream."""
        async with self._call(request) as frames:
            yield _Pieces(frames)

    async def write(self, request: Write[A], data: AsyncIterator[bytes]) -> A:
        """Send a byte stream, then one answer."""
        async with self._call(request) as frames:
            answers: list[object] = []
            failure: Exception | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_send_pieces, frames, data)
                try:
                    answers = [answer async for answer in _Items(frames)]
                except StackError as error:
                    failure = error  # raised below, outside of the group, so that it keeps its type
                tasks.cancel_scope.cancel()
            if failure is not None:
                raise failure
            return cast(A, _only(answers))


async def _send_pieces(frames: FrameStream, data: AsyncIterator[bytes]) -> None:
    try:
        async for piece in data:
            await frames.send_data(piece)
        await frames.send(Frame(data=Data()))
    except anyio.BrokenResourceError:
        pass  # the node refused in the middle: its last frame says why


def _only(answers: list[object]) -> object:
    if len(answers) != 1:
        raise NodeUnreachable(f"the running node gave {len(answers)} answers where one was due")
    return answers[0]


def _answer(frame: Frame) -> Frame:
    """An answer. Raises StopAsyncIteration at the end, NodeError where the request failed."""
    match frame.WhichOneof("kind"):
        case "finished":
            raise StopAsyncIteration
        case "failed":
            raise told_error(frame.failed.kind, frame.failed.message, frame.failed.exit_code)
    return frame


class _Items:
    """Answers as values. A class, because an async generator that is left half-way leaves its clean-up to chance."""

    def __init__(self, frames: FrameStream) -> None:
        self._frames = frames

    def __aiter__(self) -> "_Items":
        return self

    async def __anext__(self) -> object:
        with _no_answer():
            frame = await self._frames.receive()
        return from_tagged(load(_answer(frame).item.value), ANSWERS)


class _Pieces:
    """Answers as bytes."""

    def __init__(self, frames: FrameStream) -> None:
        self._frames = frames

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        with _no_answer():
            part = await self._frames.receive_part()
        return part if isinstance(part, bytes) else _answer(part).data.payload
