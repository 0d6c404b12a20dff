"""A peer that obeys the lines of ../lines.md: our own host, with the services of a node."""

import argparse
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from interop.ours.streams import Streams
from stack.bitswap.shell.service import Bitswap
from stack.blocks.memory import MemoryStore
from stack.errors import StackError
from stack.gossipsub.events import ControlIgnored, Grafted, PeerAdded, PeersExchanged, Pruned, RpcReceived, RpcSent
from stack.gossipsub.params import GossipsubParams, PeerScoreParams
from stack.gossipsub.shell.service import PubSub
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers import MUXERS
from stack.net.host import Host
from stack.net.upgrader import Upgrader
from stack.protocols.identify.service import IdentifyService
from stack.sansio.budget import Scope
from stack.security import SECURITY
from stack.streams.interfaces import MuxedConnection, SecureChannel
from stack.trace import TraceEvent, TraceFan
from stack.transports.interfaces import SecuredConnection, Transport
from stack.transports.late import default_transports
from stack.transports.websocket.transport import WebSocketTransport

PRUNE_SECONDS = 15.0
"""A fourth of the default: a test may have to wait for its end."""


def say(*words: object) -> None:
    """A line to whoever drives us."""
    print(*words, flush=True)


def tell(event: TraceEvent) -> None:
    """What is on the wire, as lines."""
    match event:
        case PeerAdded(peer=peer, protocol=protocol):
            say("speaks", peer, protocol)
        case Grafted(peer=peer, topic=topic):
            say("grafted", peer, topic)
        case Pruned(peer=peer, topic=topic, reason=reason):
            say("pruned", peer, topic, reason.name)
        case ControlIgnored(peer=peer, kind=kind, reason=reason):
            say("ignored", peer, kind, reason.name)
        case PeersExchanged(peer=peer, topic=topic, taken=taken, refused=refused):
            say("exchanged", peer, topic, taken, refused)
        case RpcReceived(peer=peer, unwanted=unwanted) if unwanted:
            say("declines", peer, unwanted)
        case RpcSent(peer=peer, unwanted=unwanted) if unwanted:
            say("declined", peer, unwanted)


class Listener:
    """Tells of connections."""

    def peer_connected(self, peer: PeerId) -> None:
        say("connected", peer)

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """The router has its own."""

    def peer_disconnected(self, peer: PeerId) -> None:
        say("disconnected", peer)


class Peer:
    """Commands are methods; a line of words is a call."""

    def __init__(self, host: Host, pubsub: PubSub, trace: TraceFan, tasks: TaskGroup) -> None:
        self._host = host
        self._pubsub = pubsub
        self._trace = trace
        self._tasks = tasks
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._wanted: dict[str, int] = {}
        self.commands: dict[str, Callable[..., Awaitable[None]]] = {
            "connect": self.connect,
            "disconnect": self.disconnect,
            "subscribe": self.subscribe,
            "unsubscribe": self.unsubscribe,
            "publish": self.publish,
            "peers": self.peers,
            "count": self.count,
            "flood": self.flood,
            "trace": self.trace,
        }

    async def connect(self, text: str) -> None:
        address, peer = Multiaddr.parse(text).split_peer()
        assert peer is not None
        await self._host.connect(PeerId.parse(peer), [address])

    async def disconnect(self, peer: str) -> None:
        await self._host.disconnect(PeerId.parse(peer))

    async def subscribe(self, topic: str) -> None:
        self._scopes[topic] = anyio.CancelScope()
        await self._tasks.start(self._read, topic)
        say("subscribed", topic)

    async def unsubscribe(self, topic: str) -> None:
        self._scopes.pop(topic).cancel()

    async def publish(self, topic: str, data: str) -> None:
        await self._pubsub.publish(topic, bytes.fromhex(data))
        say("published", topic)

    async def peers(self, topic: str) -> None:
        say("peers", topic, ",".join(map(str, self._pubsub.peers(topic))))

    async def count(self, topic: str, wanted: str) -> None:
        self._wanted[topic] = int(wanted)
        say("counting", topic)

    async def flood(self, topic: str, count: str, size: str) -> None:
        for number in range(int(count)):
            await self._pubsub.publish(topic, number.to_bytes(8, "big").ljust(int(size), b"\0"))
        say("flooded", topic, count)

    async def trace(self) -> None:
        self._trace.add(tell)
        say("tracing")

    async def _read(self, topic: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        seen = 0
        with self._scopes[topic]:
            async with self._pubsub.subscribe(topic) as messages:
                task_status.started()
                async for message in messages:
                    if message.author == self._host.peer_id:
                        continue
                    if topic not in self._wanted:
                        say("message", topic, message.author, message.data.hex())
                        continue
                    seen += 1
                    if seen == self._wanted[topic]:
                        say("counted", topic, seen)
        say("unsubscribed", topic)


def only(table: dict[str, str], name: str) -> None:
    """Of a table of ours leave the row whose protocol begins so."""
    for row in [row for row in table if not row.startswith(f"/{name}")]:
        del table[row]


def telling_upgrader(key: PrivateKey) -> Upgrader:
    """Says when the muxer is agreed: by the handshake itself, or afterwards."""
    upgrader = Upgrader.of(key)
    multiplex = upgrader.multiplex

    async def tell_and_multiplex(
        channel: SecureChannel | SecuredConnection, *, outbound: bool, scope: Scope
    ) -> MuxedConnection:
        if isinstance(channel, SecureChannel):
            say("muxer", channel.remote_peer, "late" if channel.muxer is None else "early")
        return await multiplex(channel, outbound=outbound, scope=scope)

    upgrader.multiplex = tell_and_multiplex  # type: ignore[method-assign] # nobody else has to know
    return upgrader


def with_certificate(folder: Path | None) -> list[Transport]:
    """Listens on `/tls/ws` with the certificate of a folder. SSL_CERT_FILE names whose certificates are believed."""
    if folder is None:
        return default_transports()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return [WebSocketTransport(server_tls=context), *default_transports()]


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--security", default="noise")
    parser.add_argument("--muxer", default="yamux")
    parser.add_argument("--key", default="ed25519")
    parser.add_argument("--secret", type=bytes.fromhex, default=b"")
    parser.add_argument("--certificates", type=Path)
    return parser.parse_args()


async def main() -> None:
    """Obey until the input ends."""
    given = options()
    if given.security != "none":  # of QUIC, which has its own
        only(SECURITY, given.security)
        only(MUXERS, given.muxer)
    key, trace = generate(given.key), TraceFan()
    params = GossipsubParams(score=PeerScoreParams(), do_px=True, prune_backoff=PRUNE_SECONDS)
    store = MemoryStore()
    async with (
        Host(key, trace=trace, upgrader=telling_upgrader(key), transports=with_certificate(given.certificates)) as host,
        anyio.create_task_group() as tasks,
        Bitswap.open(host, store) as exchange,
    ):
        IdentifyService(host)
        streams = Streams(host, exchange, store, given.secret, say)
        address = await host.listen(Multiaddr.parse(given.listen))
        async with PubSub.open(host, key, params=params, record_of=host.peerstore.record) as pubsub:
            peer = Peer(host, pubsub, trace, tasks)
            host.listen_to_peers(Listener())
            say("ready", host.peer_id, f"{address}/p2p/{host.peer_id}")
            while True:
                line = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
                if line in ("", "quit\n"):
                    break
                name, *words = line.split()
                try:
                    await (peer.commands.get(name) or getattr(streams, name))(*words)
                except* (StackError, anyio.BrokenResourceError, TimeoutError, anyio.EndOfStream) as error:
                    say("error", *(repr(one) for one in error.exceptions))
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=os.environ.get("STACK_BACKEND", "asyncio"))
