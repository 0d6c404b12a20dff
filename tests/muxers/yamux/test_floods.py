"""Attack 5 on running hosts: whatever frames a peer sends, the others are answered, and no turn of the event loop is long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from wsproto.connection import CLIENT, Connection
from wsproto.events import BytesMessage, Ping, Pong

from stack.errors import RemoteProtocolError
from stack.identity.keys import generate
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.net.upgrader import Upgrader
from stack.streams.interfaces import SecureChannel
from stack.streams.memory import memory_stream_pair
from stack.transports.memory import MemoryNetwork, MemoryTransport
from stack.transports.tcp import TcpTransport
from stack.transports.websocket.frames import Upgrade
from tests.muxers.yamux.support import DATA, PING, RST, SYN, WINDOW_UPDATE, data, frame
from tests.net.hosts import connect, hosts
from tests.turns import steps_counted

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 10.0
"""Of the honest, on a machine that has other things to do: what is held to a figure is the length of turns."""

OPENED = frame(WINDOW_UPDATE, SYN, 1, 0)
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "streams opened and reset": (
        b"",
        b"".join(frame(WINDOW_UPDATE, SYN, id, 0) + frame(WINDOW_UPDATE, RST, id, 0) for id in range(3, 100_003, 2)),
    ),
    "streams opened and refused": (b"", b"".join(frame(WINDOW_UPDATE, SYN, id, 0) for id in range(3, 100_003, 2))),
    "pings": (b"", frame(PING, SYN, 0, 1) * 50_000),
    "data without a byte": (OPENED, frame(DATA, 0, 1, 0) * 50_000),
    "credit of a byte": (OPENED, frame(WINDOW_UPDATE, 0, 1, 1) * 50_000),
    "frames of a byte for nobody": (b"", data(9, b"x") * 50_000),
    "frames of a byte": (OPENED, data(1, b"x") * 50_000),
    "resets of nothing": (b"", frame(WINDOW_UPDATE, RST, 9, 0) * 50_000),
}
"""What is sent first, and then in one go."""


async def answered(host: Host, other: Host) -> None:
    """The other answers a ping."""
    assert await host._swarm.of(other.peer_id)[0].ping(PATIENCE_SECONDS) is not None


@asynccontextmanager
async def under(attack: "Attack") -> AsyncIterator[None]:
    """While it goes on no turn is long."""
    async with anyio.create_task_group() as tasks:
        with steps_counted():
            tasks.start_soon(attack.run)
            yield
            tasks.cancel_scope.cancel()


class Attack:
    """Sends what was prepared, all of it or until it is cut off."""

    def __init__(self, stream: object, wire: list[bytes]) -> None:
        self._stream = stream
        self._wire = wire

    async def run(self) -> None:
        try:
            for piece in self._wire:
                await self._stream.send_all(memoryview(piece))  # type: ignore[attr-defined] # any raw stream
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return


def sealed(channel: SecureChannel, plaintext: bytes) -> list[bytes]:
    """Full Noise frames, made before the clock runs."""
    wire = []
    for start in range(0, len(plaintext), 65519):
        piece = plaintext[start : start + 65519]
        out = bytearray(2 + len(piece) + 16)
        out[2 : 2 + len(piece)] = piece
        channel.session.seal(memoryview(out), len(piece))
        wire.append(bytes(out))
    return wire


@pytest.mark.parametrize("kind", FLOODS)
async def test_attack_5_under_a_flood_of_frames_others_are_answered_and_no_turn_is_long(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, flood = FLOODS[kind]
    network = MemoryNetwork()
    as_wide_as_a_socket = partial(MemoryTransport, pair=partial(memory_stream_pair, limit=1 << 20))
    monkeypatch.setattr("tests.net.hosts.make_transport", as_wide_as_a_socket)
    async with hosts(3, network=network) as [victim, honest, newcomer]:
        await connect(honest, victim)
        raw = await as_wide_as_a_socket(network).dial(victim.addresses()[0].decapsulate("p2p"))
        channel = await Upgrader.of(generate()).secure(raw, outbound=True, expected=None)
        wire = sealed(channel, first + flood)
        async with under(Attack(raw, wire)):
            for _ in range(5):
                await answered(honest, victim)
            with anyio.fail_after(PATIENCE_SECONDS):
                await connect(newcomer, victim)
        await raw.aclose()


WS_FLOODS = {
    "pings": Ping(payload=b""),
    "pongs": Pong(payload=b""),
    "empty fragments": BytesMessage(data=b"", message_finished=False),
    "fragments of a byte": BytesMessage(data=b"x", message_finished=False),
    "messages of a byte": BytesMessage(data=b"x"),
}


@pytest.mark.parametrize("kind", WS_FLOODS)
async def test_attack_5_under_a_flood_of_websocket_frames_no_turn_is_long(kind: str) -> None:
    from stack.transports.websocket import WebSocketTransport

    peer = Connection(CLIENT)
    flood = b"".join(peer.send(WS_FLOODS[kind]) for _ in range(5_000))
    listener = await WebSocketTransport().listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws"))
    raw = await TcpTransport().dial(listener.address.decapsulate("ws"))
    upgrading = Upgrade(host="a")
    await raw.send_all(memoryview(upgrading.data_to_send()))
    accepted = await (await listener.accept()).open()
    room = memoryview(bytearray(65536))
    async with under(Attack(raw, [flood])):
        try:
            with anyio.move_on_after(5):
                received = 0
                while received < 5_000:
                    received += await accepted.receive_into(room)
        except anyio.BrokenResourceError as error:
            assert "bring nothing" in str(error)
            assert isinstance(error.__cause__, RemoteProtocolError)  # an offence, which is counted by address
    for end in (accepted, raw, listener):
        await end.aclose()
