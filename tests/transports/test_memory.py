"""What only the memory transport does."""

import pytest

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.transports.memory import BACKLOG, MemoryNetwork, MemoryTransport

ANY = Multiaddr.parse("/memory/0")


@pytest.mark.anyio
async def test_networks_are_apart() -> None:
    listener = await MemoryTransport(MemoryNetwork()).listen(Multiaddr.parse("/memory/7"))
    assert str(listener.address) == "/memory/7"
    with pytest.raises(TransportError, match="nobody listens"):
        await MemoryTransport(MemoryNetwork()).dial(listener.address)
    await listener.aclose()


@pytest.mark.anyio
async def test_connections_that_nobody_accepts_are_bounded_and_end_with_the_listener() -> None:
    transport = MemoryTransport(MemoryNetwork())
    listener = await transport.listen(ANY)
    waiting = [await transport.dial(listener.address) for _ in range(BACKLOG)]
    with pytest.raises(TransportError, match="too many"):
        await transport.dial(listener.address)
    await listener.aclose()
    for stream in waiting:
        await stream.wait_readable()
        await stream.aclose()
