"""A peer that obeys the lines of ../lines.md: py-libp2p."""

import argparse
import hashlib
import ssl
import sys
from pathlib import Path

import multiaddr
import trio
from libp2p import new_host
from libp2p.abc import INetConn, INetStream, INetwork, INotifee, ISubscriptionAPI
from libp2p.bitswap.cid import cid_to_text
from libp2p.bitswap.client import BitswapClient
from libp2p.bitswap.dag import MerkleDag
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.identity.identify_push.identify_push import push_identify_to_peers
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub import gossipsub, pubsub, rpc_queue
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.quic.exceptions import QUICStreamClosedError

DIGEST, RESET, PERF = "/interop/digest/1.0.0", "/interop/reset/1.0.0", "/perf/1.0.0"
PIECE = 64 * 1024
KEYS = {
    "ed25519": ed25519.create_new_key_pair,
    "rsa": rsa.create_new_key_pair,
    "secp256k1": secp256k1.create_new_key_pair,
}
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


async def pieces(stream: INetStream):
    try:
        while piece := await stream.read(PIECE):
            yield piece
    except StreamEOF:
        return
    except StreamReset as error:
        # Over QUIC that is how it tells of an end that has come after its own (libp2p/transport/quic/stream.py, `read`).
        if not isinstance(error.__cause__, QUICStreamClosedError):
            raise


async def read_all(stream: INetStream) -> bytes:
    return b"".join([piece async for piece in pieces(stream)])


async def count_all(stream: INetStream) -> int:
    count = 0
    async for piece in pieces(stream):
        count += len(piece)
    return count


async def write_zeros(stream: INetStream, size: int) -> None:
    while size:
        await stream.write(bytes(min(size, PIECE)))
        size -= min(size, PIECE)


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

    def __init__(self, host: object, router: pubsub.Pubsub, dag: MerkleDag, secret: bytes, tasks: trio.Nursery) -> None:
        self.host = host
        self.dag = dag
        self.secret = secret
        self.router = router
        self.tasks = tasks
        self.wanted: dict[str, int] = {}
        self.scope = tasks.cancel_scope
        host.set_stream_handler(DIGEST, self._serve_digest)
        host.set_stream_handler(RESET, self._serve_reset)
        host.set_stream_handler(PERF, self._serve_perf)

    async def connect(self, address: str) -> None:
        address = address.replace(
            "/tls/ws/", "/wss/"
        )  # the same by its older name: /tls/ws it dials only without /p2p behind
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

    async def ping(self, peer: str) -> None:
        (rtt,) = await PingService(self.host).ping(ID.from_base58(peer), 1)
        say("pong", peer, rtt)

    async def identify(self, peer: str) -> None:
        of = ID.from_base58(peer)
        store = self.host.get_peerstore()
        protocols = store.get_protocols(of) if of in store.peers_with_addrs() else []
        if not protocols:
            say("unidentified", peer)
            return
        stream = await self.host.new_stream(of, [IDENTIFY])
        told = parse_identify_response(await read_all(stream))
        record = "signed" if told.signedPeerRecord else "plain"
        observed = multiaddr.Multiaddr(told.observed_addr) if told.observed_addr else "-"
        say("identified", peer, told.agent_version.replace(" ", "_"), observed, record, ",".join(protocols))

    async def handle(self, protocol: str) -> None:
        async def refuse(stream: INetStream) -> None:
            await stream.reset()

        self.host.set_stream_handler(protocol, refuse)
        await push_identify_to_peers(self.host)
        say("handling", protocol)

    async def perf(self, peer: str, up: str, down: str) -> None:
        stream = await self.host.new_stream(ID.from_base58(peer), [PERF])
        await stream.write(int(down).to_bytes(8, "big"))
        await write_zeros(stream, int(up))
        await stream.close_write()
        say("performed", peer, up, await count_all(stream))

    async def digest(self, peer: str, name: str, size: str, count: str) -> None:
        answers = [""] * int(count)

        async def one(index: int) -> None:
            stream = await self.host.new_stream(ID.from_base58(peer), [DIGEST])
            left = int(size)
            for block in range(-(-left // PIECE)):
                piece = hashlib.sha256(f"{name}-{index}/{block}".encode()).digest() * (PIECE // 32)
                await stream.write(piece[:left])
                left -= PIECE
            await stream.close_write()
            answers[index] = (await read_all(stream)).hex()

        async with trio.open_nursery() as tasks:
            for index in range(int(count)):
                tasks.start_soon(one, index)
        say("digests", peer, ",".join(answers))

    async def reset(self, peer: str) -> None:
        stream = await self.host.new_stream(ID.from_base58(peer), [RESET])
        await stream.write(b"x")
        await stream.read(1)
        await stream.reset()
        say("resetting", peer)

    async def serve(self, path: str, version: str, chunk: str) -> None:
        say("serving", cid_to_text(await self.dag.add_file(path, chunk_size=int(chunk))))

    async def fetch(self, peer: str, root: str, path: str) -> None:
        data, _ = await self.dag.fetch_file(root, peer_id=ID.from_base58(peer), timeout=60)
        Path(path).write_bytes(data)
        say("fetched", root)

    async def _serve_digest(self, stream: INetStream) -> None:
        digest = hashlib.sha256(self.secret)
        async for piece in pieces(stream):
            digest.update(piece)
        await stream.write(digest.digest())
        await stream.close()

    async def _serve_reset(self, stream: INetStream) -> None:
        await stream.read(1)
        await stream.write(b"\1")
        try:
            await count_all(stream)
            say("was", stream.muxed_conn.peer_id, "ended")
        except StreamReset:
            say("was", stream.muxed_conn.peer_id, "reset")

    async def _serve_perf(self, stream: INetStream) -> None:
        head = b""
        while len(head) < 8:
            head += await stream.read(8 - len(head))
        received, wanted = await count_all(stream), int.from_bytes(head, "big")
        await write_zeros(stream, wanted)
        await stream.close()
        say("served-perf", stream.muxed_conn.peer_id, received, wanted)

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


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=multiaddr.Multiaddr, required=True)
    parser.add_argument("--security", default="noise")
    parser.add_argument("--muxer", default="yamux")
    parser.add_argument("--key", default="ed25519")
    parser.add_argument("--secret", type=bytes.fromhex, default=b"")
    parser.add_argument("--certificates")
    parser.add_argument("--early")  # or not: it never is
    return parser.parse_args()


async def main() -> None:
    given = options()
    key = KEYS[given.key]()
    certificate = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if given.certificates else None
    if certificate is not None:
        certificate.load_cert_chain(f"{given.certificates}/certificate.pem", f"{given.certificates}/key.pem")
    host = new_host(
        key_pair=key,
        sec_opt={TLS: TLSTransport(key)} if given.security == "tls" else None,
        # SSL_CERT_FILE names whose certificates are believed.
        tls_client_config=ssl.create_default_context(),
        tls_server_config=certificate,
        muxer_preference=given.muxer.upper() if given.muxer != "none" else None,  # of QUIC, which has its own
        enable_websocket=str(given.listen).endswith("/ws"),
        enable_quic=str(given.listen).endswith("/quic-v1"),
    )
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
        host.run(listen_addrs=[given.listen]),
        background_trio_service(service),
        background_trio_service(router),
        trio.open_nursery() as tasks,
    ):
        await service.wait_until_ready()
        exchange = BitswapClient(host)
        exchange.set_nursery(tasks)
        await exchange.start()
        peer = Peer(host, service, MerkleDag(exchange), given.secret, tasks)
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
