"""The node: the same object answers commands (`Api`) and programs (the methods with plain names).

What a node is made of is loaded by `Node.open`, what answers requests by the first of them: importing `Node` costs a program little.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import anyio.to_thread

from stack.announce.interfaces import FoundName, KnownProvider
from stack.bitswap.interfaces import Order, Provider, Session
from stack.blocks.interfaces import Block, BlockStore
from stack.errors import Refused
from stack.files.aside import Aside
from stack.files.events import FetchEvent, FetchFinished
from stack.files.ticket import Ticket, encode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    Add,
    Added,
    Ask,
    Cat,
    Fetch,
    FindNames,
    FindProviders,
    ImportFlags,
    Read,
    Share,
    Shared,
    Watch,
    Write,
)
from stack.node.config import Config
from stack.node.home import Home
from stack.node.interfaces import RunningFetch
from stack.node.patience import PatientSession
from stack.node.roles import LISTENING_ROLES
from stack.streams.supervision import Supervisor, supervised
from stack.trace import TraceFan

if TYPE_CHECKING:
    from stack.gossipsub.shell.service import PubSub
    from stack.node.announcing import Announcing
    from stack.node.build import ControlSocket, Parts

A = TypeVar("A")


class Node:
    """A running node. Made by `Node.open`, a context; leaving it stops everything.

    For programs: `add`, `share`, `get`, `fetch`, `cat`, `announce`, `withdraw`, `find`, `providers`, `session`, `pubsub`, `blocks`,
    `host`. For commands: `ask`, `watch`, `read`, `write`.
    """

    def __init__(self, config: Config, parts: "Parts", tasks: Supervisor) -> None:
        self.config = config
        self.host = parts.host
        self.blocks: BlockStore = parts.blocks
        self.exchange = parts.exchange
        self.jobs = parts.jobs
        self.fetcher = parts.fetcher
        self.book = parts.book
        self.trace: TraceFan = parts.trace
        self.notices = parts.notices
        self._pubsub = parts.pubsub
        self._announcing = parts.announcing
        self.private = parts.private
        """The private network this node is in; None for the public one."""
        self.discovery = parts.discovery
        """How peers are found; None where nobody is looked for."""
        self.shares = parts.shares
        self.ask_name = parts.ask_name
        """What a connected peer calls a root; empty when it does not say, or does not know the secret, where there is one."""
        self.receivers = parts.receivers
        """Who asks about a root, and what part of it each says it has, 0 to 1."""
        self.access = parts.access
        """For whom it is what is shared and fetched."""
        self.traffic = parts.traffic
        self.tasks = tasks
        self.aside = Aside()
        self.running: dict[int, RunningFetch] = {}
        """Fetches of this process, by the number of their job."""
        self.control: ControlSocket | None = None
        """Where other commands of this home are served; None without a home."""

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
                raise Refused(
                    f"another process holds {config.home}: ask it over its control socket, or use another home"
                )
        try:
            async with build(config) as parts, supervised(parts.trace) as tasks:
                node = cls(config, parts, tasks)
                if taken is not None:
                    node.notices = (*taken.notices, *node.notices)
                node.shares.ending = node.end_share
                await node._forget_ended()
                node.shares.changed = node.tell_keys
                node.tell_keys()
                tasks.keep(node.shares.run, tasks, owner="counting what was sent")
                try:
                    if config.role == "daemon":
                        from stack.node.handlers.jobs import resume_detached

                        resume_detached(node, await node.jobs.jobs())
                    async with control_socket(node, home or taken) as node.control:
                        try:
                            yield node
                        finally:
                            node.shares.handing_over = True
                finally:
                    tasks.cancel()
                    with anyio.move_on_after(5, shield=True):
                        await node.shares.flush()
        finally:
            if taken is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(taken.release)

    async def end_share(self, root: Cid, owner: str) -> bool:
        """An owner needs a share no longer; whether it has ended with that, and its announcement too. Raises StoreErrors."""
        ended = await self.shares.end(root, owner)
        if ended and self.announces:
            await self.withdraw(root)
        return ended

    async def _forget_ended(self) -> None:
        """Shares whose owners had gone before are announced no more. Where nothing can be taken back, a later node does it."""
        if self.announces or not self.config.announce:
            for root in self.shares.ended:
                if self.announces:
                    await self.withdraw(root)
                await self.jobs.remove_share(root)

        if self.announces and self.config.role in LISTENING_ROLES:
            announced = {item.root for item in self.announcing.items()}
            for root in self.access.announced():  # of a process that was killed between the two
                if root not in announced:
                    await self.access.close(root)

    def tell_keys(self) -> None:
        """Let those find this node who have a ticket of what it shares and seeds: others learn nothing from the keys. Of what was
        fetched and is for everybody, who knows its CID finds it: whoever it came from may be gone."""
        if self.announces and self.config.serve and self.config.role in LISTENING_ROLES:
            whole = self.shares.whole()
            secrets = {root: self.access.secrets_of(root) for root in whole}
            self.announcing.tell_keys(secrets, [root for root, is_seeded in whole.items() if is_seeded])

    @property
    def peer_id(self) -> PeerId:
        """Who this node is."""
        return self.host.peer_id

    @property
    def pubsub(self) -> "PubSub":
        """Topics: `subscribe`, `publish`, `topics`, `peers`, validators. Raises Refused where it is off."""
        if self._pubsub is None:
            raise Refused(
                "this node does not speak gossipsub: its setting `pubsub` is off, or it runs for one command only"
            )
        return self._pubsub

    @property
    def announces(self) -> bool:
        """Whether it takes part in the announcement layer."""
        return self._announcing is not None

    @property
    def announcing(self) -> "Announcing":
        """The announcement layer. Raises Refused where it is off."""
        if self._announcing is None:
            raise Refused(
                "this node takes no part in announcements: its setting `announce` or `pubsub` is off, or it runs for one command only"
            )
        return self._announcing

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others can dial this node, each with `/p2p/`."""
        return tuple(address.with_peer(str(self.peer_id)) for address in self.host.addresses())

    # --- Api: requests as values

    async def ask(self, request: Ask[A]) -> A:
        """One answer. Raises what the handler raises."""
        from stack.node.handlers import ASKS

        return cast(A, await ASKS[type(request)](self, request))

    def watch(self, request: Watch[A]) -> AbstractAsyncContextManager[AsyncIterator[A]]:
        """Events; leaving the context ends the work."""
        from stack.node.handlers import WATCHES

        return cast(AbstractAsyncContextManager[AsyncIterator[A]], WATCHES[type(request)](self, request))

    def read(self, request: Read) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A byte stream."""
        from stack.node.handlers import READS

        return READS[type(request)](self, request)

    async def write(self, request: Write[A], data: AsyncIterator[bytes]) -> A:
        """Take a byte stream, give one answer."""
        from stack.node.handlers import WRITES

        return cast(A, await WRITES[type(request)](self, request, data))

    # --- for programs

    async def connect(self, address: Multiaddr | str) -> PeerId:
        """Be connected to the peer at this address. Raises DialError, SecurityError."""
        return await self.host.connect(None, [Multiaddr.parse(str(address))])

    async def add(self, *paths: Path | str, flags: ImportFlags | None = None, copy: bool = False) -> Cid:
        """Index files in place (or copy them into the store) and return the root's CID; `stack add`.

        Raises Refused, SourceChanged, NoSpace.
        """
        request = Add(paths=tuple(Path(path).absolute() for path in paths), flags=flags or ImportFlags(), copy=copy)
        async with self.watch(request) as events:
            async for event in events:
                if isinstance(event, Added):
                    return event.cid
        raise AssertionError("an import ends with Added or an error")

    async def share(
        self, *paths: Path | str, open: bool = False, announce: bool = False, public_name: str | None = None
    ) -> str:
        """Share files where they lie; returns the ticket. Only who has it can fetch them, unless they are `open`. With `announce`
        whoever knows the CID finds this node, with a public name everybody finds the CID; both imply `open`. Raises as `add`, and
        LocalProtocolError for a name without a word."""
        places = tuple(Path(path).absolute() for path in paths)
        async with self.watch(Share(paths=places, open=open, announce=announce, public_name=public_name)) as events:
            async for event in events:
                if isinstance(event, Shared):
                    return event.ticket
        raise AssertionError("a share ends with Shared or an error")

    @asynccontextmanager
    async def fetch(
        self,
        source: str | Cid,
        directory: Path | str = ".",
        *,
        out: Path | str | None = None,
        providers: Sequence[Multiaddr] = (),
        timeout: float | None = None,
    ) -> AsyncIterator[AsyncIterator[FetchEvent]]:
        """A fetch that tells of itself; leaving the context cancels it, and the same call resumes it.

        `source` is a ticket, a CID or `CID/path`. Raises FetchErrors, NoSpace, Refused, DecodeError.
        """
        here = Path(directory).absolute()
        request = Fetch(
            source=str(source),
            directory=here,
            target=here / out if out is not None else None,
            providers=tuple(providers),
            timeout=timeout,
        )
        async with self.watch(request) as events:
            yield events

    async def get(self, source: str | Cid, directory: Path | str = ".", *, providers: Sequence[Multiaddr] = ()) -> Path:
        """Fetch a file or tree to the end; returns where it is. Raises as `fetch`."""
        async with self.fetch(source, directory, providers=providers) as events:
            async for event in events:
                if isinstance(event, FetchFinished):
                    return event.target
        raise AssertionError("a fetch ends with FetchFinished or an error")

    async def cat(self, source: str | Cid, *, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file, each block checked. Raises FetchErrors, DecodeError."""
        async with self.read(Cat(source=str(source), offset=offset, length=length)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def announce(self, root: Cid, *, public_name: str | None = None, size: int = 0) -> None:
        """Let whoever knows `root` find this node; with a public name, let everybody find `root` by its words. `size` is told
        with the name, in bytes. What is shared is for everybody then. Holds until it is withdrawn, over restarts. Raises
        LocalProtocolError, Refused, StoreErrors."""
        await self.access.open(root)
        await self.announcing.announce(root, public_name, size)

    async def withdraw(self, root: Cid) -> bool:
        """Take an announcement back; False when there was none. What only tickets gave before is closed again. Raises Refused,
        StoreErrors."""
        await self.access.close(root)
        return await self.announcing.withdraw(root)

    def find(self, words: str, *, timeout: float = 10.0) -> AbstractAsyncContextManager[AsyncIterator[FoundName]]:
        """What has all these words in its public name: hostile text like any other. Over when those have answered who keep
        the words, or after `timeout` seconds. Raises LocalProtocolError without a word, Refused."""
        return self.watch(FindNames(words=words, timeout=timeout))

    def providers(
        self, root: Cid, *, timeout: float = 10.0
    ) -> AbstractAsyncContextManager[AsyncIterator[KnownProvider]]:
        """Who announces that it has `root`; over as `find` is. Raises Refused."""
        return self.watch(FindProviders(cid=root, timeout=timeout))

    def session(
        self, root: Cid, *, providers: Sequence[Provider] = (), order: Order = Order.FILE
    ) -> AbstractAsyncContextManager[Session]:
        """The block exchange by itself, for the DAG below a root."""
        return self.exchange.session(root, providers=providers, order=order, broadcast=True)

    async def put(self, blocks: Sequence[Block]) -> None:
        """Keep blocks and serve them to whoever waits for them. Raises NoSpace, BlockMismatch."""
        await self.blocks.put(blocks)
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
        from stack.files.fetch import HEAD_START_SECONDS

        enclosure = await self.access.for_fetch(root, secret)
        async with self.exchange.session(
            root,
            providers=providers,
            order=Order.FILE,
            broadcast=public,
            head_start=HEAD_START_SECONDS,
            seek=HEAD_START_SECONDS,
            enclosure=enclosure,
        ) as session:
            yield PatientSession(session, timeout, self.access.store(enclosure))

    def ticket(self, root: Cid, name: str, size: int) -> str:
        """The ticket of something that is here, with the addresses of now; of a node that does not listen, those of when it does."""
        from stack.node.listen import usual_addresses

        listens = self.config.role in LISTENING_ROLES
        addresses = self.host.addresses() if listens else usual_addresses(self.config)
        return encode_ticket(Ticket(root, name, size, self.peer_id, tuple(addresses), self.access.secret_of(root)))
