"""What programs do with blocks, pins, peers and values of a node, wherever it runs."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, overload

import anyio.to_thread

from stack.blocks.interfaces import BLOCK_SIZE_MAX, Block, BlockNotFound, BlockStore
from stack.dag.model import Value
from stack.errors import FetchError, LimitExceeded
from stack.files.sources import read_source
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import (
    AddPin,
    Api,
    BlockGet,
    BlockPut,
    Connect,
    DeleteBlocks,
    Disconnect,
    HasBlocks,
    ListPeers,
    ListPins,
    PeerInfo,
    Pin,
    RemovePin,
    Resolve,
)
from stack.node.settings import read_node
from stack.sansio.interfaces import Buffer


async def cid_of(api: Api, source: str) -> Cid:
    """The CID that a ticket or a CID with a path leads to. Raises as `Resolve`."""
    named = read_source(source)
    return (await api.ask(Resolve(source=source))).cid if named.path else named.root


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """Bytes as a stream of them."""
    yield data


class Blocks:
    """Single blocks of a node: at most 2 MiB each, known by their CIDs."""

    def __init__(self, api: Api) -> None:
        self._api = api

    @overload
    async def put(self, data: Buffer, *, codec: str = "raw", hash: str = "sha2-256") -> Cid: ...
    @overload
    async def put(self, data: Sequence[Block]) -> None: ...
    async def put(self, data: Buffer | Sequence[Block], *, codec: str = "raw", hash: str = "sha2-256") -> Cid | None:
        """Keep a block and serve it; returns its CID. Or keep many, pairs of a CID and its bytes.

        Raises LimitExceeded for a block over 2 MiB, BlockMismatch for bytes that are not the CID's, NoSpace, ConfigError for a name
        of a codec or a hash function that is unknown.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            check_size(data)
            return (await self._api.write(BlockPut(codec=codec, hash=hash), pieces(bytes(data)))).cid
        for cid, block in data:
            check_size(block)
            await self._api.write(BlockPut(cid=cid), pieces(block))
        return None

    async def get(self, cid: Cid, *, timeout: float | None = None, providers: Sequence[Multiaddr] = ()) -> bytes:
        """A block, from here or from peers, re-hashed. `providers` are asked too; each address ends in `/p2p/PEER`.

        Raises BlockNotFound when nothing has come for `timeout` seconds, without one for 30 seconds.
        """
        return await get_block(self._api, cid, timeout=timeout, providers=providers)

    @overload
    async def has(self, cids: Cid) -> bool: ...
    @overload
    async def has(self, cids: Sequence[Cid]) -> list[bool]: ...
    async def has(self, cids: Cid | Sequence[Cid]) -> bool | list[bool]:
        """Whether a block is here; nobody is asked for it. Of many, a list in their order."""
        here: tuple[bool, ...] = await self._api.ask(HasBlocks(cids=(cids,) if isinstance(cids, Cid) else tuple(cids)))
        return here[0] if isinstance(cids, Cid) else list(here)

    async def delete(self, cid: Cid) -> bool:
        """Forget a block; whether it was here. Raises Refused for a root that is pinned or shared."""
        return (await self._api.ask(DeleteBlocks(cids=(cid,)))).count > 0


class StoredBlocks(Blocks):
    """Those of a node in this process: what takes a store takes them too, and the rest of what a store does is the store's."""

    def __init__(self, api: Api, store: BlockStore) -> None:
        super().__init__(api)
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def check_size(data: Buffer) -> None:
    """Raises LimitExceeded for a block that no peer would take."""
    if len(data) > BLOCK_SIZE_MAX:
        raise LimitExceeded("bytes of a block", BLOCK_SIZE_MAX)


async def read_block(
    api: Api, cid: Cid, *, timeout: float | None, source: str = "", providers: Sequence[Multiaddr] = ()
) -> bytes:
    """The bytes of a block, sought as `BlockGet` says. Raises FetchErrors."""
    async with api.read(BlockGet(cid=cid, timeout=timeout, source=source, providers=tuple(providers))) as data:
        return b"".join([piece async for piece in data])


async def get_block(
    api: Api, cid: Cid, *, timeout: float | None, source: str = "", providers: Sequence[Multiaddr] = ()
) -> bytes:
    """The same for programs. Raises BlockNotFound."""
    try:
        return await read_block(api, cid, timeout=timeout, source=source, providers=providers)
    except FetchError as error:
        raise BlockNotFound(cid) from error


class Pins:
    """Roots that garbage collection keeps, with all that is below them."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def add(self, source: str | Cid, name: str = "", *, timeout: float | None = None) -> Cid:
        """Fetch what is missing below a CID, a `CID/path` or a ticket, then keep it; returns the root. Raises FetchErrors, NoSpace."""
        cid = await cid_of(self._api, str(source))
        await self._api.ask(AddPin(cid=cid, name=name, timeout=timeout, source=str(source)))
        return cid

    async def ls(self) -> tuple[Pin, ...]:
        """All pins: those of the user, and those of shares."""
        return await self._api.ask(ListPins())

    async def rm(self, cid: Cid) -> bool:
        """No longer keep a root; whether it was pinned."""
        return (await self._api.ask(RemovePin(cid=cid))).count > 0


class Peers:
    """The peers a node is connected to."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def ls(self) -> tuple[PeerInfo, ...]:
        """All connections."""
        return await self._api.ask(ListPeers())

    async def connect(self, address: Multiaddr | str) -> PeerId:
        """Be connected to the peer at this address, or `HOST:PORT`. Raises DialError, SecurityError, DecodeError."""
        answer = await self._api.ask(Connect(address=read_node(str(address))))
        return PeerId.parse(answer.peer_id)

    async def disconnect(self, peer: PeerId | str) -> bool:
        """Close the connection to a peer; whether there was one. Either side may connect again."""
        return (await self._api.ask(Disconnect(peer_id=str(peer)))).count > 0


class Dag:
    """Values of the IPLD data model in blocks: None, bool, int, float, str, bytes, Cid (a link), lists, dicts with keys of str."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._blocks = Blocks(api)

    async def put(self, value: Value, *, codec: str = "dag-cbor", hash: str = "sha2-256") -> Cid:
        """Keep a value as a block of `dag-cbor`, `dag-json` or `dag-pb`; returns its CID.

        Raises EncodeError for what the codec cannot say, and as `Blocks.put`.
        """
        from stack.dag.paths import encode  # here: a node that keeps no values need not load codecs

        data = await anyio.to_thread.run_sync(encode, codec, value)
        return await self._blocks.put(data, codec=codec, hash=hash)

    async def get(self, source: str | Cid, *, timeout: float | None = None) -> Value:
        """The value at a CID or at the end of `CID/path`, also with a ticket in place of the CID: keys of dicts, numbers of lists,
        names of links in dag-pb; links are followed. Of a codec without values, as raw, the bytes.

        Raises BlockNotFound as `Blocks.get`, LinkNotFound for a path that leads nowhere, DecodeError.
        """
        from stack.dag.paths import descend

        named = read_source(str(source))
        cid = named.root
        names: Sequence[str] = [name for name in named.path.split("/") if name]
        while True:
            block = await get_block(self._api, cid, timeout=timeout, source=named.ticket_text)
            value, left = await anyio.to_thread.run_sync(descend, cid, block, names)
            if not names or not isinstance(value, Cid):
                return value
            cid, names = value, left
