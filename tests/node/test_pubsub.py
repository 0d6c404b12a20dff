"""Topics of nodes, as programs use them and behind requests; asyncio and trio."""

from pathlib import Path

import anyio
import pytest

from stack import Config, Node, SyncNode
from stack.errors import LimitExceeded, Refused
from stack.gossipsub.events import Verdict
from stack.node.api import ListTopicPeers, ListTopics, Publish, Subscribe, Subscribed, TopicMessage
from stack.node.handlers.pubsub import DATA_MAX
from tests.net.hosts import settled
from tests.node.test_node import Pieces

pytestmark = pytest.mark.anyio


async def in_topic(node: Node, topic: str) -> None:
    await settled(lambda: bool(node.pubsub.peers(topic)))


async def test_a_message_goes_from_node_to_node() -> None:
    async with Node.open() as one, Node.open() as two, two.pubsub.subscribe("news") as messages:
        await two.connect(one.addresses()[0])
        await in_topic(one, "news")
        assert "news" in two.pubsub.topics() and one.pubsub.peers("news") == (two.peer_id,)
        await one.pubsub.publish("news", b"hello")
        message = await anext(messages)
        assert (message.data, message.author, message.topic) == (b"hello", one.peer_id, "news")


async def test_a_validator_stops_what_it_rejects() -> None:
    async with Node.open() as one, Node.open() as two, two.pubsub.subscribe("even") as messages:
        two.pubsub.set_validator(
            "even", lambda peer, message: Verdict.ACCEPT if len(message.data or b"") % 2 == 0 else Verdict.IGNORE
        )
        await two.connect(one.addresses()[0])
        await in_topic(one, "even")
        await one.pubsub.publish("even", b"odd")
        await one.pubsub.publish("even", b"even")
        assert (await anext(messages)).data == b"even"


async def test_requests_publish_subscribe_and_list() -> None:
    async with Node.open() as one, Node.open() as two:
        request = Subscribe(topic="news", connect=(one.addresses()[0],))
        async with two.watch(request) as events:
            assert await anext(events) == Subscribed(topic="news", peers=0)
            await in_topic(one, "news")
            published = await one.write(Publish(topic="news"), Pieces(b"he", b"llo\xff"))
            assert published.peers == 1
            message = await anext(events)
            assert isinstance(message, TopicMessage)
            assert message.data == b"hello\xff" and message.author == one.peer_id
            assert message.id == published.id and message.seqno and message.dropped == 0
            (topic,) = await two.ask(ListTopics())
            assert topic.topic == "news"
            (peer,) = await one.ask(ListTopicPeers(topic="news"))
            assert peer.peer_id == str(two.peer_id) and peer.score >= 0
            assert [row.peer_id for row in await two.ask(ListTopicPeers())] == [str(one.peer_id)]
        assert await two.ask(ListTopics()) == ()


async def test_who_publishes_to_a_peer_it_has_to_connect_to_waits_until_that_is_in_the_topic() -> None:
    async with Node.open() as one, Node.open() as two, two.pubsub.subscribe("news") as messages:
        published = await one.write(Publish(topic="news", connect=(two.addresses()[0],)), Pieces(b"hello"))
        assert published.peers == 1
        assert (await anext(messages)).data == b"hello"


async def test_a_message_that_is_too_long_is_refused_before_it_is_all_here() -> None:
    async with Node.open() as node:
        assert (await node.write(Publish(topic="news"), Pieces(bytes(DATA_MAX)))).peers == 0
        with pytest.raises(LimitExceeded, match="bytes of a message"):
            await node.write(Publish(topic="news"), Pieces(bytes(DATA_MAX), b"1"))


async def test_a_slow_subscriber_is_told_how_much_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.gossipsub.shell.subscription.WAITING_MAX", 2)
    async with Node.open() as node, node.watch(Subscribe(topic="t")) as events:
        await anext(events)
        for number in range(5):
            await node.pubsub.publish("t", bytes([number]))
        seen = [await anext(events) for _ in range(2)]
        assert [event.dropped for event in seen if isinstance(event, TopicMessage)][-1] == 3


async def test_without_the_setting_there_is_no_gossipsub() -> None:
    async with Node.open(Config(pubsub=False)) as node:
        with pytest.raises(Refused, match="setting"):
            node.pubsub.topics()
        assert not any("meshsub" in name for name in node.host.supported())
        with pytest.raises(Refused):
            await node.ask(ListTopics())
        assert repr(node).startswith("<Node")


async def test_leaving_the_node_ends_a_subscription() -> None:
    async with anyio.create_task_group() as tasks:
        started = anyio.Event()

        async def read(node: Node) -> None:
            async with node.pubsub.subscribe("t") as messages:
                started.set()
                async for _ in messages:
                    pass

        async with Node.open() as node:
            tasks.start_soon(read, node)
            await started.wait()


def test_a_script_publishes_and_subscribes(tmp_path: Path) -> None:
    with SyncNode.open() as one, SyncNode.open(backend="trio") as two, two.subscribe("news") as messages:
        two.connect(one.addresses()[0])
        while not one.topic_peers("news"):
            pass
        one.publish("news", b"hello")
        assert next(messages).data == b"hello"
        assert "news" in two.topics()
