"""What goes to one peer: that it has been read."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest

from stack.bitswap.messages import PROTOCOL_1_2, OutgoingMessage, encode_message
from stack.bitswap.shell import link as link_module
from stack.streams.interfaces import Stream
from tests.bitswap.exchanges import nodes
from tests.net.hosts import connect

pytestmark = pytest.mark.anyio


async def read_and_end(stream: Stream) -> None:
    with suppress(anyio.EndOfStream):
        while True:
            await stream.receive()
    await stream.aclose()


async def read_and_reset(stream: Stream) -> None:
    await stream.receive()
    stream.reset()


async def read_nothing(stream: Stream) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize(("serve", "is_read"), [(read_and_end, True), (read_and_reset, False), (read_nothing, False)])
async def test_finding_16_a_peer_has_read_what_was_sent_when_it_ends_its_side_too(
    serve: Callable[[Stream], Awaitable[None]], is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "READ_SECONDS", 0.2 if serve is read_nothing else 30)
    async with nodes([], []) as [node, peer]:
        peer.host.unhandle(PROTOCOL_1_2)
        peer.host.handle(PROTOCOL_1_2, serve)
        await connect(node.host, peer.host)
        link = node.exchange.link(peer.host.peer_id)
        assert not await link.read_by_peer()  # nothing was sent
        await link._blocks.send(lambda protocol: encode_message(OutgoingMessage()))
        assert await link.read_by_peer() is is_read
        assert await link._blocks.take() is None  # what is sent next goes on another stream
