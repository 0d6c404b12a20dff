"""A few words with a peer while the line to it is full of something else: they are late, and that is all."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.announce.events import Ask
from stack.announce.messages import PROTOCOL as ANNOUNCE
from stack.announce.messages import Kind, Request, Response
from stack.announce.shell import questions
from stack.blocks.interfaces import RealmId
from stack.errors import StackError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.protocols.access.keyring import Keyring
from stack.protocols.access.service import AccessService
from stack.protocols.code.service import CodeService
from stack.protocols.code.shell import meeting
from stack.protocols.code.words import Code
from stack.protocols.relay.service import RelayService
from stack.protocols.relay.shell.server import RelayServer
from stack.streams.interfaces import Stream
from stack.testing.lines import Line, LineTransport
from tests.net.hosts import ANYWHERE, settled
from tests.net.identities import key

pytestmark = pytest.mark.anyio

SLOW = Line(rate=400_000, capacity=60_000, piece=4096, turns=0)
"""What stands in front of an answer takes 0.15 s or more, three times what the limits are here."""
SECONDS = 0.05


async def proof(asks: Host, answers: Host) -> bool:
    services = []
    for host in asks, answers:
        keyring = Keyring(host.peer_id)
        keyring.add(b"s" * 16, RealmId(1), b"s" * 16)
        services.append(AccessService(host, keyring))
    return await services[0].prove(answers.peer_id, b"s" * 16) and services[1].admitted(asks.peer_id) == {1}


async def lookup(asks: Host, answers: Host) -> bool:
    async def serve(stream: Stream) -> None:
        await questions.receive_request(stream, answers.peer_budget(asks.peer_id))
        await questions.send(stream, Response())

    async def prepared(response: Response) -> Response:
        return response

    answers.handle(ANNOUNCE, serve)
    said: list[Response | None] = []
    effect = Ask(1, answers.peer_id, (), Request(kind=Kind.MEMBERS))  # type: ignore[arg-type] # a number
    await questions.ask(asks, effect, prepared, lambda response, first: said.append(response), anyio.CapacityLimiter(1))
    return said == [Response()]


async def place_at_relay(asks: Host, answers: Host) -> bool:
    RelayServer(answers)
    front = answers.addresses()[0].with_peer(str(answers.peer_id))
    try:
        await RelayService(asks).transport.listen(Multiaddr.parse(f"{front}/p2p-circuit"))
    except StackError:
        return False
    return True


async def meeting_point(asks: Host, answers: Host) -> bool:
    CodeService(answers)
    try:
        return await meeting.seek(asks, answers.peer_id, 4) is None
    except TimeoutError:
        return False


async def code(asks: Host, answers: Host) -> bool:
    takes, gives = CodeService(asks), CodeService(answers)
    for one, other in (asks, answers), (answers, asks):
        one.identified(other.peer_id, frozenset(other.supported()), "")
    async with gives.offering(lambda: "a ticket", 60.0) as given:
        return await takes.take(Code(given.code.number, given.code.words)) == "a ticket"


@asynccontextmanager
async def busy(speaks: int) -> AsyncIterator[list[Host]]:
    """Two hosts, of which one sends the other all that the line takes."""
    transport = LineTransport(SLOW)
    async with Host(key(0), transports=[transport]) as one, Host(key(1), transports=[transport]) as two:
        both = [one, two]

        async def hear(stream: Stream) -> None:
            while True:
                await stream.receive()

        for host in both:
            host.handle("/hear/1", hear)
            await host.listen(ANYWHERE)
        await one.connect(two.peer_id, two.addresses())
        await settled(lambda: two.is_connected(one.peer_id))
        stream = await both[speaks].open_stream(both[1 - speaks].peer_id, "/hear/1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, bytes(3_000_000))
            await anyio.sleep(SECONDS)
            yield both
            tasks.cancel_scope.cancel()
        transport.wires[0].reset()


@pytest.mark.parametrize("speaks", [0, 1], ids=["asker", "answerer"])
@pytest.mark.parametrize(
    ("exchange", "limits"),
    [
        (proof, ["access.service.SECONDS"]),
        (place_at_relay, ["relay.shell.client.ANSWER_SECONDS"]),
        (meeting_point, ["code.shell.meeting.QUESTION_SECONDS"]),
        (code, ["code.shell.meeting.QUESTION_SECONDS", "code.shell.taking.SEEK_SECONDS",
                "code.shell.taking.EXCHANGE_SECONDS", "code.shell.giving.EXCHANGE_SECONDS"]),
        (lookup, []),
    ],
)  # fmt: skip
async def test_what_stands_behind_a_transfer_is_waited_for(
    exchange: Callable[[Host, Host], Awaitable[bool]], limits: list[str], speaks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 60 KB/s a question beside a fetch was given up after 5 to 20 s, though the line did nothing but move."""
    for limit in limits:
        monkeypatch.setattr(f"stack.protocols.{limit}", SECONDS)
    monkeypatch.setattr(questions, "ANSWER_SECONDS", SECONDS)
    async with busy(speaks) as (asks, answers):
        with anyio.fail_after(30):
            assert await exchange(asks, answers)
