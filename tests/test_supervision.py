"""No task of one peer, link, stream or duty ends more than that: how tasks are started, and what happens when they raise.

Named after the fault that showed it (finding 1): one `BusyResourceError` of one stream took whole nodes down.
"""

import ast
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import anyio
import pytest

from stack import Config, Node
from stack.files.ticket import decode_ticket
from stack.streams import supervision
from stack.streams.supervision import TaskFailed
from stack.trace import TraceEvent
from tests.net.hosts import settled
from tests.test_layers import sources

STARTERS = frozenset({"create_task", "ensure_future", "run_coroutine_threadsafe", "spawn_system_task", "Thread"})
"""What starts a task or a thread without an owner."""
GROUPS = frozenset({"create_task_group", "task_group"})

ALLOWED = {
    "streams/supervision.py:": "this is the one way",
    "net/dialer.py:_work": "attempts of one dial",
    "cli/live.py:__init__": "the thread that draws, which ends with the process",
    "files/add.py:_add_some": "parts of one import",
    "files/add_file.py:leaves": "parts of one import",
    "files/fetch.py:open": "one fetch, for as long as somebody reads of it",
    "files/fetch_file.py:_writer": "parts of one fetch",
    "files/fetch_tree.py:_start": "parts of one fetch",
    "files/leaves.py:_start": "parts of one fetch",
    "files/read.py:": "parts of one read, for as long as somebody reads",
    "node/handlers/files.py:run_import": "one import, for as long as somebody reads of it",
    "node/patience.py:_patience": "one call of a session, and who watches over it",
    "streams/patience.py:patient": "what is said on a stream, and who watches over it",
}
"""`file:function`, or what that begins with: why its tasks may be started in a group of their own."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function, but not in functions within it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from own_nodes(child)


def named(call: ast.AST) -> str:
    return ast.unparse(call).split(".")[-1]


def groups_of_a_call(function: ast.AST) -> set[str]:
    """Groups that are opened in a function which returns: not in a context, whose group lives as long as that."""
    nodes = list(own_nodes(function))
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes):
        return set()
    return {
        item.optional_vars.id
        for node in nodes
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.context_expr, ast.Call) and named(item.context_expr.func) in GROUPS
        if isinstance(item.optional_vars, ast.Name)
    }


def starts(function: ast.AST) -> Iterator[str]:
    """Ways in which a function starts tasks that are neither supervised nor of one call."""
    groups = groups_of_a_call(function)
    for node in own_nodes(function):
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call) and named(node.value.func) == "start":
            yield ast.unparse(node)  # of a task group; a Supervisor's is not awaited
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "start_soon":
            if ast.unparse(node.func.value) not in groups:
                yield ast.unparse(node)
        elif named(node.func) in STARTERS:
            yield ast.unparse(node)


@pytest.mark.apart
def test_every_long_lived_task_has_a_supervisor() -> None:
    found = [
        (f"{relative}:{function.name}", way)
        for relative, tree in sources()
        for function in functions(tree)
        for way in starts(function)
    ]
    wrong = [(place, way) for place, way in found if not any(place.startswith(allowed) for allowed in ALLOWED)]
    assert not wrong, f"start these with a Supervisor, or say in ALLOWED why not: {wrong}"
    unused = [allowed for allowed in ALLOWED if not any(place.startswith(allowed) for place, _ in found)]
    assert not unused


def test_the_test_sees_what_it_looks_for() -> None:
    source = """
class Service:
    async def run(self):
        async with anyio.create_task_group() as parts:
            parts.start_soon(self.part)
    async def open(self):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.duty)
            yield self
    def connected(self, peer):
        self._tasks.start_soon(self.link, peer)
        asyncio.create_task(self.link(peer))
"""
    found = {function.name: list(starts(function)) for function in functions(ast.parse(source))}
    assert [name for name, ways in found.items() if ways] == ["open", "connected"]
    assert len(found["connected"]) == 2


WORK = (
    "net.host:Host._watch",
    "net.host:Host._ask",
    "net.swarm:Swarm._accept",
    "net.upgrader:Upgrader.multiplex",
    "security.noise.shell:NoiseSecurity.upgrade",
    "net.dialer:Dialer._run",
    "net.dialer:Dialer._attempt",
    "net.connection:Connection._serve",
    "net.connection:Connection.ping",
    "muxers.yamux.shell:YamuxConnection._keep_reading",
    "muxers.yamux.shell:YamuxConnection._keep_writing",
    "protocols.identify.service:IdentifyService._ask",
    "protocols.identify.service:IdentifyService._answer",
    "protocols.identify.service:IdentifyService._keep_pushing",
    "protocols.providers.service:ProvidersService._subscribe",
    "protocols.providers.service:ProvidersService._serve",
    "protocols.providers.service:ProvidersService._send_updates",
    "protocols.providers.service:ProvidersService._receive_updates",
    "protocols.providers.service:ProvidersService._run_ticker",
    "bitswap.shell.service:Bitswap._run_ticker",
    "bitswap.shell.inbound:Inbound.serve",
    "bitswap.shell.inbound:Inbound._hear",
    "bitswap.shell.service:Bitswap._look_up",
    "bitswap.shell.link:Link.run",
    "bitswap.shell.link:Link.send_blocks",
    "bitswap.shell.session:FetchSession.keep_blocks",
    "bitswap.shell.session:FetchSession.find_providers",
    "gossipsub.shell.service:PubSub._run_timer",
    "gossipsub.shell.service:PubSub._run_link",
    "gossipsub.shell.service:PubSub._serve",
    "gossipsub.shell.link:Link._watch",
    "gossipsub.shell.link:Link._write",
    "gossipsub.shell.link:Dials._run",
    "gossipsub.shell.judge:Judge._verify",
    "announce.shell.driver:Driver._ask",
    "announce.shell.driver:Driver.serve",
    "announce.shell.driver:Driver._take_part",
    "announce.shell.driver:Driver._run_timer",
    "announce.shell.driver:Driver._run_publisher",
    "announce.shell.driver:Driver._run_saver",
    "announce.shell.driver:Driver._watch_addresses",
    "discovery.service:Discovery._keep",
    "node.shares:Shares.run",
)
"""What runs in tasks of a node: for a peer, a connection, a stream, or as a duty."""


class Fault(Exception):
    """What nobody expected."""


@pytest.mark.anyio
@pytest.mark.parametrize("place", WORK)
async def test_a_surprise_in_any_task_leaves_the_node_up_and_others_served(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 1, and 6: the first call raises, whoever makes it."""
    home, _, name = place.partition(":")
    kind, _, method = name.partition(".")
    owner = getattr(import_module(f"stack.{home}"), kind)
    real = getattr(owner, method)
    raised = anyio.Event()

    async def surprised(*arguments: object, **named: object) -> object:
        if not raised.is_set():
            raised.set()
            raise Fault(place)
        return await real(*arguments, **named)

    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("stack.net.host.UPKEEP_SECONDS", 0.01)
    monkeypatch.setattr(owner, method, surprised)
    (tmp_path / "file").write_bytes(bytes(300_000))
    events: list[TraceEvent] = []
    listen = ("/ip4/127.0.0.1/tcp/0",)
    async with Node.open(Config(home=tmp_path / "home", listen=listen, role="daemon")) as sharer:
        sharer.trace.add(events.append)
        ticket = await sharer.share(tmp_path / "file", announce=True)
        bootstrap = tuple(map(str, sharer.addresses()))
        async with Node.open(Config(listen=listen, bootstrap=bootstrap)) as unlucky, anyio.create_task_group() as group:

            async def fetch() -> None:
                with suppress(Exception):
                    root = decode_ticket(ticket).root  # not the ticket: then others are asked too who has it
                    await unlucky.get(root, tmp_path / "unlucky", providers=sharer.addresses())

            async def probe() -> None:
                while not raised.is_set():
                    await sharer.host.probe()
                    await anyio.sleep(0.01)

            group.start_soon(fetch)
            group.start_soon(probe)
            await settled(raised.is_set)
            monkeypatch.setattr(owner, method, real)
            async with Node.open(Config(listen=listen)) as other:
                with anyio.fail_after(20):
                    got = await other.get(ticket, tmp_path / "other")
                assert got.read_bytes() == bytes(300_000)
            group.cancel_scope.cancel()
    assert all(isinstance(event.error, Exception) for event in events if isinstance(event, TaskFailed))
