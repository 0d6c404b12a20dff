"""The control socket of a node: other commands of the same home are served here."""

import hmac
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import anyio.to_thread
from anyio.abc import ByteStream

from stack.control.frames import CONTROL_VERSION, FrameStream, dump, load
from stack.errors import DecodeError, StackError
from stack.node import api as requests
from stack.node.api import Api, Ask, Read, Watch, Write
from stack.node.exit_codes import BUG, REFUSED, USAGE
from stack.node.exits import exit_code, kind_of, what_the_system_says
from stack.node.schema import from_tagged, to_tagged
from stack.pb.control_pb2 import Call, Failed, Finished, Frame, Hello, Item
from stack.platform import no_such_characters

_log = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
"""A client that does not say hello is a port scanner, or stuck; one that says what it wants says it with its hello."""

ROWS_QUICK = 100
"""Of a longer list the answer is written beside the event loop: ten thousand pins take 130 ms."""

REQUESTS: dict[str, type] = {
    name: kind
    for name, kind in vars(requests).items()
    if isinstance(kind, type) and issubclass(kind, (Ask, Watch, Read, Write)) and kind not in (Ask, Watch, Read, Write)
}


LASTING = (requests.Fetch, requests.Share, requests.WatchShare, requests.OfferCode, requests.Subscribe)
"""Requests of commands that go on with another node when theirs ends (`cli.session.with_api`)."""


class ControlServer:
    """Serves requests of one connection after the other; each connection carries one request.

    `token` must be sent by the client where the socket is open to other users (TCP); None where file permissions guard it.
    """

    def __init__(self, api: Api, agent: str, token: bytes | None) -> None:
        self._api = api
        self._agent = agent
        self._token = token
        self._taken_along: set[anyio.CancelScope] = set()
        self._staying: set[anyio.CancelScope] = set()
        self._handed_over = False

    def hand_over(self) -> None:
        """The process is about to end: commands that last begin again with the next holder of the home, and need not be waited for."""
        self._handed_over = True
        for scope in tuple(self._taken_along):
            scope.cancel()

    @property
    def staying(self) -> int:
        """Clients that may ask more."""
        return len(self._staying)

    def part(self) -> None:
        """Who may ask more asks the next holder."""
        for scope in tuple(self._staying):
            scope.cancel()

    async def serve(self, stream: ByteStream) -> None:
        """Serve one connection; never raises but on cancellation."""
        frames = FrameStream(stream)
        async with stream:
            try:
                with anyio.fail_after(HELLO_SECONDS):
                    call = await self._greet(frames)
                if call is not None:
                    await self._answer(call, frames)
            except TimeoutError:
                _log.debug("control connection dropped: it did not say what it wants")
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            except StackError as error:
                _log.debug("control connection dropped: %s", error)

    async def _greet(self, frames: FrameStream) -> Call | None:
        """What the client calls for; None when it is not one of ours."""
        await frames.send(Frame(hello=Hello(version=CONTROL_VERSION, agent=self._agent)))
        hello = (await frames.receive()).hello
        if hello.version != CONTROL_VERSION:
            return None
        if self._token is not None and not hmac.compare_digest(hello.token, self._token):
            return None
        return (await frames.receive()).call

    async def _answer(self, call: Call, frames: FrameStream) -> None:
        try:
            request = _request(call)
        except DecodeError as error:
            await frames.send(Frame(failed=Failed(kind="DecodeError", message=str(error), exit_code=USAGE)))
            return
        except Exception as error:  # noqa: BLE001 - as in `_outcome`
            await frames.send(_bug("a request", error))
            return
        last: Frame | None = None
        async with anyio.create_task_group() as tasks:
            if isinstance(request, LASTING):
                self._taken_along.add(tasks.cancel_scope)
                if self._handed_over:
                    tasks.cancel_scope.cancel()
            elif isinstance(request, requests.Stay):
                self._staying.add(tasks.cancel_scope)
            try:
                if not isinstance(request, Write):
                    tasks.start_soon(_watch_client, frames, tasks.cancel_scope)
                last = await self._outcome(request, frames)
                tasks.cancel_scope.cancel()
            finally:
                self._taken_along.discard(tasks.cancel_scope)
                self._staying.discard(tasks.cancel_scope)
        if last is not None:
            await frames.send(last)

    async def _outcome(self, request: object, frames: FrameStream) -> Frame | None:
        """Run the request; the last frame to send, or None when the client has gone."""
        try:
            await self._run(request, frames)
            return Frame(finished=Finished())
        except StackError as error:
            return Frame(failed=Failed(kind=kind_of(error), message=str(error), exit_code=exit_code(error)))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return None
        except OSError as error:
            message = what_the_system_says(error)
            return Frame(failed=Failed(kind=type(error).__name__, message=message, exit_code=exit_code(error)))
        except Exception as error:  # noqa: BLE001 - a bug in one request must not end the node; the client is told
            return _bug(type(request).__name__, error)

    async def _run(self, request: object, frames: FrameStream) -> None:
        match request:
            case Ask():
                await frames.send(await _item(await self._api.ask(request)))
            case Watch():
                async with self._api.watch(request) as events:
                    async for event in events:
                        await frames.send(await _item(event))
            case Read():
                async with self._api.read(request) as pieces:
                    async for piece in pieces:
                        await frames.send_data(piece)
            case Write():
                async with aclosing(_payloads(frames)) as payloads:
                    await frames.send(await _item(await self._api.write(request, payloads)))


def _request(call: Call) -> object:
    form = load(call.request)
    if not isinstance(form, dict):
        raise DecodeError("a request is an object")
    return from_tagged(form, REQUESTS)


def _bug(what: str, error: Exception) -> Frame:
    if (
        isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8"
    ):  # a path typed where there are more characters than here
        return Frame(failed=Failed(kind="Refused", message=no_such_characters(error), exit_code=REFUSED))
    _log.error("%s failed", what, exc_info=error)
    return Frame(failed=Failed(kind=type(error).__name__, message=f"internal error: {error!r}", exit_code=BUG))


async def _item(value: object) -> Frame:
    if isinstance(value, tuple) and len(value) > ROWS_QUICK:
        return await anyio.to_thread.run_sync(_write_item, value)
    return _write_item(value)


def _write_item(value: object) -> Frame:
    return Frame(item=Item(value=dump(to_tagged(value))))


async def _payloads(frames: FrameStream) -> AsyncGenerator[bytes, None]:
    while payload := (await frames.receive()).data.payload:
        yield payload


async def _watch_client(frames: FrameStream, scope: anyio.CancelScope) -> None:
    """A client that cancels, or goes away, ends its request."""
    try:
        await frames.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, StackError):
        pass
    scope.cancel()
