"""The announcement layer as part of a node: what it keeps in the home and in the store, and the directory of public names."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from stack.announce.keyspace import KEY_BYTES, announce_key, ticket_key
from stack.announce.own import LIST_KEYS_MAX, Announcement, check_name
from stack.announce.params import AnnounceParams
from stack.announce.shell.driver import LIST_SECONDS
from stack.announce.shell.service import Announcements
from stack.bitswap.interfaces import Provider, Session
from stack.bitswap.shell.service import Bitswap
from stack.blocks.disk import read_regular, write_whole
from stack.blocks.interfaces import Block, BlockStore, PinKind
from stack.dag import dag_pb
from stack.dag.unixfs.directory import Entry, build_directory
from stack.dag.unixfs.options import profile
from stack.errors import CorruptStore, DecodeError, Refused, StackError
from stack.files.nodes import take_apart
from stack.files.storage import hold, pins
from stack.gossipsub.shell.service import PubSub
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.multiformats.multicodec import DAG_PB
from stack.net.interfaces import Host
from stack.node.config import Config
from stack.node.discover import has_peers
from stack.streams.patience import patient
from stack.streams.signs import Signs

ANNOUNCEMENTS_FILE = "announcements"
MEMBER_ROLES = frozenset({"daemon", "share", "library"})
"""Those stay; others are soon over, and keep nothing for anybody."""
ASKING_ROLES = frozenset({"find", "providers", "read"})
"""Those serve nobody: what the home announces would lead nowhere."""
LONELY_SECONDS = 1.0
"""Who has nobody to dial meets neighbours at once, or nobody: then it need not wait longer before it answers for itself."""
LIST_STILL_SECONDS = 10.0
"""For the first bytes of a list of further keys, dial included, and for some more again and again: others wait for the place."""
PIN_LISTS = "/announce/keys"
PIN_NAMES = "/announce/names"
"""Names of pins; what is shared has no slash in its name."""


class AnnouncementFile:
    """Implements `AnnouncementStore` in the home."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> bytes | None:
        """See AnnouncementStore. Raises OSError."""
        try:
            return read_regular(self._path)
        except FileNotFoundError:
            return None

    def save(self, data: bytes) -> None:
        """See AnnouncementStore."""
        write_whole(self._path, data)


class BlockLists:
    """Implements `KeyLists`: ours are in the store, those of others are fetched and not kept."""

    def __init__(self, blocks: BlockStore, exchange: Bitswap) -> None:
        self._blocks = blocks
        self._exchange = exchange

    async def put(self, cid: Cid, data: bytes) -> None:
        """See KeyLists. Raises StoreErrors."""
        keeper = pins(self._blocks)
        with hold(self._blocks):
            await self._blocks.put([(cid, data)])
            if keeper is not None:
                await keeper.add_pin(cid, PIN_LISTS, kind=PinKind.SHARE)
        self._exchange.blocks_added([cid], [len(data)])

    async def retain(self, cids: frozenset[Cid]) -> None:
        """See KeyLists. Raises StoreErrors."""
        keeper = pins(self._blocks)
        if keeper is None:
            return
        for pinned, name in await keeper.pins(kind=PinKind.SHARE):
            if name == PIN_LISTS and pinned not in cids:
                await keeper.remove_pin(pinned, kind=PinKind.SHARE)

    async def get(self, cid: Cid, author: PeerId, addresses: tuple[Multiaddr, ...]) -> bytes | None:
        """See KeyLists."""
        came: list[bytes] = []
        provider = Provider(author, addresses, "announced")
        try:
            async with (
                self._exchange.session(cid, providers=[provider]) as session,
                patient(_Coming(session), LIST_STILL_SECONDS, LIST_SECONDS),
            ):
                await session.fetch([cid], lambda _, data: came.append(bytes(data)))
        except TimeoutError:
            return None
        return came[0] if len(came[0]) <= LIST_KEYS_MAX * KEY_BYTES else None


class _Coming:
    """How much of what a session wants has come, for `patient`: who sends the same beginning again and again sends nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._most = 0

    @property
    def signs(self) -> Signs:
        self._most = max(self._most, sum(report.bytes + report.arriving for report in self._session.reports()))
        return Signs(heard_at=0.0, heard=self._most)


class Announcing:
    """What a node announces. Getters: `items`. Commands: `announce`, `withdraw`, `tell_keys`."""

    def __init__(self, layer: Announcements, blocks: BlockStore, exchange: Bitswap) -> None:
        self.layer = layer
        self._blocks = blocks
        self._exchange = exchange
        self._lock = anyio.Lock()
        self._ticket_keys: dict[tuple[bytes, bytes], bytes] = {}
        """Those told last, by secret and multihash."""

    def items(self) -> list[Announcement]:
        """What is announced, but for the directory of public names."""
        return [item for item in self.layer.mine() if item.root != self.layer.directory]

    def check(self, public_name: str | None) -> None:
        """Raises LocalProtocolError when this is no public name."""
        if public_name is not None:
            check_name(public_name)

    async def announce(self, root: Cid, public_name: str | None, size: int) -> None:
        """Tell who knows `root` that it is here; with a name, anybody. Raises LocalProtocolError, StoreErrors."""
        self.check(public_name)
        async with self._lock:
            others = [item for item in self.items() if item.root != root]
            directory = await self._directory([*others, Announcement(root=root, name=public_name, size=size)])
            # In one step: the first record that goes out has all.
            self.layer.announce(root, public_name=public_name, size=size)
            await self._set_directory(directory)

    async def withdraw(self, root: Cid) -> bool:
        """Take it back; False when it was not announced. Raises StoreErrors."""
        async with self._lock:
            mine = self.items()
            if not any(item.root == root for item in mine):
                return False
            directory = await self._directory([item for item in mine if item.root != root])
            self.layer.withdraw(root)
            await self._set_directory(directory)
            return True

    def tell_keys(self, shared: Mapping[Cid, Sequence[bytes]], seeded: Collection[Cid]) -> None:
        """What is shared now, with the secrets of its tickets: who has one of them finds this node. What is `seeded` and has none is
        found by who knows its CID. In place of what was told before."""
        known = self._ticket_keys
        tickets = [(secret, root.multihash) for root, secrets in shared.items() for secret in secrets]
        self._ticket_keys = {ticket: known.get(ticket) or ticket_key(*ticket) for ticket in tickets}
        self.layer.keep(
            [*self._ticket_keys.values(), *(announce_key(root.multihash) for root in seeded if not shared[root])]
        )

    async def _set_directory(self, directory: Cid | None) -> None:
        """It is announced like a file, so that its CID is enough for browsing it."""
        if self.layer.directory not in (None, directory):
            self.layer.withdraw(self.layer.directory)
        self.layer.set_directory(directory)
        if directory is not None:
            self.layer.announce(directory)
        keeper = pins(self._blocks)
        if keeper is not None:
            for pinned, name in await keeper.pins(kind=PinKind.SHARE):
                if name == PIN_NAMES and pinned != directory:
                    await keeper.remove_pin(pinned, kind=PinKind.SHARE)

    async def _directory(self, items: Sequence[Announcement]) -> Cid | None:
        """Put a directory of all public names into the store, pinned; None without any."""
        entries: dict[str, Entry] = {}
        for item in items:
            if item.name is not None:
                name, number = item.name, 1
                while name in entries:
                    number += 1
                    name = f"{item.name} ({number})"
                entries[name] = Entry(name, item.root, await self._dag_size(item))
        if not entries:
            return None
        blocks: list[Block] = []
        builder = build_directory(profile(), entries.values())
        while True:
            try:
                blocks.append(next(builder))
            except StopIteration as stop:
                root: Cid = stop.value.cid
                break
        keeper = pins(self._blocks)
        with hold(self._blocks):
            await self._blocks.put(blocks)
            if keeper is not None:
                await keeper.add_pin(root, PIN_NAMES, kind=PinKind.SHARE)
        self._exchange.blocks_added([cid for cid, _ in blocks], [len(data) for _, data in blocks])
        return root

    async def _dag_size(self, item: Announcement) -> int:
        """Bytes of all blocks below; where the root is not here, of the content."""
        if item.root.codec != DAG_PB:
            return item.size
        try:
            block = await self._blocks.get(item.root)
            return len(block) + await take_apart(len(block), _sizes_below, block)
        except StackError:
            return item.size  # it is not here, or no directory or file: somebody announces what others keep


def _sizes_below(block: bytes) -> int:
    return sum(link.size or 0 for link in dag_pb.decode(block).links)


@asynccontextmanager
async def announcing(
    host: Host, pubsub: PubSub, key: PrivateKey, blocks: BlockStore, exchange: Bitswap, config: Config
) -> AsyncIterator[Announcing]:
    """Take part in the announcement layer while the context lasts. Raises CorruptStore, Refused."""
    home, role = config.home, config.role
    file = home / ANNOUNCEMENTS_FILE if home is not None and role not in ASKING_ROLES else None
    knows_somebody = bool(config.bootstrap) or (
        config.remember_peers and home is not None and await anyio.to_thread.run_sync(has_peers, home)
    )
    opened = Announcements.open(
        host,
        pubsub,
        key,
        store=AnnouncementFile(file) if file is not None else None,
        lists=BlockLists(blocks, exchange),
        is_member=role in MEMBER_ROLES,
        params=None if knows_somebody else AnnounceParams(lonely=LONELY_SECONDS),
    )
    async with AsyncExitStack() as stack:
        try:
            layer = await stack.enter_async_context(opened)
        except DecodeError as error:
            raise CorruptStore(f"{file} is damaged: move it away, and announce again what you share") from error
        except OSError as error:
            raise Refused(f"{file} cannot be read: {error.strerror}") from error
        yield Announcing(layer, blocks, exchange)
