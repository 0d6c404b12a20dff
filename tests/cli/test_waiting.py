"""Why a fetch waits, in the words of the network and with what may be looked at; in which order things are said."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from stack.cli import session
from stack.cli.app import BACKENDS, run
from stack.cli.fetching import HINTS, REFUSED, FetchScreen
from stack.cli.output import Progress
from stack.control import client
from stack.control.errors import NodeGone, NodeUnreachable
from stack.control.frames import CONTROL_VERSION, FrameStream
from stack.errors import NoProvider
from stack.files.events import (
    Connecting,
    FetchEvent,
    FetchFinished,
    FetchProgress,
    FetchResumed,
    FetchStarted,
    PeerDropped,
    ProviderFound,
    WaitingForProvider,
)
from stack.files.ticket import Ticket, encode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.upgrader import Upgrader
from stack.node.api import Api, GetIdentity, WatchWaiting
from stack.node.config import Config
from stack.node.home import ControlAddress, Home
from stack.pb.control_pb2 import Frame, Hello
from stack.security.pnet.shell import NotInNetwork, PrivateNetwork

ROOT = Cid.parse("bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am")
PEER = PeerId.parse("12D3KooWPz7DF2UiGNgYuBnW2zZueCTxwsJNzu6shENkrJ9ZVXgX")
WHERE = "10.77.0.10:33510"


def waiting(reason: str = "", address: str = WHERE, seconds: float = 4.0) -> WaitingForProvider:
    """Nobody delivers."""
    return WaitingForProvider(seconds=seconds, tried=1, peer=PEER, address=address, reason=reason)


def finished(received: int) -> FetchFinished:
    """The end."""
    return FetchFinished(
        root=ROOT,
        target=Path("f"),
        size=9,
        files=1,
        received=received,
        seconds=1.0,
        already_complete=not received,
        skipped=0,
    )


STARTED = FetchStarted(root=ROOT, name="f.mkv", target=Path("f.mkv"), size=9, files=1)
FOUND = ProviderFound(peer=PEER, source="ticket", address=WHERE)
PROGRESS = FetchProgress(bytes_done=3, total=9, rate=1.0, peers=1, received=3)


def said(capsys: pytest.CaptureFixture[str], *events: FetchEvent) -> list[str]:
    """The lines that these events leave."""
    screen = FetchScreen(Progress())
    for event in events:
        screen.show(event)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("part", HINTS)
def test_each_reason_has_its_hint(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, waiting(f"{part} 10 s")) == [f"waiting: {WHERE}: {part} 10 s; {HINTS[part]} (Ctrl-C ends it)"]


def test_whoever_is_in_another_network_is_known_by_every_end_of_the_handshake() -> None:
    """Which of them it is depends on what the other end reads out of our nonce."""
    private = Upgrader({}, {}, PrivateNetwork(b"k" * 32))
    assert all("key of this private network" in text for text in (str(private.first_phase), str(NotInNetwork.__doc__)))
    assert Upgrader({}, {}).first_phase == "security handshake"


def test_an_address_is_told_while_its_first_dial_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, Connecting(peer=PEER, address=WHERE), waiting(address=""))
    assert lines == [f"waiting: {WHERE} does not answer yet (Ctrl-C ends it)"]


def test_what_is_fetched_is_said_before_from_whom(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, FOUND, PROGRESS, STARTED, FetchResumed(bytes_present=2), PROGRESS, finished(9))
    assert lines == [
        "f.mkv: 9 B -> f.mkv",
        "resuming: 2 B are here already",
        f"fetching from {WHERE} (named by the ticket)",
    ]


def test_what_is_complete_is_fetched_from_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has the content was connected to, and asked for its name."""
    assert said(capsys, STARTED, FetchResumed(bytes_present=9), FOUND, finished(0)) == ["f.mkv: 9 B -> f.mkv"]


def test_what_comes_at_once_is_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, STARTED, FOUND, finished(9))[1:] == [f"fetching from {WHERE} (named by the ticket)"]


def test_why_somebody_is_dropped_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """While nobody else delivers it is why the fetch waits."""
    dropped = PeerDropped(peer=PEER, reason="it lies")
    assert said(capsys, dropped, waiting("it lies")) == [f"waiting: {WHERE}: it lies (Ctrl-C ends it)"]
    assert said(capsys, STARTED, dropped, PROGRESS)[1:] == [
        f"no longer asking {str(PEER)[:8]}…{str(PEER)[-4:]}: it lies"
    ]


TICKET = encode_ticket(Ticket(ROOT, "film.mkv", 9, PEER, (Multiaddr.parse("/ip4/10.77.0.10/tcp/33510"),)))
READS = ["cat", "ls", "get -o -", "pin add", "pin rm", "car export", "block get", "block stat"]
"""Commands that wait for what they read, and are not fetches that tell of themselves."""
QUIET = ["ls --json", "pin add --json", "pin rm --json", "block stat --json"]


class Unreachable:
    """A node that gets nothing of anybody."""

    def __init__(self) -> None:
        self.said = anyio.Event()

    @asynccontextmanager
    async def watch(self, request: object) -> AsyncIterator[AsyncIterator[object]]:
        yield self.waits() if isinstance(request, WatchWaiting) else self.nothing()

    @asynccontextmanager
    async def read(self, request: object) -> AsyncIterator[AsyncIterator[object]]:
        yield self.nothing()

    async def ask(self, *request: object) -> object:
        return await anext(self.nothing())

    write = ask

    async def waits(self) -> AsyncIterator[object]:
        yield waiting(address="")
        yield waiting(REFUSED, seconds=1.0)
        yield waiting(REFUSED, seconds=2.0)
        self.said.set()

    async def nothing(self) -> AsyncIterator[object]:
        with anyio.move_on_after(0.1):
            await self.said.wait()
        raise NoProvider("nobody")
        yield


@pytest.mark.anyio
async def test_a_daemon_that_goes_away_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited was shown a traceback of what would have told him why, above the sentence."""
    monkeypatch.setattr(session, "QUIET_SECONDS", 0.0)
    asked = anyio.Event()

    async def gone() -> None:
        asked.set()
        raise NodeGone("it went away")

    async with session._after_a_while(gone, quiet=False):
        await asked.wait()
        await anyio.wait_all_tasks_blocked()
    assert not caplog.records


@pytest.mark.anyio
async def test_a_node_that_breaks_off_every_request_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    asked = 0

    async def hang_up(stream: SocketStream) -> None:
        nonlocal asked
        asked += 1
        frames = FrameStream(stream)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await frames.send(Frame(hello=Hello(version=CONTROL_VERSION)))
            await frames.receive()
            await frames.receive()
        await stream.aclose()

    async def ask(api: Api) -> object:
        return await api.ask(GetIdentity())

    monkeypatch.setattr(session, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(session, "take", lambda _: False)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hang_up)
        port = listener.extra(SocketAttribute.local_port)
        home.announce_address(ControlAddress(None, "127.0.0.1", port, b"token"))
        with anyio.fail_after(10), pytest.raises(NodeUnreachable, match="breaks off whatever it is asked"):
            await session.with_api(Config(home=home.path), {}, ask)
        tasks.cancel_scope.cancel()
    assert asked > 2
    assert capsys.readouterr().err.count("has ended") <= 1


@pytest.mark.anyio
@pytest.mark.parametrize("ending", ["its socket is gone", "it hangs up"])
async def test_a_node_that_ends_between_its_address_and_the_first_request_is_followed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Of four commands started at once one now and then ended with "cannot be reached"."""
    home = Home(tmp_path / "home")
    home.prepare()
    gone, here = (str(tmp_path / name) for name in ("gone", "here"))
    asked, ended = 0, anyio.Event()

    async def hang_up(stream: SocketStream) -> None:
        await stream.aclose()

    async def answer(stream: SocketStream) -> None:
        nonlocal asked
        frames = FrameStream(stream)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await frames.send(Frame(hello=Hello(version=CONTROL_VERSION)))
            while True:
                await frames.receive()
                asked += 1
        await stream.aclose()
        ended.set()

    monkeypatch.setattr(session, "take", lambda _: False)
    addresses = iter([ControlAddress(gone)])
    monkeypatch.setattr(Home, "address", lambda _: next(addresses, ControlAddress(here)))
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(await anyio.create_unix_listener(path)) for path in (here, gone)]
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(listeners[0].serve, answer)
        if ending == "it hangs up":
            tasks.start_soon(listeners[1].serve, hang_up)
        else:
            Path(gone).unlink()
        with anyio.fail_after(10):
            async with session.open_api(Config(home=home.path)) as api, api.watch(WatchWaiting(source=str(ROOT))):
                while asked < 2:
                    await anyio.sleep(0.01)
            await ended.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_node_that_was_of_use_may_end_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0

    @asynccontextmanager
    async def open_api(*args: object) -> AsyncIterator[object]:
        yield object()

    async def work(api: object) -> int:
        nonlocal begun
        begun += 1
        if begun < 4:
            await anyio.sleep(0.1)
            raise NodeGone("it was begun anew")
        return begun

    for name, value in (("open_api", open_api), ("QUIET_SECONDS", 0.05), ("WAIT_SECONDS", 0.0)):
        monkeypatch.setattr(session, name, value)
    with anyio.fail_after(10):
        assert await session.with_api(Config(home=tmp_path), {}, work) == 4


@contextmanager
def unreachable(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    """Commands have that node, and no patience."""

    @asynccontextmanager
    async def open_api(*args: object) -> AsyncIterator[Unreachable]:
        yield Unreachable()

    modules = [import_module(f"stack.cli.{name}") for name in ("session", "get", "find", "peers", "pubsub")]
    with monkeypatch.context() as patched:
        patched.setenv("STACK_HOME", str(home))
        patched.setattr(session, "QUIET_SECONDS", 0.0)
        for module in modules:
            patched.setattr(module, "open_api", open_api)
        yield


@pytest.mark.parametrize("line", READS + QUIET)
def test_every_command_that_waits_says_why(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cat`, `ls`, `pin add` and `car export` of a share that had ended said nothing for 30 seconds. With --json they still do."""

    with unreachable(monkeypatch, tmp_path), pytest.raises(SystemExit) as ended:
        run([*line.split(), f"{TICKET}/below"])
    said = [
        f"waiting: {WHERE} does not answer yet (Ctrl-C ends it)",
        f"waiting: {WHERE}: connection refused; {HINTS[REFUSED]} (Ctrl-C ends it)",
    ]
    told = capsys.readouterr()
    assert ended.value.code == 3 and "waiting" not in told.out
    assert told.err.splitlines() == [*(said if line in READS else ()), "stack: nobody"]


OTHERS = {
    f"connect {WHERE}": f"waiting: {WHERE} does not answer yet",
    f"ping {PEER}": f"waiting: {PEER} does not answer yet",
    "find film": "looking for 10 s at the most",
    f"providers {ROOT}": "looking for 10 s at the most",
    "get 4-otter-lamp-violin -o -": "looking for who gives that code",
    "pubsub pub topic text": "looking for somebody who is in the topic",
    f"pubsub sub topic --connect {WHERE}": "waiting: whom to connect to does not answer yet",
}


@pytest.mark.parametrize("line", OTHERS)
def test_every_other_command_says_what_it_waits_for(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with unreachable(monkeypatch, tmp_path), pytest.raises(SystemExit):
        run(line.split())
    assert capsys.readouterr().err == f"{OTHERS[line]} (Ctrl-C ends it)\nstack: nobody\n"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("has_socket", [True, False], ids=["stands still", "is not ready"])
@pytest.mark.parametrize("line", ["peers", "id", f"ls {ROOT}", "peers --json", f"get {ROOT} --jsonl"])
def test_who_waits_for_the_node_of_its_home_is_told(
    line: str,
    has_socket: bool,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a daemon that was stopped in its tracks a command said nothing for as long as it waited, 20 seconds at the most."""
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STACK_BACKEND", backend)
    monkeypatch.setattr(session, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(session, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.3)
    home = Home(tmp_path / "home")
    assert home.acquire()
    with socket.socket(socket.AF_UNIX) as node, pytest.raises(SystemExit) as ended:
        if has_socket:
            node.bind(home.socket_path())
            node.listen()
            home.announce_address(ControlAddress(home.socket_path()))
        run(line.split())
    home.release()
    told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 6 and "does not answer" in told.pop()
    waits = f"another process holds {home.path}, and does not answer yet (Ctrl-C ends it)"
    assert told == ([] if "--json" in line else [waits])


def test_the_size_of_a_tree_is_the_most_it_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    """`src: 380 B`, and then `complete: 17 B`: the tree's nodes were counted too."""
    assert said(capsys, replace(STARTED, files=0))[0] == "f.mkv: up to 9 B -> f.mkv"
