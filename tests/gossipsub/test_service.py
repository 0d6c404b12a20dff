"""gossipsub on hosts: topics, validators, streams, attackers on the wire. On both event loops."""

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stack.errors import LocalProtocolError, NegotiationError
from stack.gossipsub.decoding import decode_rpc
from stack.gossipsub.events import (
    MessageRejected,
    MessageUndeliverable,
    RejectReason,
    RpcDropped,
    RpcReceived,
    RpcSent,
    Validate,
    Verdict,
)
from stack.gossipsub.messages import (
    PROTOCOL_1_1,
    PROTOCOL_1_2,
    PROTOCOL_1_3,
    PROTOCOL_FLOODSUB,
    PROTOCOLS,
    RPC_BYTES_MAX,
    Control,
    Message,
    PeerInfo,
    Prune,
    Rpc,
    encode_rpc,
)
from stack.gossipsub.params import GossipsubParams, PeerScoreParams
from stack.gossipsub.shell import judge as judge_module
from stack.gossipsub.shell import link as link_module
from stack.gossipsub.shell import service as service_module
from stack.gossipsub.shell import subscription as subscription_module
from stack.gossipsub.shell.service import PubSub
from stack.gossipsub.signing import UNSIGNED, Author, is_authentic
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats import varint
from stack.net.host import Host
from stack.sansio.budget import Resource
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.streams.interfaces import Stream
from stack.streams.supervision import supervised
from stack.trace import TraceEvent
from tests.net.hosts import connect, hosts, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]

TOPIC = "topic"


@asynccontextmanager
async def nodes(
    count: int, *, wired: bool = True, trace: Callable[[TraceEvent], None] | None = None, **options: Any
) -> AsyncIterator[list[tuple[Host, PubSub]]]:
    """Hosts with a PubSub each; the first dials all others."""
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(hosts(count, trace=trace))
        pubsubs = [await stack.enter_async_context(PubSub.open(host, host._key, **options)) for host in made]
        if wired:
            for other in made[1:]:
                await connect(made[0], other)
            await settled(lambda: len(pubsubs[0].peers()) == count - 1 and all(p.peers() for p in pubsubs[1:]))
        yield list(zip(made, pubsubs, strict=True))


async def meshed(*pubsubs: PubSub, topic: str = TOPIC) -> None:
    await settled(lambda: all(pubsub.mesh(topic) for pubsub in pubsubs))


class Raw:
    """A peer that speaks bytes: what the node sends to it, and a stream to the node."""

    def __init__(self, host: Host, node: Host, protocol: str) -> None:
        self.host = host
        self.node = node
        self.protocol = protocol
        self.rpcs: list[Rpc] = []
        self.inbound: list[Stream] = []
        self.reading = True

    async def serve(self, stream: Stream) -> None:
        self.inbound.append(stream)
        if not self.reading:
            await anyio.sleep_forever()
        reader = DelimitedReader(RPC_BYTES_MAX)
        try:
            while True:
                reader.receive_data(await stream.receive())
                while (message := reader.next_message()) is not None:
                    self.rpcs.append(decode_rpc(message))
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    async def open(self) -> Stream:
        return await self.host.open_stream(self.node.peer_id, self.protocol)

    def prunes(self) -> list[Prune]:
        return [prune for rpc in self.rpcs if rpc.control is not None for prune in rpc.control.prune]

    def messages(self) -> list[Message]:
        return [message for rpc in self.rpcs for message in rpc.publish]


@asynccontextmanager
async def node_and_raw(
    *,
    protocol: str = PROTOCOL_1_2,
    reading: bool = True,
    trace: Callable[[TraceEvent], None] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[PubSub, Raw]]:
    """A node, and a peer that the test plays; connected, nothing said yet."""
    async with hosts(2, trace=trace) as [host, other]:
        raw = Raw(other, host, protocol)
        raw.reading = reading
        other.handle(protocol, raw.serve)
        async with PubSub.open(host, host._key, **options) as pubsub:
            await connect(host, other)
            await settled(lambda: bool(pubsub.peers()) and bool(raw.inbound))
            yield pubsub, raw


async def send(stream: Stream, *rpcs: Rpc) -> None:
    await stream.send(b"".join(encode_delimited(encode_rpc(rpc)) for rpc in rpcs))


async def ended(stream: Stream) -> None:
    """The other end has closed or reset the stream."""
    with anyio.fail_after(10):
        try:
            while True:
                await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


JOIN = Rpc(subscriptions=((True, TOPIC),))


async def test_a_message_travels_from_one_node_to_all_others() -> None:
    async with (
        nodes(3) as [(a, pa), (b, pb), (c, pc)],
        pa.subscribe(TOPIC),
        pb.subscribe(TOPIC) as at_b,
        pc.subscribe(TOPIC) as at_c,
    ):
        await meshed(pa, pb, pc)
        message_id = await pb.publish(TOPIC, b"data")
        got = await anext(at_c)
        assert (got.topic, got.data, got.author, got.source, got.id) == (
            TOPIC,
            b"data",
            b.peer_id,
            a.peer_id,
            message_id,
        )
        assert got.seqno is not None
        own = await anext(at_b)
        assert (own.data, own.author, own.source) == (b"data", b.peer_id, None)
        assert pa.topics() == (TOPIC,)
        assert set(pa.peers()) == set(pa.peers(TOPIC)) == {b.peer_id, c.peer_id}
        assert pa.score(b.peer_id) == 0
        assert "1 topics" in repr(pa)
        assert repr(at_b) == "<Subscription to 'topic': 0 wait, 0 dropped>"


async def test_a_node_publishes_to_a_topic_that_it_is_not_in() -> None:
    async with nodes(2) as [(_, pa), (_, pb)], pa.subscribe(TOPIC) as messages:
        await settled(lambda: bool(pb.peers(TOPIC)))
        await pb.publish(TOPIC, b"data")
        assert (await anext(messages)).data == b"data"


async def test_many_messages_arrive_all_and_in_order() -> None:
    async with nodes(2) as [(_, pa), (_, pb)], pa.subscribe(TOPIC) as messages, pb.subscribe(TOPIC):
        await meshed(pa, pb)
        got: list[bytes] = []

        async def read() -> None:
            async for message in messages:
                got.append(message.data)
                if len(got) == 500:
                    return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            for number in range(500):
                await pb.publish(TOPIC, number.to_bytes(2, "big") * 500)
        assert got == [number.to_bytes(2, "big") * 500 for number in range(500)]
        assert messages.dropped == 0


async def test_unsigned_topics_carry_no_author() -> None:
    async with nodes(2) as [(_, pa), (_, pb)]:
        for pubsub in (pa, pb):
            pubsub.set_rules(TOPIC, UNSIGNED)
        async with pa.subscribe(TOPIC) as messages, pb.subscribe(TOPIC):
            await meshed(pa, pb)
            await pb.publish(TOPIC, b"data")
            got = await anext(messages)
            assert (got.author, got.seqno) == (None, None)


async def test_a_node_without_a_key_cannot_publish_to_signed_topics() -> None:
    async with hosts(1) as [host], PubSub.open(host) as pubsub:
        with pytest.raises(LocalProtocolError, match="no author"):
            await pubsub.publish(TOPIC, b"data")


async def test_an_error_inside_the_context_comes_out_as_it_is() -> None:
    async with hosts(1) as [host]:
        with pytest.raises(KeyError):
            async with PubSub.open(host):
                raise KeyError


async def test_a_topic_is_left_with_its_last_subscriber_and_iterators_end() -> None:
    async with nodes(2) as [(_, pa), (_, pb)], pb.subscribe(TOPIC):
        async with pa.subscribe(TOPIC) as first:
            async with pa.subscribe(TOPIC) as second:
                await meshed(pa, pb)
                await pb.publish(TOPIC, b"data")
                assert (await anext(first)).data == (await anext(second)).data == b"data"
            assert pa.topics() == (TOPIC,)
            assert [message async for message in second] == []
        assert pa.topics() == ()
        await settled(lambda: pb.mesh(TOPIC) == () and pb.peers(TOPIC) == ())


async def test_a_waiting_subscriber_is_woken_by_the_end() -> None:
    async with (
        nodes(1, wired=False) as [(_, pubsub)],
        anyio.create_task_group() as tasks,
        pubsub.subscribe(TOPIC) as messages,
    ):

        async def read() -> None:
            with pytest.raises(StopAsyncIteration):
                await anext(messages)

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()


async def test_a_subscription_may_outlive_the_service() -> None:
    async with hosts(1) as [host], AsyncExitStack() as outer:
        async with PubSub.open(host, host._key) as pubsub:
            messages = await outer.enter_async_context(pubsub.subscribe(TOPIC))
            await pubsub.publish(TOPIC, b"data")
        assert [message.data async for message in messages] == [b"data"]


async def test_a_slow_subscriber_misses_messages_and_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "WAITING_MAX", 3)
    events: list[TraceEvent] = []
    async with nodes(1, wired=False, trace=events.append) as [(_, pubsub)], pubsub.subscribe(TOPIC) as messages:
        for number in range(5):
            await pubsub.publish(TOPIC, b"%d" % number)
        assert messages.dropped == 2
        assert [(await anext(messages)).data for _ in range(3)] == [b"0", b"1", b"2"]
        await pubsub.publish(TOPIC, b"5")
        assert (await anext(messages)).data == b"5"
    assert sum(type(event) is MessageUndeliverable for event in events) == 2


async def test_waiting_messages_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "WAITING_BYTES_MAX", 100)
    async with nodes(1, wired=False) as [(_, pubsub)], pubsub.subscribe(TOPIC) as messages:
        for _ in range(3):
            await pubsub.publish(TOPIC, bytes(50))
        assert messages.dropped == 1


# validators


async def judged(pa: PubSub, pb: PubSub, topic: str, verdicts: list[bytes]) -> list[bytes]:
    """What arrives at the first of what the second publishes; `last` is always accepted."""
    async with pa.subscribe(topic) as messages, pb.subscribe(topic):
        await meshed(pa, pb, topic=topic)
        for data in verdicts:
            await pb.publish(topic, data)
        got = []
        while not got or got[-1] != b"last":
            got.append((await anext(messages)).data)
        return got


async def test_a_validator_accepts_rejects_and_ignores() -> None:
    events: list[TraceEvent] = []

    def validator(peer: PeerId, message: Message) -> Verdict:
        if message.data == b"raise":
            raise ValueError
        return {b"bad": Verdict.REJECT, b"so": Verdict.IGNORE}.get(message.data or b"", Verdict.ACCEPT)

    params = GossipsubParams(score=PeerScoreParams())
    async with nodes(2, trace=events.append, params=params) as [(_, pa), (b, pb)]:
        pa.set_validator(TOPIC, validator)
        assert await judged(pa, pb, TOPIC, [b"bad", b"good", b"so", b"raise", b"last"]) == [b"good", b"last"]
        assert pa.score(b.peer_id) < 0
    reasons = [event.reason for event in events if isinstance(event, MessageRejected)]
    assert sorted(reason.name for reason in reasons) == [
        "VALIDATION_FAILED",
        "VALIDATION_IGNORED",
        "VALIDATION_IGNORED",
    ]


async def test_a_validator_can_be_taken_away() -> None:
    async with nodes(2) as [(_, pa), (_, pb)]:
        pa.set_validator(TOPIC, lambda peer, message: Verdict.REJECT)
        pa.set_validator(TOPIC, None)
        assert await judged(pa, pb, TOPIC, [b"last"]) == [b"last"]


async def test_an_asynchronous_validator_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "CALLS", 2)
    monkeypatch.setattr(judge_module, "CALL_SECONDS", 0.3)
    running = most = 0

    async def validator(peer: PeerId, message: Message) -> Verdict:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await anyio.lowlevel.checkpoint()
            if message.data == b"raise":
                raise ValueError
            if message.data == b"sleep":
                await anyio.sleep_forever()
            return Verdict.REJECT if message.data == b"bad" else Verdict.ACCEPT
        finally:
            running -= 1

    async with nodes(2) as [(_, pa), (_, pb)]:
        pa.set_validator(TOPIC, lambda peer, message: Verdict.REJECT)
        pa.set_async_validator(TOPIC, validator)
        data = [b"1", b"bad", b"2", b"raise", b"sleep", b"3", b"last"]
        assert sorted(await judged(pa, pb, TOPIC, data)) == [b"1", b"2", b"3", b"last"]
    assert most == 2


async def test_messages_that_wait_for_a_validator_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "CALLS", 1)
    monkeypatch.setattr(judge_module, "CALLS_WAITING_MAX", 2)
    events: list[TraceEvent] = []
    go_on = anyio.Event()

    async def validator(peer: PeerId, message: Message) -> Verdict:
        await go_on.wait()
        return Verdict.ACCEPT

    async with (
        nodes(2, trace=events.append) as [(_, pa), (_, pb)],
        pa.subscribe(TOPIC) as messages,
        pb.subscribe(TOPIC),
    ):
        pa.set_async_validator(TOPIC, validator)
        await meshed(pa, pb)
        for number in range(5):
            await pb.publish(TOPIC, b"%d" % number)

        def throttled() -> int:
            rejected = [event for event in events if isinstance(event, MessageRejected)]
            return sum(event.reason is RejectReason.VALIDATION_THROTTLED for event in rejected)

        await settled(lambda: throttled() == 2)
        go_on.set()
        assert [(await anext(messages)).data for _ in range(3)] == [b"0", b"1", b"2"]


async def test_peers_are_not_read_from_while_too_much_waits_for_a_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "WAITING_MAX", 1)
    async with nodes(2) as [(_, pa), (_, pb)], pa.subscribe(TOPIC) as messages, pb.subscribe(TOPIC):
        await meshed(pa, pb)
        for number in range(100):
            await pb.publish(TOPIC, b"%d" % number)
        assert len([await anext(messages) for _ in range(100)]) == 100


async def test_readers_that_help_do_not_run_ahead_of_a_verifier_that_is_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge_module, "WAITING_MAX", 50)
    monkeypatch.setattr(link_module, "RECEIVE_BYTES", 1024)
    params = GossipsubParams(pending_per_peer=100)
    loop_thread, go_on, check = threading.get_ident(), threading.Event(), judge_module._check

    def check_when_allowed(batch: Sequence[Validate]) -> list[bool]:
        if threading.get_ident() != loop_thread:
            go_on.wait(10)
        return check(batch)

    monkeypatch.setattr(judge_module, "_check", check_when_allowed)
    async with node_and_raw(params=params) as (pubsub, raw), pubsub.subscribe(TOPIC) as messages:
        author = Author.of(raw.host._key)
        sent = [author.write(TOPIC, b"%d" % number, number) for number in range(300)]
        stream = await raw.open()
        await send(stream, JOIN)
        for start in range(0, len(sent), 20):
            await send(stream, *(Rpc(publish=(message,)) for message in sent[start : start + 20]))
            await anyio.wait_all_tasks_blocked()
        go_on.set()
        with anyio.fail_after(10):
            assert [(await anext(messages)).data for _ in sent] == [message.data for message in sent]


async def test_all_readers_go_on_when_fewer_wait_for_a_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "WAITING_MAX", 2)
    loop_thread, go_on = threading.get_ident(), threading.Event()

    def check_when_allowed(batch: Sequence[Validate]) -> list[bool]:
        assert threading.get_ident() != loop_thread
        go_on.wait(10)
        return [True] * len(batch)

    monkeypatch.setattr(judge_module, "_check", check_when_allowed)
    peer = PeerId.of(generate().public)
    async with supervised() as tasks:
        judge = judge_module.Judge(tasks, lambda verdicts: None)
        for token in range(3):
            judge.submit(Validate(token, peer, Message(TOPIC, b"data"), True))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as readers:
                readers.start_soon(judge.wait_for_room)
                readers.start_soon(judge.wait_for_room)
                await anyio.wait_all_tasks_blocked()
                go_on.set()
        judge.close()


# streams


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_peers_of_every_protocol_are_spoken_to_as_such(protocol: str) -> None:
    async with node_and_raw(protocol=protocol) as (pubsub, raw), pubsub.subscribe(TOPIC) as messages:
        stream = await raw.open()
        author = Author.of(raw.host._key)
        await send(stream, JOIN, Rpc(publish=(author.write(TOPIC, b"theirs", 1),)))
        assert (await anext(messages)).data == b"theirs"
        await pubsub.publish(TOPIC, b"ours")
        await settled(lambda: [message.data for message in raw.messages()] == [b"ours"])
        assert is_authentic(raw.messages()[0])
        assert JOIN in raw.rpcs
        grafted = any(rpc.control is not None and rpc.control.graft == (TOPIC,) for rpc in raw.rpcs)
        assert grafted is (protocol != PROTOCOL_FLOODSUB)


async def test_a_peer_that_identify_told_nothing_of_is_spoken_to_when_it_opens_a_stream() -> None:
    async with hosts(2, identify=False) as [host, other], PubSub.open(host, host._key) as pubsub:
        raw = Raw(other, host, PROTOCOL_1_1)
        other.handle(PROTOCOL_1_1, raw.serve)
        await connect(host, other)
        assert pubsub.peers() == ()
        await send(await raw.open(), JOIN)
        await settled(lambda: pubsub.peers(TOPIC) == (other.peer_id,))


async def test_a_peer_that_only_writes_is_waited_for_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "WRITABLE_SECONDS", 0.01)
    async with hosts(2, identify=False) as [host, other], PubSub.open(host, host._key) as pubsub:
        await connect(host, other)
        stream = await other.open_stream(host.peer_id, PROTOCOL_1_2)
        await send(stream, JOIN)
        await ended(stream)
        assert pubsub.peers() == ()


async def test_extensions_of_a_peer_of_1_3_mean_nothing_to_us() -> None:
    """It names them in its first message, and may speak of them in any: gossipsub v1.3, "The Extensions Control Message"."""
    partial = (16418754 << 3).to_bytes(4, "little")
    named = varint.encode(10 << 3) + b"\1" + varint.encode(16418754 << 3) + b"\1"
    control = b"\x32" + varint.encode(len(named)) + named
    extended = encode_rpc(JOIN) + b"\x1a" + varint.encode(len(control)) + control
    more = varint.encode(10 << 3 | 2) + varint.encode(len(partial)) + partial
    async with node_and_raw(protocol=PROTOCOL_1_3) as (pubsub, raw), pubsub.subscribe(TOPIC) as messages:
        stream = await raw.open()
        await stream.send(encode_delimited(extended + more) + encode_delimited(more))
        await meshed(pubsub)
        await send(stream, Rpc(publish=(Author.of(raw.host._key).write(TOPIC, b"as ever", 1),)))
        assert (await anext(messages)).data == b"as ever"


async def test_a_second_stream_of_a_peer_replaces_the_first() -> None:
    async with node_and_raw() as (pubsub, raw):
        first = await raw.open()
        await send(first, Rpc(subscriptions=((True, "first"),)))
        await settled(lambda: bool(pubsub.peers("first")))
        second = await raw.open()
        await send(second, Rpc(subscriptions=((True, "second"),)))
        await ended(first)
        await settled(lambda: bool(pubsub.peers("second")))
        assert pubsub.peers("first")


async def test_a_peer_that_ends_its_stream_is_in_no_topic() -> None:
    async with node_and_raw() as (pubsub, raw), pubsub.subscribe(TOPIC):
        stream = await raw.open()
        await send(stream, JOIN)
        await meshed(pubsub)
        await stream.send_eof()
        await settled(lambda: pubsub.peers(TOPIC) == () and pubsub.mesh(TOPIC) == ())
        await send(await raw.open(), JOIN)
        await meshed(pubsub)


async def test_our_stream_is_opened_again_when_it_breaks_and_the_peers_topics_are_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "RETRY_SECONDS", (0.0, 0.0))
    async with node_and_raw() as (pubsub, raw), pubsub.subscribe(TOPIC):
        await send(await raw.open(), JOIN)
        await meshed(pubsub)
        raw.inbound[0].reset()
        await settled(lambda: len(raw.inbound) == 2 and pubsub.mesh(TOPIC) != ())
        await pubsub.publish(TOPIC, b"data")
        await settled(lambda: bool(raw.messages()))


async def test_a_stream_that_keeps_breaking_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RETRY_SECONDS", (0.0, 0.0))
    async with node_and_raw() as (pubsub, raw):
        for number in range(3):
            await settled(lambda number=number: len(raw.inbound) == number + 1 and pubsub.peers() != ())
            raw.inbound[number].reset()
        await settled(lambda: pubsub.peers() == () and not pubsub._links)


async def test_a_stream_that_has_lasted_is_opened_again_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(link_module, "STEADY_SECONDS", -1.0)
    async with node_and_raw() as (pubsub, raw):
        for number in range(5):
            await settled(lambda number=number: len(raw.inbound) == number + 1 and pubsub.peers() != ())
            raw.inbound[number].reset()


async def test_a_peer_that_closes_its_side_of_our_stream_still_gets_everything() -> None:
    async with node_and_raw() as (pubsub, raw), pubsub.subscribe(TOPIC):
        await send(await raw.open(), JOIN)
        await meshed(pubsub)
        await raw.inbound[0].send_eof()
        await anyio.wait_all_tasks_blocked()
        await pubsub.publish(TOPIC, b"data")
        await settled(lambda: bool(raw.messages()))


async def test_a_disconnected_peer_is_forgotten_and_met_again() -> None:
    async with nodes(2) as [(a, pa), (b, pb)], pa.subscribe(TOPIC), pb.subscribe(TOPIC):
        await meshed(pa, pb)
        await a.disconnect(b.peer_id)
        await settled(lambda: pa.peers() == () and pb.peers() == () and pa.mesh(TOPIC) == ())
        await connect(b, a)
        await meshed(pa, pb)


async def test_closing_ends_streams_and_gives_back_what_peers_held() -> None:
    async with hosts(2) as [host, other]:
        raw = Raw(other, host, PROTOCOL_1_2)
        other.handle(PROTOCOL_1_2, raw.serve)
        async with PubSub.open(host, host._key) as pubsub, pubsub.subscribe(TOPIC) as messages:
            await connect(host, other)
            stream = await raw.open()
            await send(stream, JOIN)
            await meshed(pubsub)
            serve = pubsub._serve
        await ended(stream)
        assert host.budget.used(Resource.BYTES) == 0
        assert [message async for message in messages] == []
        assert host._tags == {}
        with pytest.raises(anyio.ClosedResourceError):
            await serve(stream)


async def test_mesh_members_are_protected_while_they_are_in_a_mesh() -> None:
    async with nodes(2) as [(a, pa), (b, pb)], pb.subscribe(TOPIC):
        async with pa.subscribe(TOPIC):
            await meshed(pa, pb)
            assert b.peer_id in a._tags
        assert b.peer_id not in a._tags


async def test_rpcs_are_told_to_the_trace() -> None:
    events: list[TraceEvent] = []
    async with nodes(2, trace=events.append) as [(_, pa), (_, pb)], pa.subscribe(TOPIC), pb.subscribe(TOPIC):
        await meshed(pa, pb)
        await pa.publish(TOPIC, bytes(1000))
        sent = [event for event in events if isinstance(event, RpcSent)]
        assert any(event.messages == 1 and event.size > 1000 for event in sent)
        assert any(event.control for event in sent)
        assert any(isinstance(event, RpcReceived) for event in events)


# peers to dial


async def test_peers_that_others_name_are_dialled() -> None:
    async with hosts(3) as [host, other, third], PubSub.open(host, host._key) as pubsub, PubSub.open(third, third._key):
        raw = Raw(other, host, PROTOCOL_1_2)
        other.handle(PROTOCOL_1_2, raw.serve)
        await connect(host, other)
        await settled(lambda: bool(pubsub.peers()))
        async with pubsub.subscribe(TOPIC):
            stream = await raw.open()
            await send(stream, JOIN)
            await meshed(pubsub)
            named = (
                PeerInfo(bytes(third.peer_id), third.signed_record()),
                PeerInfo(b"\x12\x20" + bytes(32)),
            )
            await send(stream, Rpc(control=Control(prune=(Prune(TOPIC, named, 60),))))
            await settled(lambda: third.peer_id in pubsub.peers())


async def test_direct_peers_are_dialled_protected_and_get_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    params = GossipsubParams(direct_connect_initial_delay=0.01)
    async with hosts(2) as [host, other], PubSub.open(other, other._key) as theirs:
        direct = {other.peer_id: other.addresses()}
        async with (
            PubSub.open(host, host._key, params=params, direct=direct) as ours,
            theirs.subscribe(TOPIC) as messages,
        ):
            await settled(lambda: bool(ours.peers(TOPIC)))
            assert other.peer_id in host._tags
            await ours.publish(TOPIC, b"data")
            assert (await anext(messages)).data == b"data"
            assert ours.mesh(TOPIC) == ()


async def test_dials_that_are_too_many_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    params = GossipsubParams(max_pending_connections=1, connectors=1, connection_timeout=0.01)
    async with node_and_raw(params=params) as (pubsub, raw), pubsub.subscribe(TOPIC):
        stream = await raw.open()
        await send(stream, JOIN)
        await meshed(pubsub)
        named = tuple(PeerInfo(b"\x12\x20" + bytes([number]) * 32) for number in range(10))
        await send(stream, Rpc(control=Control(prune=(Prune(TOPIC, named, 60),))))
        await settled(lambda: pubsub.mesh(TOPIC) == ())
        assert pubsub.peers()


async def test_records_of_peers_are_told_to_those_who_are_pruned() -> None:
    params = GossipsubParams(d=0, d_low=0, d_high=0, d_out=0, d_score=0, do_px=True)
    async with hosts(3) as [host, other, third], PubSub.open(third, third._key) as theirs:
        raw = Raw(other, host, PROTOCOL_1_2)
        other.handle(PROTOCOL_1_2, raw.serve)
        record_of = host.peerstore.record
        pubsubs = PubSub.open(host, host._key, params=params, record_of=record_of)
        async with pubsubs as pubsub, pubsub.subscribe(TOPIC), theirs.subscribe(TOPIC):
            await connect(third, host)
            await settled(lambda: bool(pubsub.peers(TOPIC)) and record_of(third.peer_id) is not None)
            await connect(other, host)
            await send(await raw.open(), JOIN, Rpc(control=Control(graft=(TOPIC,))))
            await settled(lambda: bool(raw.prunes()))
            assert raw.prunes()[0].peers == (PeerInfo(bytes(third.peer_id), record_of(third.peer_id)),)


async def test_a_message_published_just_before_the_end_still_arrives() -> None:
    async with hosts(2) as [a, b], PubSub.open(a) as pa, pa.subscribe(TOPIC) as messages:
        async with PubSub.open(b, b._key) as pb:
            await connect(a, b)
            await settled(lambda: bool(pb.peers(TOPIC)))
            await pb.publish(TOPIC, bytes(100_000))
        assert len((await anext(messages)).data) == 100_000


async def test_peers_that_speak_something_else_are_left_alone() -> None:
    async with hosts(2) as [host, other], PubSub.open(host) as pubsub:
        await connect(host, other)
        await settled(lambda: host.protocols(other.peer_id) is not None)
        assert not pubsub._links
        await host.disconnect(other.peer_id)


async def test_a_stream_that_cannot_be_opened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RETRY_SECONDS", (0.0,))
    async with nodes(2, wired=False) as [(a, pa), (b, pb)]:
        open_stream = a.open_stream
        failures = [anyio.BrokenResourceError()]

        async def fail_once(peer: PeerId, *protocols: str) -> Stream:
            if PROTOCOL_1_2 in protocols and failures:
                raise failures.pop()
            return await open_stream(peer, *protocols)

        monkeypatch.setattr(a, "open_stream", fail_once)
        await connect(a, b)
        await settled(lambda: bool(pa.peers()) and bool(pb.peers()))
        assert failures == []


async def test_a_peer_that_turns_out_not_to_speak_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(2, wired=False) as [(a, pa), (b, _)]:
        open_stream = a.open_stream

        async def refuse(peer: PeerId, *protocols: str) -> Stream:
            if PROTOCOL_1_2 in protocols:
                raise NegotiationError("no protocol in common")
            return await open_stream(peer, *protocols)

        monkeypatch.setattr(a, "open_stream", refuse)
        await connect(a, b)
        await settled(lambda: a.protocols(b.peer_id) is not None and not pa._links)
        assert pa.peers() == ()


# attackers on the wire


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 10,
        encode_delimited(b"")[:0] + b"\x81\x80\x40",
        encode_delimited(b"\x0b"),
        encode_delimited(b"\x0a\x00" * 6000),
    ],
    ids=["length that is none", "length over a mebibyte", "a group", "too many subscriptions"],
)
async def test_a_stream_with_nonsense_is_reset_and_the_peer_may_try_again(data: bytes) -> None:
    async with node_and_raw() as (pubsub, raw):
        stream = await raw.open()
        await stream.send(data)
        await ended(stream)
        await send(await raw.open(), JOIN)
        await settled(lambda: pubsub.peers(TOPIC) == (raw.host.peer_id,))


async def test_what_comes_before_nonsense_is_still_received() -> None:
    async with node_and_raw() as (pubsub, raw), pubsub.subscribe(TOPIC) as messages:
        good = Author.of(raw.host._key).write(TOPIC, b"good", 7)
        stream = await raw.open()
        rpcs = (JOIN, Rpc(publish=(good,)))
        await stream.send(b"".join(encode_delimited(encode_rpc(rpc)) for rpc in rpcs) + encode_delimited(b"\x0b"))
        assert (await anext(messages)).data == b"good"
        await ended(stream)


async def test_A02_a_message_that_is_announced_and_never_sent_holds_little_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "MESSAGE_SECONDS", 0.05)
    async with node_and_raw() as (_, raw):
        stream = await raw.open()
        await send(stream, JOIN, Rpc(), JOIN)
        await stream.send(b"\xff\xff\x3f" + b"x")
        await ended(stream)
        await settled(lambda: raw.node.peer_budget(raw.host.peer_id).used(Resource.BYTES) == 0)


async def test_what_a_peer_sends_is_drawn_from_its_budget() -> None:
    async with node_and_raw() as (_, raw):
        stream = await raw.open()
        await send(stream, JOIN)
        await anyio.wait_all_tasks_blocked()
        budget = raw.node.peer_budget(raw.host.peer_id)
        limit = budget.limit(Resource.BYTES)
        assert limit is not None
        with budget.reserve(Resource.BYTES, limit - budget.used(Resource.BYTES) - 100):
            try:
                await stream.send(b"\xff\xff\x3f" + bytes(10_000))
            except anyio.BrokenResourceError:
                pass
            await ended(stream)


async def test_A40_a_flood_of_forged_messages_is_rejected_and_honest_ones_get_through() -> None:
    events: list[TraceEvent] = []
    async with node_and_raw(trace=events.append) as (pubsub, raw), pubsub.subscribe(TOPIC) as messages:
        author = Author.of(raw.host._key)
        forged = [Message(TOPIC, b"%d" % n, author.peer_id, n.to_bytes(8, "big"), bytes(64)) for n in range(200)]
        stream = await raw.open()
        await send(stream, JOIN, Rpc(publish=tuple(forged)), Rpc(publish=(author.write(TOPIC, b"true", 7),)))
        assert (await anext(messages)).data == b"true"
        assert sum(isinstance(event, MessageRejected) for event in events) == 200


async def test_a_peer_that_reads_nothing_holds_a_bounded_amount_and_loses_gossip_and_messages() -> None:
    events: list[TraceEvent] = []
    async with node_and_raw(reading=False, trace=events.append) as (pubsub, raw), pubsub.subscribe(TOPIC):
        await send(await raw.open(), JOIN)
        await meshed(pubsub)
        (link,) = pubsub._links.values()
        for _ in range(20):
            pubsub._machine.publish(TOPIC, bytes(500_000), anyio.current_time())
            pubsub._pump()
        assert any(isinstance(event, RpcDropped) for event in events)
        assert link._outbox.size <= 4 * 1024 * 1024
        assert raw.node.peer_budget(raw.host.peer_id).used(Resource.BYTES) < 6 * 1024 * 1024
        assert "bytes wait" in repr(link)


async def test_a_peer_that_makes_us_queue_control_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RETRY_SECONDS", ())
    async with node_and_raw(reading=False) as (pubsub, raw):
        await send(await raw.open(), JOIN)
        await settled(lambda: bool(pubsub.peers(TOPIC)))
        while pubsub.peers():
            for number in range(100):
                pubsub._machine.subscribe("x" * 1000 + str(number), 0)
                pubsub._machine.unsubscribe("x" * 1000 + str(number), 0)
            pubsub._pump()
            await anyio.lowlevel.checkpoint()


async def test_a_peer_whose_budget_is_used_up_gets_no_more_messages() -> None:
    events: list[TraceEvent] = []
    async with node_and_raw(reading=False, trace=events.append) as (pubsub, raw), pubsub.subscribe(TOPIC):
        await send(await raw.open(), JOIN)
        await meshed(pubsub)
        await anyio.wait_all_tasks_blocked()
        budget = raw.node.peer_budget(raw.host.peer_id)
        limit = budget.limit(Resource.BYTES)
        assert limit is not None
        with budget.reserve(Resource.BYTES, limit - budget.used(Resource.BYTES) - 1000):
            await pubsub.publish(TOPIC, bytes(100_000))
            assert any(isinstance(event, RpcDropped) for event in events)
            pubsub._machine.subscribe("other", 0)
            pubsub._pump()


async def test_a_publisher_does_not_wait_for_a_peer_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "STALLED_SECONDS", 0.05)
    monkeypatch.setattr(service_module, "PATIENCE_SECONDS", 0.02)
    async with node_and_raw(reading=False) as (pubsub, raw), pubsub.subscribe(TOPIC):
        await send(await raw.open(), JOIN)
        await meshed(pubsub)
        with anyio.fail_after(10):
            for _ in range(20):
                await pubsub.publish(TOPIC, bytes(100_000))


async def test_a_publisher_waits_for_a_peer_that_reads_and_nothing_is_lost() -> None:
    async with nodes(2) as [(_, pa), (_, pb)], pa.subscribe(TOPIC) as messages, pb.subscribe(TOPIC):
        await meshed(pa, pb)
        for _ in range(40):
            await pb.publish(TOPIC, bytes(200_000))
        assert len([await anext(messages) for _ in range(40)]) == 40


async def test_all_publishers_that_wait_go_on_when_something_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "PATIENCE_SECONDS", 60.0)

    async def publish(pubsub: PubSub) -> None:
        for _ in range(20):
            await pubsub.publish(TOPIC, bytes(200_000))

    async with nodes(2) as [(_, pa), (_, pb)], pa.subscribe(TOPIC) as messages, pb.subscribe(TOPIC):
        await meshed(pa, pb)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as publishers:
                for _ in range(3):
                    publishers.start_soon(publish, pb)
            assert len([await anext(messages) for _ in range(60)]) == 60


async def test_a_write_that_takes_too_long_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "WRITE_SECONDS", 0.02)
    monkeypatch.setattr(link_module, "RETRY_SECONDS", ())
    async with node_and_raw(reading=False) as (pubsub, raw), pubsub.subscribe(TOPIC):
        await send(await raw.open(), JOIN)
        await meshed(pubsub)
        for _ in range(8):
            pubsub._machine.publish(TOPIC, bytes(500_000), anyio.current_time())
        pubsub._pump()
        await settled(lambda: pubsub.peers() == ())
