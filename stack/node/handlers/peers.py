"""Handlers of requests about the node itself and its peers."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import anyio

from stack.announce.clocks import ADVICE
from stack.errors import DecodeError, NegotiationError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.interfaces import DialError
from stack.node.api import (
    Connect,
    Disconnect,
    DiscoveryFact,
    Done,
    GetDiscovery,
    GetReach,
    ListPeers,
    PeerAnswer,
    PeerInfo,
    Perf,
    PerfResult,
    Ping,
    PingReply,
    Reach,
)
from stack.node.config import read_address
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled
from stack.node.reach import reach_of
from stack.node.relaying import relay_facts
from stack.node.roles import LISTENING_ROLES
from stack.protocols.perf.service import PERF, run_perf
from stack.protocols.ping.service import Pinger


async def get_reach(node: Handled, request: GetReach) -> Reach:
    """Who can reach this node."""
    outside = node.outside
    await outside.settle(min(request.seconds, DISCOVERY_SECONDS_MAX))
    return reach_of(
        node.addresses(),
        node.notices,
        [read_address(text) for text in node.config.external],
        mapped=outside.mapped(),
        verdicts=outside.verdicts(),
        pending=not request.seconds and outside.is_pending,
    )


DISCOVERY_SECONDS_MAX = 30.0
"""The longest wait for first results."""


async def get_discovery(node: Handled, request: GetDiscovery) -> tuple[DiscoveryFact, ...]:
    """How this node looks for peers, or that it does not."""
    facts = []
    if node.private is not None:
        detail = f"fingerprint {node.private.fingerprint.hex()}; only who has the key can connect"
        facts.append(DiscoveryFact(what="private network", subject="", ok=True, detail=detail))
    if node.discovery is not None:
        await node.discovery.settled(min(request.seconds, DISCOVERY_SECONDS_MAX))
        facts += node.discovery.facts()
    else:
        facts.append(DiscoveryFact(what="mdns", subject="", ok=None, detail="switched off"))
    clock = node.announcing.layer.clock if node.announces else None
    if clock is not None:
        detail = f"{clock}: {ADVICE}" if clock.is_wrong else f"as that of {clock.peers} peers"
        facts.append(DiscoveryFact(what="clock", subject="", ok=not clock.is_wrong, detail=detail))
    if node.config.role in LISTENING_ROLES:
        facts += [*node.outside.facts(), *relay_facts(node.host.addresses(), node.config)]
    return tuple(facts)


async def list_peers(node: Handled, request: ListPeers) -> tuple[PeerInfo, ...]:
    """All connections."""
    now = time.monotonic()
    rows = []
    for connection in node.host.connections():
        rows.append(
            PeerInfo(
                peer_id=str(connection.peer),
                address=connection.address,
                direction=connection.direction.value,
                relayed=connection.relayed,
                limited=connection.limited,
                seconds=now - connection.opened_at,
                streams=connection.streams,
                latency=connection.latency,
                agent=connection.agent,
                bytes_sent=node.traffic.sent(connection.peer),
                bytes_received=node.traffic.received(connection.peer),
            )
        )
    return tuple(rows)


async def connect(node: Handled, request: Connect) -> PeerAnswer:
    """Dial an address."""
    return PeerAnswer(peer_id=str(await node.host.connect(None, [request.address])))


async def disconnect(node: Handled, request: Disconnect) -> Done:
    """Close the connections to a peer."""
    return Done(count=int(await node.host.disconnect(PeerId.parse(request.peer_id))))


async def reach_target(node: Handled, target: str) -> PeerId:
    """Be connected to a peer id or an address. Raises DialError."""
    if target.startswith("/"):
        return await node.host.connect(None, [Multiaddr.parse(target)])
    try:
        peer = PeerId.parse(target)
    except DecodeError as error:
        raise DialError(None, ()) from error
    return await node.host.connect(peer)


@contextmanager
def spoken_with(peer: PeerId) -> Iterator[None]:
    """What a stream ends with, as a sentence about the peer at its other end. Raises TransportError."""
    try:
        yield
    except TimeoutError as error:
        raise TransportError(f"{peer} is connected, but does not answer") from error
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise TransportError(f"{peer} has ended the conversation") from error


@streaming
async def ping(node: Handled, request: Ping) -> AsyncGenerator[PingReply, None]:
    """Round trips on one stream."""
    peer = await reach_target(node, request.target)
    with spoken_with(peer):
        async with Pinger(node.host, peer) as pinger:
            for sequence in range(request.count):
                yield PingReply(peer_id=str(peer), sequence=sequence, seconds=await pinger.ping())


async def perf(node: Handled, request: Perf) -> PerfResult:
    """Bytes to and from a peer."""
    peer = await node.host.connect(None, [request.address])
    try:
        with spoken_with(peer):
            upload, download = await run_perf(node.host, peer, request.upload, request.download)
    except NegotiationError as error:
        raise NegotiationError(
            f"{peer} does not serve {PERF}; it is off unless asked for (`stack daemon --perf`)"
        ) from error
    return PerfResult(upload_secs=upload, download_secs=download)
