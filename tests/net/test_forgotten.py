"""A connection that has ended is forgotten at once: no object of it refers to itself and waits until Python looks for such."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress

import anyio
import pytest
from noise.connection import NoiseConnection

from stack.errors import TransportError
from stack.net.host import Host
from stack.net.negotiate import serve
from stack.net.upgrader import Upgrader
from stack.protocols.identify.service import IdentifyService
from stack.sansio.budget import Resource, Scope
from stack.security import SECURITY
from stack.security.tls.handshake import TlsHandshake
from stack.streams.interfaces import Stream
from stack.testing.lines import line_stream_pair
from stack.transports.memory import MemoryNetwork, MemoryTransport
from tests.net.hosts import ANYWHERE, echo, settled
from tests.net.identities import key

TRIES = 3


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.anyio
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("security", SECURITY)
async def test_attack_3_of_a_connection_that_has_ended_nothing_is_left(security: str) -> None:
    """What refers to itself does so each time; a task that is slow to end on a busy machine holds it for once."""
    for _ in range(TRIES - 1):
        if not await something_is_left(security):
            return
    assert not await something_is_left(security)


async def something_is_left(security: str) -> bool:
    network = MemoryNetwork()
    made = [
        Host(
            key(number),
            transports=[MemoryTransport(network)],
            upgrader=Upgrader.of(key(number), None, {security: SECURITY[security]}),
        )
        for number in (0, 1)
    ]
    async with made[0] as here, made[1] as there:
        for host in made:
            IdentifyService(host)
            host.handle("/echo/1", echo)
            await host.listen(ANYWHERE)
        await here.connect(there.peer_id, there.addresses())
        await speak(await here.open_stream(there.peer_id, "/echo/1"))
        await settled(lambda: here.protocols(there.peer_id) is not None and there.protocols(here.peer_id) is not None)
        left = [
            weakref.ref(part)
            for host in made
            for connection in host._swarm.all()
            for part in (connection, connection._muxed, connection._muxed.machine)  # type: ignore[attr-defined] # of yamux
        ]
        assert len(left) == 6
        await here.disconnect(there.peer_id)
        with anyio.move_on_after(5):
            while any(part() is not None for part in left):
                await anyio.sleep(0.001)
            return False
        return True


async def speak(stream: Stream) -> None:
    await stream.send(b"hello")
    assert await stream.receive() == b"hello"
    await stream.aclose()


@pytest.mark.anyio
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("security", SECURITY)
async def test_attack_3_of_a_handshake_that_does_not_go_on_nothing_is_left(
    security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.net.upgrader.PHASE_SECONDS", 0.1)
    before = handshakes()
    upgrader = Upgrader.of(key(0), None, {security: SECURITY[security]})
    ours, theirs = line_stream_pair(ANYWHERE, ANYWHERE)

    async def agree() -> None:
        await serve(theirs, {security})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agree)
        with suppress(TransportError):
            await upgrader.secure(ours, outbound=True, expected=None)
    assert handshakes() <= before


def handshakes() -> int:
    """Those that are anywhere; other tests may have left some."""
    return sum(type(each) in (NoiseConnection, TlsHandshake) for each in gc.get_objects())


@pytest.mark.usefixtures("uncollected")
def test_a_scope_goes_with_whoever_had_it() -> None:
    before = sum(type(each) is Scope for each in gc.get_objects())
    whole = Scope("whole", {Resource.BYTES: 10})
    for _ in range(5):
        with whole.child("part", {}, Scope("beside", {})).reserve(Resource.BYTES, 1):
            pass
    assert sum(type(each) is Scope for each in gc.get_objects()) <= before + 1
    assert whole.used(Resource.BYTES) == 0
