"""Every way a link is let go of: none leaves a stream open, nor memory used."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from stack.bitswap.messages import PROTOCOL_1_2, PROTOCOLS, OutgoingMessage, Want, WantKind
from stack.bitswap.shell import link as link_module
from stack.identity.peer_id import PeerId
from stack.net.host import Host
from stack.sansio.budget import Resource
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import Node, Raw, nodes, some_blocks
from tests.bitswap.simulation import cid_of
from tests.net.hosts import connect, settled

pytestmark = pytest.mark.anyio

BLOCKS = some_blocks(3)


class Asker(Raw):
    """Takes streams of ours, and ends none of them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.taken: list[Stream] = []

    async def _serve(self, stream: Stream) -> None:
        self.taken.append(stream)
        await super()._serve(stream)
        await anyio.sleep_forever()

    async def ask_block(self, of: Node, number: int = 0) -> None:
        await self.send(of.host, OutgoingMessage(wants=[Want(BLOCKS[number][0])]))

    async def ask_absent(self, of: Node, number: int = 0) -> None:
        want = Want(cid_of(number), kind=WantKind.HAVE, send_dont_have=True)
        await self.send(of.host, OutgoingMessage(wants=[want]))


def streams_out(node: Node) -> int:
    return node.host.budget.used(Resource.STREAMS_OUT)


def objects(node: Node) -> int:
    """What the muxers keep for streams, whoever opened them."""
    return sum(len(each._muxed._streams) for each in node.host._swarm.all())  # type: ignore[attr-defined]


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Node, Node, Asker]]:
    """A node that has answered a peer on both streams."""
    async with nodes(BLOCKS, []) as [here, there]:
        asker = Asker(there.host)
        await connect(there.host, here.host)
        await asker.ask_block(here)
        await asker.ask_absent(here)
        await asker.received(2)
        assert streams_out(here) == 2
        yield here, there, asker


def denies_streams(there: Node) -> None:
    for protocol in PROTOCOLS:
        there.host.unhandle(protocol)


async def refused(here: Node, there: Node, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    denies_streams(there)
    here.exchange.link(there.host.peer_id)._control.reset()
    await asker.ask_absent(here, 1)


async def unreachable(here: Node, there: Node, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FAILURES_MAX", 1)
    here.exchange.link(there.host.peer_id)._control.reset()

    async def fail(peer: PeerId, *protocols: str) -> Stream:
        raise anyio.BrokenResourceError

    monkeypatch.setattr(here.host, "open_stream", fail)
    await asker.ask_absent(here, 1)


async def reset(here: Node, there: Node, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in asker.taken:
        stream.reset()


async def cut(here: Node, there: Node, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    here.exchange.cut(there.host.peer_id)


async def disconnected(here: Node, there: Node, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    await there.host.disconnect(here.host.peer_id)


async def faulty(here: Node, there: Node, asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(peer: PeerId, limit: int) -> None:
        monkeypatch.undo()
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(here.exchange.engine, "take_presences", fail)
    here.exchange.link(there.host.peer_id).wake()


WAYS = [refused, unreachable, reset, cut, disconnected, faulty]


@pytest.mark.parametrize("end", WAYS)
async def test_attack_a_link_that_has_ended_leaves_no_stream_open(
    end: Callable[[Node, Node, Asker, pytest.MonkeyPatch], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round left one open: one address took all that a node may open."""
    async with linked() as (here, there, asker):
        await end(here, there, asker, monkeypatch)
        await settled(lambda: streams_out(here) == 0)
        await settled(lambda: here.host.budget.used(Resource.BYTES) == 0)
        await settled(lambda: objects(here) <= 1)  # the one that the peer has opened


async def test_attack_who_takes_blocks_and_refuses_presences_again_and_again_has_two_streams_at_most() -> None:
    async with nodes(BLOCKS, []) as [here, there]:
        asker = Asker(there.host)
        await connect(there.host, here.host)
        for turn in range(5):
            there.host.handle(PROTOCOL_1_2, asker._serve)
            await asker.ask_block(here)
            await asker.received(turn + 1)
            denies_streams(there)
            await asker.ask_absent(here, turn)
            await settled(lambda: not here.exchange._links)
            assert streams_out(here) == 0
        await settled(lambda: objects(here) == 1)


async def test_an_exchange_that_has_ended_leaves_no_stream_open() -> None:
    async with linked() as (here, _there, _asker):
        for link in here.exchange._links.values():
            link.close()
            with suppress(anyio.ClosedResourceError):
                await link._blocks.send(lambda protocol: [b"late"])
        assert streams_out(here) == 0


class Opening:
    """Stands in for `open_stream`: a peer that takes the stream and does not answer, until `answers`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.open_stream = host.open_stream
        self.begun = anyio.Event()
        self.answers = anyio.Event()
        self.at_last: Callable[[], None] = lambda: None

    async def __call__(self, peer: PeerId, *protocols: str) -> Stream:
        stream = await self.open_stream(peer, *protocols)
        self.begun.set()
        try:
            await self.answers.wait()
        except BaseException:
            stream.reset()
            raise
        self.at_last()
        return stream


@pytest.mark.parametrize("in_the_same_moment", [False, True])
async def test_a_stream_that_is_just_being_opened_ends_with_its_link(
    in_the_same_moment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with linked() as (here, there, asker):
        link = here.exchange.link(there.host.peer_id)
        link._blocks.reset()
        opening = Opening(here.host)
        monkeypatch.setattr(here.host, "open_stream", opening)
        await asker.ask_block(here, 1)
        await opening.begun.wait()
        monkeypatch.undo()
        if in_the_same_moment:
            opening.at_last = link.close
            opening.answers.set()
        else:
            link.close()
        await settled(lambda: streams_out(here) == 0)


async def test_what_waits_behind_a_message_opens_no_stream_for_a_link_that_has_ended() -> None:
    async with linked() as (here, there, _asker):
        link = here.exchange.link(there.host.peer_id)
        ended = 0

        async def send() -> None:
            nonlocal ended
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await link._blocks.send(lambda protocol: [bytes(1 << 20)])
            ended += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(send)
            await anyio.lowlevel.checkpoint()
            link.close()
        assert ended == 3
        await settled(lambda: streams_out(here) == 0)


async def test_a_stream_whose_end_is_waited_for_ends_with_its_link() -> None:
    async with linked() as (here, there, _asker):
        link = here.exchange.link(there.host.peer_id)
        read: list[bool] = []

        async def wait() -> None:
            read.append(await link.read_by_peer())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settled(lambda: bool(link._handed_over))
            link.close()
        assert read == [False]
        assert streams_out(here) == 0


async def test_a_stream_that_is_left_for_a_better_connection_ends_with_its_link() -> None:
    async with linked() as (here, there, _asker):
        link = here.exchange.link(there.host.peer_id)

        class Superseded:
            """A stream of a connection that is left; its peer reads on for long."""

            superseded = True

            def __init__(self, stream: Stream) -> None:
                self.stream = stream

            def __getattr__(self, name: str) -> object:
                return getattr(self.stream, name)

        stream = link._blocks._stream
        assert stream is not None
        link._blocks._stream = Superseded(stream)  # type: ignore[assignment]
        link._blocks._read = anyio.Event()
        failed = anyio.Event()

        async def send() -> None:
            with suppress(anyio.ClosedResourceError):
                await link._blocks.send(lambda protocol: [b"x"])
            failed.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            link.close()
            assert streams_out(here) == 0
            tasks.cancel_scope.cancel()
