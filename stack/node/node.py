"""The node: the same object answers commands (`Api`) and programs (the methods with plain names).

What a node is made of is loaded by `Node.open`, what answers requests by the first of them: importing `Node` costs a program little.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import Order, Provider, Session
from stack.blocks.ending import let_go_with
from stack.blocks.interfaces import Block, BlockStore
from stack.errors import NodeClosed, Refused, StackError
from stack.files.aside import Aside
from stack.files.ticket import Ticket, encode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Ask, Read, Watch, Write
from stack.node.config import Config
from stack.node.groups import StoredBlocks, check_size
from stack.node.home import Home
from stack.node.interfaces import RunningFetch
from stack.node.patience import LimitedSession, PatientSession
from stack.node.roles import LISTENING_ROLES
from stack.node.surface import AnyNode
from stack.streams.supervision import Supervisor, supervised
from stack.streams.turns import Turn
from stack.trace import TraceFan

if TYPE_CHECKING:
    from stack.gossipsub.shell.service import PubSub
    from stack.node.announcing import Announcing
    from stack.node.build import ControlSocket, Parts

A = TypeVar("A")

KEYS_PAUSE_SECONDS = 1.0
"""Between two times that a node tells by what keys it is found: who has just got a ticket looks for longer."""
CALLS_SECONDS = 2.0
"""For what programs still ask of a node when it is closed: a script that Ctrl-C ends is not to wait longer."""


class Node(AnyNode):
    """A node that runs in this process. Made by `Node.open`, a context; leaving it stops everything.

    Besides what every node has (`AnyNode`): `pubsub` with validators, `host` for protocols of your own.
    """

    def __init__(self, config: Config, parts: "Parts", tasks: Supervisor) -> None:
        self.config = config
        self.host = parts.host
        self.store: BlockStore = parts.blocks
        self.exchange = parts.exchange
        self.jobs = parts.jobs
        self.fetcher = parts.fetcher
        self.book = parts.book
        self.trace: TraceFan = parts.trace
        self.notices = parts.notices
        self._company = parts.company
        self.private = parts.private
        """The private network this node is in; None for the public one."""
        self.discovery = parts.discovery
        """How peers are found; None where nobody is looked for."""
        self.sharing = parts.shares
        self.ask_name = parts.ask_name
        """What a connected peer calls a root; empty when it does not say, or does not know the secret, where there is one."""
        self.receivers = parts.receivers
        """Who asks about a root, and what part of it each says it has, 0 to 1."""
        self.access = parts.access
        """For whom it is what is shared and fetched."""
        self.codes = parts.codes
        """Short codes in place of tickets, given and taken."""
        self.outside = parts.outside
        """Whether others reach this node, and through which router."""
        self.traffic = parts.traffic
        self.tasks = tasks
        self.aside = Aside()
        self.running: dict[int, RunningFetch] = {}
        """Fetches of this process, by the number of their job."""
        self.reading: list[PatientSession] = []
        """What else is asked of others now."""
        self.control: ControlSocket | None = None
        """Where other commands of this home are served; None without a home."""
        self._keys_changed = anyio.Event()
        self._calls: set[anyio.CancelScope] = set()
        self._ended = anyio.Event()
        """One of them has."""
        self._closed = False

    def __repr__(self) -> str:
        return f"<Node {self.peer_id} {self.config.role}>"

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Config | None = None, *, home: Home | None = None) -> AsyncIterator["Node"]:
        """A node for as long as the context lasts; without a config it lives in memory and never meets a daemon's lock.

        `home` is a home that the caller holds already. Raises Refused when another process holds it, ConfigError,
        ListenError, RepoTooNew, CorruptStore, NoSpace.
        """
        from stack.node.build import build, control_socket

        config = config or Config()
        taken = None
        if config.home is not None and home is None:
            taken = Home(config.home)
            if not await anyio.to_thread.run_sync(taken.acquire):
                raise Refused(f"another process holds {config.home}: ask it (`RunningNode.open`), or use another home")
        try:
            async with build(config) as parts, supervised(parts.trace) as tasks:
                node = cls(config, parts, tasks)
                if taken is not None:
                    node.notices = (*taken.notices, *node.notices)
                node.sharing.ending = node.end_share
                await node._forget_ended()
                node.sharing.changed = node.tell_keys
                node.tell_keys()
                node._company.begun = node._accompanied
                tasks.keep(node._keep_telling, owner="telling keys")
                tasks.keep(node.sharing.run, tasks, owner="counting what was sent")
                try:
                    if config.role == "daemon":
                        from stack.node.handlers.jobs import resume_detached

                        resume_detached(node, await node.jobs.jobs())
                    async with control_socket(node, home or taken, config.role) as node.control:
                        try:
                            yield node
                        finally:
                            node.sharing.handing_over = True
                finally:
                    await node._close()
                    tasks.cancel()
                    with anyio.move_on_after(5, shield=True):
                        await node.sharing.flush()
        finally:
            if taken is not None:
                await let_go_with(taken.release)

    async def _close(self) -> None:
        """End what programs still ask, while all that it needs to tidy up is there."""
        self._closed = True
        for scope in tuple(self._calls):
            scope.cancel()
        with anyio.move_on_after(CALLS_SECONDS, shield=True):
            while self._calls:
                self._ended = anyio.Event()
                await self._ended.wait()

    @contextmanager
    def _while_open(self) -> Iterator[None]:
        """What a program asks ends when the node does, and says so. Raises NodeClosed."""
        if self._closed:
            raise NodeClosed
        with anyio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                yield
            except StackError as error:
                if self._closed:
                    raise NodeClosed from error
                raise
            finally:
                self._calls.discard(scope)
                self._ended.set()
        if scope.cancelled_caught:
            raise NodeClosed

    async def end_share(self, root: Cid, owner: str) -> bool:
        """An owner needs a share no longer; whether it has ended with that, and its announcement too. Raises StoreErrors."""
        ended = await self.sharing.end(root, owner)
        if ended and self.announces:
            await self.end_announcing(root)
        return ended

    async def end_announcing(self, root: Cid) -> bool:
        """Take an announcement back; False when there was none. What only tickets gave before is closed again. Raises Refused,
        StoreErrors."""
        await self.access.close(root)
        return await self.announcing.withdraw(root)

    def _accompanied(self) -> None:
        """What was put off with gossipsub and announcements; nothing when they begin as the node ends."""
        if self._closed:
            return
        self.tasks.start(self._forget_ended, owner="shares that have ended")
        self.tell_keys()

    async def _forget_ended(self) -> None:
        """Shares whose owners had gone before are announced no more. Where nothing can be taken back, a later node does it."""
        if self.announces or not self.config.announce:
            for root in self.sharing.ended:
                if self.announces:
                    await self.end_announcing(root)
                await self.jobs.remove_share(root)

        if self.announces and self.config.role in LISTENING_ROLES:
            announced = {item.root for item in self.announcing.items()}
            for root in self.access.announced():  # of a process that was killed between the two
                if root not in announced:
                    await self.access.close(root)

    def tell_keys(self) -> None:
        """Let those find this node who have a ticket of what it shares and seeds: others learn nothing from the keys. Of what was
        fetched and is for everybody, who knows its CID finds it: whoever it came from may be gone."""
        self._keys_changed.set()

    async def _keep_telling(self) -> None:
        """Each time goes through all shares: of many changes in a row the first is told at once, and the others together."""
        turn = Turn()
        while True:
            await self._keys_changed.wait()
            self._keys_changed = anyio.Event()
            turn.begin()
            if self.announces and self.config.serve and self.config.role in LISTENING_ROLES:
                whole, secrets = self.sharing.whole(), dict[Cid, list[bytes]]()
                for root in whole:
                    secrets[root] = self.access.secrets_of(root)
                    await turn.give_way()
                self.announcing.tell_keys(secrets, [root for root, is_seeded in whole.items() if is_seeded])
            await anyio.sleep(KEYS_PAUSE_SECONDS)

    @property
    def blocks(self) -> StoredBlocks:
        """Single blocks: `put`, `get`, `has`, `delete`; a block store to whoever wants one."""
        return StoredBlocks(self, self.store)

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self.host.peer_id

    @property
    def pubsub(self) -> "PubSub":
        """Topics: `subscribe`, `publish`, `topics`, `peers`, validators. Raises Refused where it is off."""
        if self._closed:
            raise NodeClosed
        if self._company.pubsub is None:
            raise Refused(
                "this node does not speak gossipsub: its setting `pubsub` is off, or it runs for one command only"
            )
        return self._company.pubsub

    @property
    def announces(self) -> bool:
        """Whether it takes part in the announcement layer."""
        return self._company.announcing is not None

    @property
    def announcing(self) -> "Announcing":
        """The announcement layer. Raises Refused where it is off."""
        if self._company.announcing is None:
            raise Refused(
                "this node takes no part in announcements: its setting `announce` or `pubsub` is off, or it runs for one command only"
            )
        return self._company.announcing

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others can dial this node, each with `/p2p/`."""
        return tuple(address.with_peer(str(self.peer_id)) for address in self.host.addresses())

    async def _accompany(self, request: object) -> None:
        from stack.node.handlers import ACCOMPANIED

        if type(request) in ACCOMPANIED:
            await self._company.begin()

    # --- Api: requests as values

    async def ask(self, request: Ask[A]) -> A:
        """One answer. Raises what the handler raises."""
        from stack.node.handlers import ASKS, handler

        with self._while_open():
            await self._accompany(request)
            return cast(A, await handler(ASKS, type(request))(self, request))
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def watch(self, request: Watch[A]) -> AsyncIterator[AsyncIterator[A]]:
        """Events; leaving the context ends the work."""
        from stack.node.handlers import WATCHES, handler

        with self._while_open():
            await self._accompany(request)
            async with handler(WATCHES, type(request))(self, request) as events:
                yield cast(AsyncIterator[A], events)

    @asynccontextmanager
    async def read(self, request: Read) -> AsyncIterator[AsyncIterator[bytes]]:
        """A byte stream."""
        from stack.node.handlers import READS, handler

        with self._while_open():
            async with handler(READS, type(request))(self, request) as pieces:
                yield pieces

    async def write(self, request: Write[A], data: AsyncIterator[bytes]) -> A:
        """Take a byte stream, give one answer."""
        from stack.node.handlers import WRITES, handler

        with self._while_open():
            await self._accompany(request)
            return cast(A, await handler(WRITES, type(request))(self, request, data))
        raise AssertionError("unreachable")

    # --- for programs, besides what `AnyNode` has

    @asynccontextmanager
    async def session(self, source: str | Cid, *, providers: Sequence[Multiaddr] = ()) -> AsyncIterator[LimitedSession]:
        """See `AnyNode.session`."""
        from stack.node.handlers.naming import sought

        with self._while_open():
            wanted = sought(self, str(source), providers)
            root, named = wanted.source.root, wanted.providers
            async with self._session(root, named, public=wanted.public, secret=wanted.secret) as (session, _):
                yield LimitedSession(session)

    async def put(self, blocks: Sequence[Block]) -> None:
        """Keep blocks and serve them to whoever waits for them. Raises LimitExceeded, BlockMismatch (nothing is kept then), NoSpace."""
        with self._while_open():
            for _, data in blocks:
                check_size(data)
            await self.store.put(blocks)
            self.exchange.blocks_added([cid for cid, _ in blocks], [len(data) for _, data in blocks])

    @asynccontextmanager
    async def patient_session(
        self,
        root: Cid,
        providers: Sequence[Provider] = (),
        timeout: float | None = None,
        *,
        public: bool = True,
        secret: bytes = b"",
    ) -> AsyncIterator[PatientSession]:
        """A session whose `get` gives up: see `PatientSession`. If it is `public` what is sought, others are asked for it at once,
        else by its key when the providers bring nothing. `secret` is that of a ticket; what comes belongs into the session's `store`."""
        async with self._session(root, providers, public=public, secret=secret) as (session, store):
            conclude = partial(self.fetcher.conclude, root, providers, secret)
            is_reached, last_dial = self.host.direct.is_reached, self.fetcher.dialled
            patient = PatientSession(session, root, timeout, store, is_reached, last_dial, conclude)
            self.reading.append(patient)
            try:
                yield patient
            finally:
                self.reading.remove(patient)

    @asynccontextmanager
    async def _session(
        self, root: Cid, providers: Sequence[Provider], *, public: bool, secret: bytes
    ) -> AsyncIterator[tuple[Session, BlockStore]]:
        from stack.files.fetch import HEAD_START_SECONDS

        enclosure = await self.access.for_fetch(root, secret)
        self.fetcher.begin(root)
        async with self.exchange.session(
            root,
            providers=providers,
            order=Order.FILE,
            broadcast=public,
            head_start=HEAD_START_SECONDS,
            seek=HEAD_START_SECONDS,
            enclosure=enclosure,
        ) as session:
            yield session, self.access.store(enclosure)

    def ticket(self, root: Cid, name: str, size: int) -> str:
        """The ticket of something that is here, with the addresses of now; of a node that does not listen, those of when it does."""
        from stack.node.listen import usual_addresses

        listens = self.config.role in LISTENING_ROLES
        addresses = self.host.addresses() if listens else usual_addresses(self.config)
        return encode_ticket(Ticket(root, name, size, self.peer_id, tuple(addresses), self.access.secret_of(root)))
