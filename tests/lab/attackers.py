"""Strangers who attack a node, in a process of their own: `python -m tests.lab.attackers NAME ADDRESS FILE`.

ADDRESS is the victim's, FILE what it serves or is about to fetch. The first line they print is a list of addresses: of those who are to
be named to the victim as providers. They come from addresses of their own, as many as they like, and do not stop when they are cut off.
"""

import json
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from stack.announce.keyspace import word_key
from stack.announce.messages import PROTOCOL as ANNOUNCE
from stack.announce.messages import Kind, Request, encode_request
from stack.announce.records import PublicName
from stack.bitswap.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_1_2,
    PROTOCOLS,
    OutgoingMessage,
    Want,
    decode_message,
    encode_message,
)
from stack.dag import links
from stack.discovery.dns import JUMPS_MAX, RECORDS_MAX
from stack.gossipsub.messages import PROTOCOL_1_2 as GOSSIP
from stack.gossipsub.messages import Control, Rpc, encode_rpc
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats import varint
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.net.interfaces import DialError
from stack.net.limits import NetLimits
from stack.net.upgrader import Upgrader
from stack.node.config import Config
from stack.node.node import Node
from stack.protocols.ping.service import PING
from stack.sansio.budget import Resource
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.streams.interfaces import Stream
from stack.streams.socket import SocketStream
from stack.transports.tcp import TcpTransport, _stream, socket_address
from tests.announce.build import record_bytes
from tests.announce.network import root_of
from tests.announce.test_worst_questions import WORDS, long_names
from tests.discovery.test_dns import LONG, pointing
from tests.muxers.yamux.test_floods import FLOODS, sealed

TOPIC = "lab"
"""What the victim's user publishes to and listens to."""
HALF = 60_000
CONNECT_SECONDS = 60.0
WITHOUT_SHAME = NetLimits(peer={**NetLimits().peer, Resource.STREAMS_OUT: 1024})
"""They open more streams to one peer than we would."""
MIB = 1 << 20


class From(TcpTransport):
    """Dials from an address of its own."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source

    async def dial(self, address: Multiaddr) -> SocketStream:
        """See `Transport.dial`."""
        connection = socket.socket()
        try:
            connection.settimeout(5)
            connection.bind((self._source, 0))
            await anyio.to_thread.run_sync(connection.connect, socket_address(address)[1])
            connection.setblocking(False)
            return _stream(connection)
        except BaseException:
            connection.close()
            raise


def source(number: int) -> str:
    """The address of a stranger."""
    return f"10.88.{10 + number // 250}.{number % 250 + 1}"


class Strangers:
    """All of one attack. Commands: `host`, `met`, `name`, `again`."""

    def __init__(self, victim: Multiaddr, file: Path, tasks: TaskGroup, stack: AsyncExitStack) -> None:
        self.victim, self.file = victim, file
        self.peer = PeerId.parse(victim.get("p2p") or "")
        self.named: list[str] = []
        self._tasks, self._stack, self._count = tasks, stack, 0

    def address(self) -> str:
        """Another one."""
        self._count += 1
        return source(self._count)

    async def host(self, handlers: dict[str, Callable[[Stream], Awaitable[None]]] | None = None) -> Host:
        """Somebody new, who is not connected."""
        host = Host(generate("ed25519"), transports=[From(self.address())], limits=WITHOUT_SHAME)
        for protocol, handler in (handlers or {}).items():
            host.handle(protocol, handler)
        return await self._stack.enter_async_context(host)

    async def met(self, handlers: dict[str, Callable[[Stream], Awaitable[None]]] | None = None) -> Host:
        """Somebody new, connected with the victim; its address may owe for what was done from it in the turn before, so it tries again."""
        host = await self.host(handlers)
        with anyio.fail_after(CONNECT_SECONDS):
            while True:
                try:
                    await host.connect(self.peer, [self.victim])
                    return host
                except DialError:
                    await anyio.sleep(1)
        raise AssertionError("unreachable")

    async def name(self, host: Host) -> None:
        """As a provider."""
        bound = await host.listen(Multiaddr.parse(f"/ip4/{self.address()}/tcp/0"))
        self.named.append(f"{bound}/p2p/{host.peer_id}")

    def again(self, act: Callable[[], Awaitable[object]], pause: float = 0.02) -> None:
        """And again, whatever becomes of it."""

        async def repeat() -> None:
            while True:
                with suppress(Exception):  # it is cut off or refused in many ways: none of them concerns an attacker
                    await act()
                await anyio.sleep(pause)

        self._tasks.start_soon(repeat)

    async def blocks(self) -> dict[Cid, bytes]:
        """Of the file, by CID; leaves in their order."""
        async with Node.open(Config(mdns=False, listen=())) as node:
            left, blocks = [await node.add(self.file, copy=True)], {}
            while left:
                cid = left.pop()
                blocks[cid] = bytes(await node.store.get(cid))
                left += reversed(links(cid, blocks[cid]))
            return blocks


async def never(stream: Stream) -> None:
    """Take nothing that comes."""
    await anyio.sleep_forever()


async def held(stream: Stream) -> None:
    """Until the victim ends it."""
    while True:
        await stream.receive()


async def ask(host: Host, strangers: Strangers, wants: list[Cid]) -> None:
    """For blocks, and read no answer."""
    stream = await host.open_stream(strangers.peer, PROTOCOL_1_2)
    await stream.send_buffers(*encode_message(OutgoingMessage(wants=[Want(cid) for cid in wants])))
    await held(stream)


async def deaf(strangers: Strangers) -> None:
    """Finding 1: friends of the same topic who ask for everything and read nothing, so that all lines to them are full."""
    wants = list(await strangers.blocks())
    words = Rpc(subscriptions=((True, TOPIC),), control=Control(graft=(TOPIC,)))
    for _ in range(8):
        host = await strangers.met({GOSSIP: never, PROTOCOL_1_2: never})

        async def talk(host: Host = host) -> None:
            if not host.is_connected(strangers.peer):
                await host.connect(strangers.peer, [strangers.victim])
            stream = await host.open_stream(strangers.peer, GOSSIP)
            await stream.send(encode_delimited(encode_rpc(words)))
            await ask(host, strangers, wants)

        strangers.again(talk)


async def half_messages(strangers: Strangers) -> None:
    """Finding 4: a thousand streams of one connection announce a message of 60,000 bytes and send one byte of it."""
    host = await strangers.met()

    async def begin() -> None:
        if not host.is_connected(strangers.peer):
            await host.connect(strangers.peer, [strangers.victim])
        stream = await host.open_stream(strangers.peer, PROTOCOL_1_2)
        await stream.send(varint.encode(HALF) + b"\x0a")
        await held(stream)

    for _ in range(1000):
        strangers.again(begin, 0.5)


async def liars(strangers: Strangers) -> None:
    """Finding 5: six providers who announce a message of 4 MiB on two streams each, and then say nothing."""
    for _ in range(6):
        host = await strangers.host()

        async def promise(stream: Stream, host: Host = host) -> None:
            await stream.receive()
            for _ in range(2):
                answer = await host.open_stream(stream.remote_peer, PROTOCOL_1_2)
                await answer.send(varint.encode(MESSAGE_BYTES_MAX) + b"\x0a")
            await anyio.sleep_forever()

        for protocol in PROTOCOLS:
            host.handle(protocol, promise)
        await strangers.name(host)


async def unread(strangers: Strangers) -> None:
    """Finding 10: forty identities ask for a MiB each and read nothing."""
    wants = list(await strangers.blocks())[:4]
    for _ in range(40):
        host = await strangers.met({PROTOCOL_1_2: never})

        async def want(host: Host = host) -> None:
            if not host.is_connected(strangers.peer):
                await host.connect(strangers.peer, [strangers.victim])
            await ask(host, strangers, wants)

        strangers.again(want)


def giver(blocks: dict[Cid, bytes], give: Callable[[Stream, Cid, bytes], Awaitable[None]]) -> Callable[..., object]:
    """A provider by how it gives a block."""

    def serving(host: Host) -> Callable[[Stream], Awaitable[None]]:
        async def serve(stream: Stream) -> None:
            reader = DelimitedReader(MESSAGE_BYTES_MAX)
            answers = await host.open_stream(stream.remote_peer, PROTOCOL_1_2)
            while True:
                reader.receive_data(await stream.receive())
                while (message := reader.next_message()) is not None:
                    for want in decode_message(memoryview(message)).wants:
                        if not want.cancel and want.cid in blocks:
                            await give(answers, want.cid, blocks[want.cid])

        return serve

    return serving


async def copies(strangers: Strangers) -> None:
    """Finding 28: three providers who send each block a hundred times."""
    blocks = await strangers.blocks()

    async def give(stream: Stream, cid: Cid, data: bytes) -> None:
        for _ in range(100):
            await stream.send_buffers(*encode_message(OutgoingMessage(blocks=[(cid, data)])))

    await provide(strangers, 3, giver(blocks, give))


async def drips(strangers: Strangers) -> None:
    """Attack 9: three providers who have everything and bring 32 KiB a second."""
    blocks = await strangers.blocks()

    async def give(stream: Stream, cid: Cid, data: bytes) -> None:
        whole = b"".join(encode_message(OutgoingMessage(blocks=[(cid, data)])))
        for start in range(0, len(whole), 8192):
            await stream.send(whole[start : start + 8192])
            await anyio.sleep(0.25)

    await provide(strangers, 3, giver(blocks, give))


async def provide(strangers: Strangers, count: int, serving: Callable[..., object]) -> None:
    """So many providers."""
    for _ in range(count):
        host = await strangers.host()
        host.handle(PROTOCOL_1_2, serving(host))  # type: ignore[arg-type]
        await strangers.name(host)


async def questions(strangers: Strangers) -> None:
    """Attack 2: a table of records that make questions dear, and eight who ask the dearest as fast as they are answered."""
    names = [PublicName(name=name, size=1, cid=root_of(1)) for name in long_names()]
    search = encode_delimited(encode_request(Request(kind=Kind.SEARCH, key=word_key(WORDS[0]), words=WORDS)))
    for number in range(8):
        host = await strangers.met()

        async def put(host: Host = host, number: int = number) -> None:
            for author in range(100):
                record = record_bytes(1000 * number + author, issued=int(time.time()), names=names)
                stream = await host.open_stream(strangers.peer, ANNOUNCE)
                await stream.send(encode_delimited(encode_request(Request(kind=Kind.PUT, record=record))))
                await stream.receive()
                await stream.aclose()

        async def search_on(host: Host = host) -> None:
            if not host.is_connected(strangers.peer):
                await host.connect(strangers.peer, [strangers.victim])
            stream = await host.open_stream(strangers.peer, ANNOUNCE)
            await stream.send(search)
            await stream.receive()
            await stream.aclose()

        strangers.again(put)
        for _ in range(4):
            strangers.again(search_on, 0.0)


def silent(strangers: Strangers, address: str) -> Callable[[], Awaitable[None]]:
    """A connection that never says a word."""

    async def hold() -> None:
        raw = await From(address).dial(strangers.victim.decapsulate("p2p"))
        try:
            while await raw.receive():
                pass
        finally:
            await raw.aclose()

    return hold


async def descriptors(strangers: Strangers) -> None:
    """Attack 3: 2,000 connections without a word to a node that may have 1,024 descriptors."""
    for number in range(2000):
        if number % 8 == 0:
            address = strangers.address()
        strangers.again(silent(strangers, address), 0.2)


async def streams(strangers: Strangers) -> None:
    """Attack 4: eight identities open all streams that they may, begin a message on each, and open them again."""
    begun = ((PING, b"x"), (PROTOCOL_1_2, b"\xff"), (ANNOUNCE, b"\xff"), (GOSSIP, b"\xff"))
    for host in [await strangers.met() for _ in range(8)]:
        for number in range(1000):
            protocol, first = begun[number % len(begun)]

            async def begin(host: Host = host, protocol: str = protocol, first: bytes = first) -> None:
                if not host.is_connected(strangers.peer):
                    await host.connect(strangers.peer, [strangers.victim])
                stream = await host.open_stream(strangers.peer, protocol)
                await stream.send(first)
                await held(stream)

            strangers.again(begin, 0.5)


async def frames(strangers: Strangers) -> None:
    """Attack 5: each flood of cheap frames there is, and wantlists of 8,192 blocks that nobody has."""
    for first, flood in FLOODS.values():

        async def send(address: str = strangers.address(), wire: bytes = first + flood) -> None:
            raw = await From(address).dial(strangers.victim.decapsulate("p2p"))
            try:
                channel = await Upgrader.of(generate()).secure(raw, outbound=True, expected=None)
                for piece in sealed(channel, wire):
                    await raw.send_all(memoryview(piece))
            finally:
                await raw.aclose()

        strangers.again(send, 0.1)
    for _ in range(2):
        host = await strangers.met({PROTOCOL_1_2: held})

        async def want(host: Host = host) -> None:
            if not host.is_connected(strangers.peer):
                await host.connect(strangers.peer, [strangers.victim])
            stream = await host.open_stream(strangers.peer, PROTOCOL_1_2)
            for number in range(1000):
                wants = [Want(root_of((number, index))) for index in range(8192)]
                await stream.send_buffers(*encode_message(OutgoingMessage(wants=wants, full=True)))

        strangers.again(want)


async def tables(strangers: Strangers) -> None:
    """Attack 6: 32 addresses hold connections without an identity, 200 newcomers with one; who is cut comes again."""
    for _ in range(32):
        address = strangers.address()
        for _ in range(10):
            strangers.again(silent(strangers, address), 0.2)
    for _ in range(200):
        host = await strangers.host()

        async def stay(host: Host = host) -> None:
            if not host.is_connected(strangers.peer):
                await host.connect(strangers.peer, [strangers.victim])

        strangers.again(stay, 0.5)


async def pointers(strangers: Strangers) -> None:
    """Attack 7: the worst packets of mDNS, 500 a second."""
    packets = [
        pointing(RECORDS_MAX - 2, LONG, jumps=JUMPS_MAX - 1),
        pointing(RECORDS_MAX - 2, LONG) + bytes(6900),
        pointing(RECORDS_MAX - 2, LONG, jumps=3000),
    ]
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.77.0.1"))

    async def send() -> None:
        for _ in range(5):
            for packet in packets:
                sender.sendto(packet, ("224.0.0.251", 5353))

    strangers.again(send, 0.03)


ATTACKS = {
    act.__name__: act
    for act in (
        deaf, half_messages, liars, unread, copies, questions, descriptors, streams, frames, tables, pointers, drips,
    )
}  # fmt: skip


async def attack(name: str, victim: Multiaddr, file: Path) -> None:
    """Until killed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        strangers = Strangers(victim, file, tasks, stack)
        await ATTACKS[name](strangers)
        print(json.dumps(strangers.named), flush=True)


if __name__ == "__main__":
    anyio.run(attack, sys.argv[1], Multiaddr.parse(sys.argv[2]), Path(sys.argv[3]))
