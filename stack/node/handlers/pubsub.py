"""Handlers of requests about topics."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import anyio

from stack.announce.keyspace import TOPIC_PREFIX
from stack.errors import LimitExceeded
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    ListTopicPeers,
    ListTopics,
    Publish,
    Published,
    Subscribe,
    Subscribed,
    TopicEvent,
    TopicInfo,
    TopicMessage,
    TopicPeer,
)
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled

DATA_MAX = 1024 * 1024 - 4096
"""Bytes of a message: with topic, author, key and signature it fits into the 1 MiB that an RPC may have."""

JOIN_SECONDS = 5.0
"""While nobody is known who is in the topic: for mDNS to answer, and for peers to say what they are in with their next heartbeat."""

POLL_SECONDS = 0.02


async def publish(node: Handled, request: Publish, data: AsyncIterator[bytes]) -> Published:
    """Send one message. Raises LimitExceeded, DialError."""
    pubsub = node.pubsub
    message = bytearray()
    async for piece in data:
        message += piece
        if len(message) > DATA_MAX:
            raise LimitExceeded("bytes of a message", DATA_MAX)
    await _connect(node, request.connect)
    with anyio.move_on_after(JOIN_SECONDS):
        while not pubsub.peers(request.topic):
            await anyio.sleep(POLL_SECONDS)
    message_id = await pubsub.publish(request.topic, bytes(message))
    return Published(id=message_id.hex(), peers=len(pubsub.peers(request.topic)))


@streaming
async def subscribe(node: Handled, request: Subscribe) -> AsyncGenerator[TopicEvent, None]:
    """Messages as they come."""
    async with node.pubsub.subscribe(request.topic) as messages:
        await _connect(node, request.connect)
        yield Subscribed(topic=request.topic, peers=len(node.pubsub.peers(request.topic)))
        async for message in messages:
            yield TopicMessage(
                topic=message.topic,
                author=message.author,
                seqno=message.seqno,
                id=message.id.hex(),
                data=message.data,
                dropped=messages.dropped,
            )


async def list_topics(node: Handled, request: ListTopics) -> tuple[TopicInfo, ...]:
    """What this node is subscribed to, but for the topics of the announcement layer."""
    pubsub = node.pubsub
    return tuple(
        TopicInfo(topic=topic, peers=len(pubsub.peers(topic)), mesh=len(pubsub.mesh(topic)))
        for topic in sorted(pubsub.topics())
        if not topic.startswith(TOPIC_PREFIX)
    )


async def list_topic_peers(node: Handled, request: ListTopicPeers) -> tuple[TopicPeer, ...]:
    """Peers that speak gossipsub, or are in a topic."""
    pubsub = node.pubsub
    topics = pubsub.topics() if request.topic is None else (request.topic,)
    mesh = {peer for topic in topics for peer in pubsub.mesh(topic)}
    return tuple(
        TopicPeer(peer_id=str(peer), mesh=peer in mesh, score=pubsub.score(peer))
        for peer in pubsub.peers(request.topic)
    )


async def _connect(node: Handled, addresses: Sequence[Multiaddr]) -> None:
    for address in addresses:
        await node.host.connect(None, [address])
