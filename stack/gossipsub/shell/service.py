"""gossipsub on a host: topics to subscribe to and to publish to. The machine decides, the shells move its bytes."""

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from stack.errors import LimitExceeded, RemoteProtocolError
from stack.gossipsub.events import (
    Connect,
    Deliver,
    MessageUndeliverable,
    Protect,
    RpcDropped,
    RpcReceived,
    RpcSent,
    SendRpc,
    Validate,
    Verdict,
)
from stack.gossipsub.messages import PROTOCOLS, Rpc, encode_rpc
from stack.gossipsub.outbox import Kind, kind_of
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.pieces import pieces
from stack.gossipsub.places import place_of
from stack.gossipsub.router import Gossipsub
from stack.gossipsub.scoring import ApplicationScore
from stack.gossipsub.shell.judge import AsyncValidator, Judge, Validator
from stack.gossipsub.shell.link import Dials, Link, receive_rpcs
from stack.gossipsub.shell.subscription import ReceivedMessage, Subscription
from stack.gossipsub.signing import Author, TopicRules
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.interfaces import Host
from stack.sansio.delimited import encode_delimited
from stack.sansio.interfaces import Randomness
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor, supervised
from stack.streams.turns import Turn

WRITABLE_SECONDS = 30.0
"""How long an inbound stream waits, unread, until we can write to its peer."""
STREAMS_PER_PEER_MAX = 4
"""Of one protocol: one is read, a newer one replaces it, and one or two may be on their way out."""
BURST = 48
"""Messages published in a row before others run, 5 ms: so many of 1 KiB are written at once, in one frame of Noise. With 16 both
ends take a tenth more of the processor, one by one three times as much."""
FLUSH_SECONDS = 1.0
"""When closing, for what waits to be written: a command that publishes one message ends at once."""
PATIENCE_SECONDS = 1.0
"""How long a publisher waits at a time before it looks whether its peers take anything."""


class PubSub:
    """Made by `PubSub.open`, a context that owns all its tasks. All calls are of the event loop's thread."""

    def __init__(self, host: Host, machine: Gossipsub, params: GossipsubParams, tasks: Supervisor) -> None:
        self._host = host
        self._machine = machine
        self._tasks = tasks
        self._judge = Judge(tasks, self._judged)
        self._record_of: Callable[[PeerId], bytes | None] | None = None
        self._links: dict[PeerId, Link] = {}
        self._inbound: dict[PeerId, Stream] = {}
        self._protected: dict[PeerId, Callable[[], None]] = {}
        self._direct: dict[PeerId, Callable[[], None]] = {}
        self._closed = False
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._encoded: tuple[Rpc, Kind, bytes] | None = None
        """The last RPC that was sent: the next one is often the same, for another peer."""
        self._burst = 0
        self._drained = anyio.Event()
        self._dials = Dials(host, params, tasks)
        tasks.keep(self._run_timer, owner="the clock of gossipsub")

    def __repr__(self) -> str:
        return f"<PubSub {self._host.peer_id}: {len(self._subscriptions)} topics, {len(self._links)} links>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        host: Host,
        key: PrivateKey | None = None,
        *,
        params: GossipsubParams | None = None,
        direct: Mapping[PeerId, Sequence[Multiaddr]] | None = None,
        application_score: ApplicationScore | None = None,
        record_of: Callable[[PeerId], bytes | None] | None = None,
        randomness: Randomness | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> AsyncIterator["PubSub"]:
        """Speak gossipsub and floodsub with every peer of `host` that does, until the context is left.

        `key` signs what we publish; without it only unsigned topics can be published to. `direct` are peers of explicit
        agreements, kept connected. `record_of` gives the signed record of a peer, for telling others of it (PX).
        """
        params = params if params is not None else GossipsubParams()
        machine = Gossipsub(
            host.peer_id,
            random=randomness if randomness is not None else random.SystemRandom(),
            now=anyio.current_time(),
            author=Author.of(key) if key is not None else None,
            first_seqno=int(wall_clock() * 1e9),
            params=params,
            direct={peer: tuple(addresses) for peer, addresses in (direct or {}).items()},
            application_score=application_score,
            trace=host.trace,
        )
        async with supervised(host.trace) as tasks:
            pubsub = cls(host, machine, params, tasks)
            pubsub._record_of = record_of
            for protocol in PROTOCOLS:
                host.handle(protocol, pubsub._serve, streams=STREAMS_PER_PEER_MAX)
            stop_listening = host.listen_to_peers(pubsub)
            stop_waking = host.on_wake(lambda _: machine.woken(int(wall_clock() * 1e9)))
            try:
                yield pubsub
            finally:
                with anyio.move_on_after(FLUSH_SECONDS, shield=True):
                    await pubsub._flush()
                stop_listening()
                stop_waking()
                for protocol in PROTOCOLS:
                    host.unhandle(protocol)
                pubsub._close()

    # Getters

    def topics(self) -> tuple[str, ...]:
        """Topics with a subscriber here."""
        return self._machine.topics

    def peers(self, topic: str | None = None) -> tuple[PeerId, ...]:
        """Connected peers that speak gossipsub or floodsub, or those of them that are in a topic."""
        return self._machine.peers(topic)

    def mesh(self, topic: str) -> tuple[PeerId, ...]:
        """Peers that messages of a topic are exchanged with directly."""
        return self._machine.mesh(topic)

    def score(self, peer: PeerId) -> float:
        """What we think of a peer; 0 when it is not scored."""
        return self._machine.score(peer)

    # Commands

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        """Messages of a topic while the context lasts. Raises LocalProtocolError when its name is empty or over 1,024 bytes."""
        self._machine.subscribe(topic, anyio.current_time())
        subscription = Subscription(topic)
        self._subscriptions.setdefault(topic, []).append(subscription)
        self._pump()
        try:
            yield subscription
        finally:
            subscription.close()
            others = self._subscriptions[topic]
            others.remove(subscription)
            if not others:
                del self._subscriptions[topic]
                self._machine.unsubscribe(topic, anyio.current_time())
                self._pump()

    async def publish(self, topic: str, data: bytes) -> bytes:
        """Send a message; returns its id. Waits while much waits for every peer that gets it, unless they take nothing.

        Raises LocalProtocolError when it is over 1 MiB, or must be signed and there is no key.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        message_id = self._machine.publish(topic, data, anyio.current_time())
        receivers = self._pump()
        self._burst += 1
        if self._burst >= BURST:
            self._burst = 0
            await anyio.lowlevel.cancel_shielded_checkpoint()
        while receivers and all(link.is_full() for link in receivers):
            with anyio.move_on_after(PATIENCE_SECONDS):
                await self._wait_until_drained()
        return message_id

    def set_rules(self, topic: str | None, rules: TopicRules) -> None:
        """How messages of a topic (None: of all others) are signed and named. All nodes of a topic must agree."""
        self._machine.set_rules(topic, rules)

    def set_validator(self, topic: str, validator: Validator | None) -> None:
        """Judge messages of a topic before they are delivered and passed on, on the event loop: it must be quick.
        None: no more. What it raises is logged and taken as IGNORE. Our own messages are not judged."""
        self._judge.set_validator(topic, validator)
        self._machine.require_validation(topic, validator is not None)

    def set_async_validator(self, topic: str, validator: AsyncValidator) -> None:
        """The same for a judge that takes time: 16 calls at a time, 1,024 messages may wait, more are dropped unjudged."""
        self._judge.set_async_validator(topic, validator)
        self._machine.require_validation(topic)

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener; what it speaks is not known yet."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""
        if not protocols.isdisjoint(PROTOCOLS):
            self._link(peer)
            self._tell_record(peer)

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        link = self._links.pop(peer, None)
        if link is not None:
            link.scope.cancel()
            self._machine.peer_disconnected(peer, anyio.current_time())
            self._pump()

    # Hub

    def link_opened(self, link: Link, protocol: str) -> None:
        """See Hub."""
        outbound, group = place_of(link.peer, self._host.connections())
        now = anyio.current_time()
        self._machine.peer_connected(link.peer, protocol, outbound, group, now, self._host.peer_budget(link.peer))
        if link.topics and link.peer in self._inbound:
            # Only our stream was renewed: on its own the peer does not tell again what it is in.
            self._machine.receive_rpc(link.peer, Rpc(subscriptions=tuple((True, t) for t in link.topics)), now)
        self._tell_record(link.peer)
        self._pump()

    def link_closed(self, link: Link) -> None:
        """See Hub."""
        if self._links.get(link.peer) is link:
            link.topics = self._machine.topics_of(link.peer)
            self._machine.peer_disconnected(link.peer, anyio.current_time())
            self._pump()

    def link_drained(self) -> None:
        """See Hub."""
        self._drained.set()

    # Inside

    def _link(self, peer: PeerId) -> Link:
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link(peer, self._host, self)
            self._tasks.start(self._run_link, link, owner="a link of gossipsub")
        return link

    async def _run_link(self, link: Link) -> None:
        try:
            await link.run()
        finally:
            if self._links.get(link.peer) is link:
                del self._links[link.peer]

    def _tell_record(self, peer: PeerId) -> None:
        record = self._record_of(peer) if self._record_of is not None else None
        if record is not None:
            self._machine.peer_record(peer, record)

    async def _serve(self, stream: Stream) -> None:
        """An inbound stream; a newer one of the same peer replaces it, as a reconnecting peer would have it."""
        if self._closed:
            raise anyio.ClosedResourceError
        peer = stream.remote_peer
        replaced = self._inbound.get(peer)
        self._inbound[peer] = stream
        if replaced is not None:
            replaced.reset()

        turn = Turn()

        async def receive(rpcs: Sequence[tuple[Rpc, int]]) -> None:
            await self._wait_until_writable(peer)
            now = anyio.current_time()
            try:
                for rpc, size in rpcs:
                    if self._host.trace is not None:
                        self._host.trace(RpcReceived.of(peer, rpc, size))
                    for piece in pieces(rpc):
                        self._machine.receive_rpc(peer, piece, now)
                        if turn.over:
                            self._pump()
                            await turn.give_way()
                            now = anyio.current_time()
            finally:
                self._pump()
            await self._judge.wait_for_room()

        try:
            await self._wait_until_writable(peer)
            await receive_rpcs(stream, self._host.peer_budget(peer), receive)
        except (TimeoutError, LimitExceeded, RemoteProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            stream.reset()
        finally:
            if self._inbound.get(peer) is stream:
                del self._inbound[peer]
                self._machine.peer_fell_silent(peer)
                self._pump()

    async def _wait_until_writable(self, peer: PeerId) -> None:
        """The machine knows only peers that can be sent to; raises TimeoutError when this one cannot."""
        link = self._link(peer)
        if not link.opened.is_set():
            with anyio.fail_after(WRITABLE_SECONDS):
                await link.opened.wait()

    def _pump(self) -> list[Link]:
        """Do what the machine wants done; returns the links that messages were pushed to."""
        receivers = []
        while (effect := self._machine.next_effect()) is not None:
            match effect:
                case SendRpc(peer=peer, rpc=rpc):
                    link = self._links.get(peer)
                    if link is not None and self._push(link, rpc) is Kind.MESSAGE:
                        receivers.append(link)
                case Validate():
                    self._judge.submit(effect)
                case Deliver():
                    self._deliver(effect)
                case Connect(peer=peer, direct=direct):
                    if direct and peer not in self._direct:
                        self._direct[peer] = self._host.protect(peer, "gossipsub direct")
                    self._dials.push(effect)
                case Protect(peer=peer, keep=keep):
                    if keep:
                        self._protected[peer] = self._host.protect(peer, "gossipsub mesh")
                    else:
                        self._protected.pop(peer)()
        return receivers

    def _push(self, link: Link, rpc: Rpc) -> Kind:
        if self._encoded is None or self._encoded[0] is not rpc:
            self._encoded = (rpc, kind_of(rpc), encode_delimited(encode_rpc(rpc)))
        _, kind, data = self._encoded
        whole = link.push(kind, data)
        trace = self._host.trace
        if trace is not None:
            trace(RpcSent.of(link.peer, rpc, len(data)))
            if not whole:
                trace(RpcDropped(peer=link.peer, size=len(data)))
        return kind

    def _deliver(self, effect: Deliver) -> None:
        topic = effect.message.topic
        received = ReceivedMessage.of(effect)
        for subscription in self._subscriptions.get(topic, ()):
            if not subscription.deliver(received) and self._host.trace is not None:
                self._host.trace(MessageUndeliverable(topic=topic))

    def _judged(self, verdicts: Sequence[tuple[int, Verdict]]) -> None:
        now = anyio.current_time()
        for token, verdict in verdicts:
            self._machine.validation_result(token, verdict, now)
        self._pump()

    async def _run_timer(self) -> None:
        while True:
            await anyio.sleep_until(self._machine.next_timeout())
            self._machine.handle_timeout(anyio.current_time())
            self._pump()

    async def _flush(self) -> None:
        """Return when nothing waits any more for peers that take what we send."""
        while any(link.is_writing(anyio.current_time()) for link in self._links.values()):
            await self._wait_until_drained()

    async def _wait_until_drained(self) -> None:
        """Return when something has been written to anybody."""
        if self._drained.is_set():
            self._drained = anyio.Event()
        await self._drained.wait()

    def _close(self) -> None:
        self._closed = True
        self._judge.close()
        for stream in self._inbound.values():
            stream.reset()
        for link in self._links.values():
            link.scope.cancel()
        for end in (*self._protected.values(), *self._direct.values()):
            end()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()
        self._dials.close()
