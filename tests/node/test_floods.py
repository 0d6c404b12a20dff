"""A whole node under floods of records and questions: it goes on answering, and has its budget back afterwards."""

from collections import Counter
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import pytest

from stack import Node
from stack.announce.events import RecordRefused, RefusedBecause
from stack.announce.keyspace import WHOLE, announce_key, topic_of
from stack.announce.messages import PROTOCOL, RECORDS_MAX, Kind, Request, encode_request
from stack.announce.records import RECORD_BYTES_MAX, SKEW_SECONDS
from stack.gossipsub.messages import PROTOCOL_1_2, Control, IHave, Message, Rpc, encode_rpc
from stack.identity.peer_id import PeerId
from stack.net.host import Host
from stack.net.limits import NetLimits
from stack.protocols.ping import ping
from stack.protocols.providers.messages import PROTOCOL as PROVIDERS
from stack.protocols.providers.messages import Update, encode_update
from stack.sansio.budget import Resource
from stack.sansio.delimited import encode_delimited, encode_uvarint
from stack.streams.interfaces import Stream
from stack.transports.tcp import TcpTransport
from tests.announce.build import record_bytes
from tests.net.hosts import settled
from tests.net.identities import key
from tests.node.test_announce import film, known, root_of, told

pytestmark = pytest.mark.anyio

ATTACKERS = 12
ROUNDS = 3
SOON = 5.0
ERRORS = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
HELD = (Resource.BYTES, Resource.STREAMS_IN, Resource.STREAMS_OUT, Resource.CONNECTIONS_IN, Resource.ROWS)


def records(wall: float) -> list[bytes]:
    """What is no record, and records that are not to be taken."""
    good = record_bytes(1, issued=int(wall))
    return [
        b"\xff" * 200,
        good[:-1],
        good[:-64] + bytes(64),
        good + bytes(RECORD_BYTES_MAX),
        record_bytes(2, issued=int(wall) + 2 * SKEW_SECONDS),
        record_bytes(3, issued=1_600_000_000),
        b"",
    ]


def questions(wall: float) -> list[bytes]:
    """What is sent on streams of the announcement layer, with its length."""
    key_ = announce_key(b"nobody has this")
    requests = [
        Request(kind=Kind.FIND, key=key_),
        Request(kind=Kind.FIND, key=key_, keep=True),
        Request(kind=Kind.SEARCH, key=key_, words=("word",) * 16),
        Request(kind=Kind.MEMBERS, shard=WHOLE),
        Request(kind=Kind.PAGE, digests=bytes(512)),
        *(Request(kind=Kind.PUT, record=record[:RECORD_BYTES_MAX]) for record in records(wall)),
    ]
    hostile = [b"\xff" * 50, b"\x0b" * 1000, b"\x1a\x00" * RECORDS_MAX, bytes(100)]
    return [
        *(encode_delimited(encode_request(request)) for request in requests),
        *map(encode_delimited, hostile),
        encode_uvarint(1 << 40),
        encode_uvarint(20_000) + b"only a part",
        b"",
    ]


def rpcs(wall: float) -> list[bytes]:
    """The same by gossip, and floods of control."""
    topic = topic_of(WHOLE)
    ids = tuple(b"%d" % number for number in range(500))
    told_ = [
        Rpc(subscriptions=tuple((True, f"topic {number}") for number in range(200))),
        Rpc(publish=tuple(Message(topic, record) for record in records(wall))),
        Rpc(publish=(Message(topic, b"x", b"author", b"seqno", b"signature", b"key"),)),
        Rpc(control=Control(ihave=(IHave(topic, ids),), iwant=ids, idontwant=ids, graft=(topic, "other"))),
    ]
    return [encode_delimited(encode_rpc(rpc)) for rpc in told_] + [encode_delimited(b"\x0b" * 100)]


async def send(stream: Stream, data: bytes) -> None:
    with suppress(*ERRORS), anyio.move_on_after(SOON):
        if data:
            await stream.send(data)


async def listen(stream: Stream) -> None:
    """What the victim sends by gossip is taken: it does not listen to who cannot be written to."""
    with suppress(*ERRORS):
        while True:
            await stream.receive()


async def attack(host: Host, victim: PeerId, wall: float) -> None:
    """Everything at once, until it is all said; answers are not read."""
    streams: list[Stream] = []
    for _ in range(ROUNDS):
        for protocol, messages in ((PROTOCOL, questions(wall)), (PROTOCOL_1_2, rpcs(wall))):
            for data in messages:
                try:
                    stream = await host.open_stream(victim, protocol)
                except Exception:  # noqa: BLE001 - it is cut or refused in many ways: none of them concerns the attacker
                    return
                streams.append(stream)
                await send(stream, data)
        with suppress(Exception):  # as above
            streams.append(await host.open_stream(victim, PROVIDERS))
            await send(streams[-1], encode_delimited(encode_update(Update(key=bytes(16)))))
        for stream in streams[:-20]:
            stream.reset()
        del streams[:-20]


async def test_a_flooded_node_goes_on_answering_and_gets_its_budget_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        victim = await stack.enter_async_context(Node.open())
        author = await stack.enter_async_context(Node.open())
        seeker = await stack.enter_async_context(Node.open())
        await author.connect(victim.addresses()[0])
        await seeker.connect(victim.addresses()[0])
        root = root_of(await author.share(film(tmp_path), announce=True))
        await told(author)
        await settled(lambda: victim.announcing.layer.is_loaded)
        budget = victim.host.budget
        before = {resource: budget.used(resource) for resource in HELD}
        table = len(victim.announcing.layer._machine.table)
        wall = victim.announcing.layer._wall()
        most = before[Resource.BYTES]
        refused: Counter[object] = Counter()
        victim.trace.add(lambda event: refused.update([event.reason] if isinstance(event, RecordRefused) else []))

        async with AsyncExitStack() as attackers:
            hosts = []
            for number in range(ATTACKERS):
                host = Host(key(500 + number), transports=[TcpTransport()], limits=NetLimits())
                host.handle(PROTOCOL_1_2, listen)
                await attackers.enter_async_context(host)
                await host.connect(victim.peer_id, victim.addresses())
                hosts.append(host)
            async with anyio.create_task_group() as tasks:
                for host in hosts:
                    tasks.start_soon(attack, host, victim.peer_id, wall)
                # While it goes on, those who were there before are answered in time.
                for _ in range(40):
                    with anyio.fail_after(SOON):
                        await ping(seeker.host, victim.peer_id)
                    most = max(most, budget.used(Resource.BYTES))
                with anyio.fail_after(2 * SOON):
                    assert author.peer_id in {each.peer for each in await known(seeker, root)}
                most = max(most, budget.used(Resource.BYTES))
        assert refused[RefusedBecause.INVALID] > ATTACKERS and refused[RefusedBecause.FUTURE] > 0
        await settled(lambda: not any(victim.host.is_connected(host.peer_id) for host in hosts))

        def is_back() -> bool:
            return all(budget.used(resource) <= before[resource] for resource in HELD)

        await settled(is_back)
        assert len(victim.announcing.layer._machine.table) == table
        assert len(victim.announcing.layer._machine._serving) <= 1
        print(
            f"\nflood of a node: {ATTACKERS} identities, {sum(refused.values())} records refused: at most {most >> 10:,} KiB of its budget,"
            f" {budget.used(Resource.BYTES) >> 10:,} KiB afterwards (before: {before[Resource.BYTES] >> 10:,} KiB)"
        )
        assert author.peer_id in {each.peer for each in await known(seeker, root)}
