"""A whole host and peers that show every bad certificate of the table: none of them reaches a handler of a stream."""

from types import SimpleNamespace

import anyio
import pytest

from stack.errors import StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.frames import DATA, SYN, encode_header
from stack.net.multistream import HEADER, encode_token
from stack.net.negotiate import select_one, serve
from stack.security.tls import shell
from stack.streams.interfaces import RawStream, Stream
from stack.transports.memory import MemoryNetwork, MemoryTransport
from tests.net.hosts import hosts, settled, used
from tests.security.tls.bad_certificates import BAD, CERTIFIED, GOOD, WALL, host
from tests.security.tls.forger import Forger, Show

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def on_that_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the certificates of the table are good but for what is said of them."""
    monkeypatch.setattr(shell, "time", SimpleNamespace(time=lambda: WALL))


PROTOCOL = "/secret/1"
GOOD_ONE = Show(certificates=[GOOD], key=CERTIFIED)


def a_stream(id: int) -> bytes:
    """Opens a stream and asks for the handler, in yamux."""
    words = encode_token(HEADER) + encode_token(PROTOCOL)
    return encode_header(DATA, SYN, id, len(words)) + words


async def play(stream: RawStream, show: Show, *, outbound: bool) -> None:
    """Be the forger until the other end hangs up; with the last of the handshake comes a stream, as if all were well."""
    forger = Forger(show, outbound=outbound)
    buffer = memoryview(bytearray(65536))
    spoken = False
    try:
        if outbound:
            await select_one(stream, ["/tls/1.0.0"])
        else:
            await serve(stream, {"/tls/1.0.0"})
        while True:
            said = forger.data_to_send()
            if forger.done and not spoken:
                spoken = True
                said += forger.say(a_stream(1 if outbound else 2))
            await stream.send_all(memoryview(said))
            forger.receive_data(bytes(buffer[: await stream.receive_into(buffer)]))
    except (anyio.EndOfStream, anyio.BrokenResourceError, StackError):
        pass
    finally:
        await stream.aclose()


async def test_no_bad_certificate_of_a_dialler_reaches_a_handler() -> None:
    reached: list[PeerId] = []

    async def handler(stream: Stream) -> None:
        reached.append(stream.remote_peer)

    network = MemoryNetwork()
    async with hosts(1, network=network, identify=False) as [ours]:
        ours.handle(PROTOCOL, handler)
        address = ours.addresses()[0]
        for row in BAD.values():
            with anyio.fail_after(10):
                await play(await MemoryTransport(network).dial(address), row.show(), outbound=True)
            assert reached == []
        await settled(lambda: not used(ours.budget))
        async with anyio.create_task_group() as tasks:
            stream = await MemoryTransport(network).dial(address)
            tasks.start_soon(lambda: play(stream, GOOD_ONE, outbound=True))
            await settled(lambda: reached == [PeerId.of(host().public)])  # the forger can do it
            tasks.cancel_scope.cancel()


async def test_no_bad_certificate_of_a_listener_reaches_a_handler() -> None:
    reached: list[PeerId] = []

    async def handler(stream: Stream) -> None:
        reached.append(stream.remote_peer)

    network = MemoryNetwork()
    them = PeerId.of(host().public)
    async with hosts(1, network=network, identify=False) as [ours]:
        ours.handle(PROTOCOL, handler)
        for number, row in enumerate([*BAD.values(), None]):
            listener = await MemoryTransport(network).listen(Multiaddr.parse(f"/memory/{1000 + number}"))
            async with anyio.create_task_group() as tasks:

                async def listen(show: Show, listener=listener) -> None:  # type: ignore[no-untyped-def] # bound here
                    await play(await (await listener.accept()).open(), show, outbound=False)

                tasks.start_soon(listen, row.show() if row else GOOD_ONE)
                with anyio.fail_after(10):
                    if row:
                        with pytest.raises(StackError):
                            await ours.connect(them, [listener.address])
                        assert (reached, ours.is_connected(them)) == ([], False)
                    else:
                        await ours.connect(them, [listener.address])
                        await settled(lambda: reached == [them])
                tasks.cancel_scope.cancel()
            await listener.aclose()
