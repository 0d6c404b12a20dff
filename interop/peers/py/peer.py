"""A peer that speaks gossipsub and obeys the lines of ../README.md: py-libp2p."""

import sys

import multiaddr
import trio
from libp2p import new_host
from libp2p.abc import INetConn, INetwork, INotifee, ISubscriptionAPI
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub import gossipsub, pubsub, rpc_queue
from libp2p.tools.anyio_service import background_trio_service

QUEUE = 1 << 16
"""Its own queues hold 32 messages and drop the rest of a burst."""
pubsub.SUBSCRIPTION_CHANNEL_SIZE = QUEUE
rpc_queue.RpcQueue.__init__.__kwdefaults__ = None
rpc_queue.RpcQueue.__init__.__defaults__ = tuple(
    QUEUE if value == rpc_queue.OutBoundQueueSize else value for value in rpc_queue.RpcQueue.__init__.__defaults__
)

PROTOCOLS = (gossipsub.PROTOCOL_ID_V12, gossipsub.PROTOCOL_ID_V11, gossipsub.PROTOCOL_ID)
BURST = 16
"""Messages published before the network is served again."""


def say(*words: object) -> None:
    print(*words, flush=True)


class Notices(INotifee):
    """Tells of connections."""

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        say("connected", conn.muxed_conn.peer_id)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        say("disconnected", conn.muxed_conn.peer_id)

    async def opened_stream(self, network: INetwork, stream: object) -> None: ...
    async def closed_stream(self, network: INetwork, stream: object) -> None: ...
    async def listen(self, network: INetwork, address: object) -> None: ...
    async def listen_close(self, network: INetwork, address: object) -> None: ...


class Peer:
    """Commands are methods; a line of words is a call."""

    def __init__(self, host: object, router: pubsub.Pubsub, tasks: trio.Nursery) -> None:
        self.host = host
        self.router = router
        self.tasks = tasks
        self.wanted: dict[str, int] = {}
        self.scope = tasks.cancel_scope

    async def connect(self, address: str) -> None:
        await self.host.connect(info_from_p2p_addr(multiaddr.Multiaddr(address)))

    async def disconnect(self, peer: str) -> None:
        await self.host.disconnect(ID.from_base58(peer))

    async def subscribe(self, topic: str) -> None:
        self.tasks.start_soon(self._read, topic, await self.router.subscribe(topic))
        say("subscribed", topic)

    async def unsubscribe(self, topic: str) -> None:
        await self.router.unsubscribe(topic)
        say("unsubscribed", topic)

    async def publish(self, topic: str, data: str) -> None:
        await self.router.publish(topic, bytes.fromhex(data))
        say("published", topic)

    async def peers(self, topic: str) -> None:
        say("peers", topic, ",".join(map(str, self.router.peer_topics.get(topic, ()))))

    async def count(self, topic: str, wanted: str) -> None:
        self.wanted[topic] = int(wanted)
        say("counting", topic)

    async def flood(self, topic: str, count: str, size: str) -> None:
        for number in range(int(count)):
            await self.router.publish(topic, number.to_bytes(8, "big").ljust(int(size), b"\0"))
            if number % BURST == 0:
                await trio.lowlevel.checkpoint()
        say("flooded", topic, count)

    async def quit(self) -> None:
        self.scope.cancel()

    async def _read(self, topic: str, messages: ISubscriptionAPI) -> None:
        seen = 0
        try:
            async for message in messages:
                author = ID(message.from_id)
                if author == self.host.get_id():
                    continue
                if topic not in self.wanted:
                    say("message", topic, author, message.data.hex())
                    continue
                seen += 1
                if seen == self.wanted[topic]:
                    say("counted", topic, seen)
        except trio.ClosedResourceError:
            return


async def main() -> None:
    listen = multiaddr.Multiaddr(sys.argv[2])
    key = create_new_key_pair()
    host = new_host(key_pair=key, muxer_preference="YAMUX")
    router = gossipsub.GossipSub(
        protocols=PROTOCOLS,
        degree=6,
        degree_low=5,
        degree_high=12,
        heartbeat_interval=1,
        do_px=True,
        # It would take no more than ten messages a second.
        spam_protection_enabled=False,
    )
    service = pubsub.Pubsub(host, router, strict_signing=True)
    host.get_network().register_notifee(Notices())
    async with (
        host.run(listen_addrs=[listen]),
        background_trio_service(service),
        background_trio_service(router),
        trio.open_nursery() as tasks,
    ):
        await service.wait_until_ready()
        peer = Peer(host, service, tasks)
        say("ready", host.get_id(), host.get_addrs()[0])
        while True:
            line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            if not line:
                tasks.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()
            name, *words = line.split()
            try:
                await getattr(peer, name)(*words)
            except Exception as error:  # noqa: BLE001 - the test is told
                say("error", repr(error))


trio.run(main)
