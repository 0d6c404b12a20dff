"""Who knows the CID and not the ticket cannot tell a share from nothing, whatever it asks, of who shares and of who re-seeds; who
carries it hears nothing of it (issue 9, must show 3). The ways of bitswap are in `test_access.py`."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path

import anyio
import pytest

from stack import Cid, Config, Node
from stack.announce.keyspace import announce_key, ticket_key, word_key
from stack.announce.messages import PROTOCOL as ANNOUNCE
from stack.announce.messages import Kind, Request, encode_request
from stack.bitswap.messages import PROTOCOL_1_2, OutgoingMessage, encode_message
from stack.files.ticket import Ticket, decode_ticket
from stack.multiformats.multibase import encode as multibase
from stack.node.api import Fetch
from stack.protocols.access.exchange import NONCE_BYTES, PROOF_BYTES
from stack.protocols.access.exchange import PROTOCOL as ACCESS
from stack.protocols.access.keyring import access_key
from stack.protocols.providers.messages import PROTOCOL as PROVIDERS
from stack.protocols.providers.messages import Update, encode_update
from stack.sansio.delimited import encode_delimited
from stack.security.noise.frames import NoiseSession
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
NAME = "a very secret plan.txt"
SECONDS = 30.0

WHO: ContextVar[str] = ContextVar("WHO", default="")
"""Whose task this is: the tasks of a node inherit what stood here when it was opened."""


@asynccontextmanager
async def node_of(name: str, tmp_path: Path, role: str, *known: Node) -> AsyncIterator[Node]:
    """A node with a home, whose bootstrap peers are `known`."""
    token = WHO.set(name)
    bootstrap = tuple(str(node.addresses()[0]) for node in known)
    config = Config(home=tmp_path / name, listen=LOOPBACK, role=role, mdns=False, bootstrap=bootstrap)
    async with Node.open(config) as node:
        WHO.reset(token)
        yield node


def plan(tmp_path: Path) -> Path:
    """Zeros, something said twice, something of its own."""
    path = tmp_path / NAME
    path.write_bytes(bytes(600_000) + b"meet at noon" * 2 + os.urandom(300_000))
    return path


async def seed(node: Node, ticket: str, place: Path) -> None:
    """`stack get --seed`."""
    async with node.watch(Fetch(source=ticket, directory=place, seed=True)) as events:
        async for _ in events:
            pass


class Stranger:
    """A peer that asks one node in every way there is but for bitswap, and all that it is told."""

    def __init__(self, node: Node, of: Node) -> None:
        self._node = node
        self._of = of.peer_id

    async def _ask(self, protocol: str, question: bytes, size: int = 0) -> bytes:
        """What is answered: all that comes, or the first `size` bytes."""
        came = bytearray()
        stream = await self._node.host.open_stream(self._of, protocol)
        try:
            await stream.send(question)
            while not size or len(came) < size:
                came += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            came += b" and the end"
        finally:
            stream.reset()
        return bytes(came)

    async def ask(self, root: Cid, name: str, secret: bytes) -> dict[str, object]:
        """All answers about one share, of which it knows everything but the secret: it has guessed that."""
        told: dict[str, object] = {}
        told["providers"] = await self._ask(
            PROVIDERS, encode_delimited(encode_update(Update(key=announce_key(root.multihash))))
        )
        # Proofs look random: all there is to compare is how much is said, and then nothing more.
        proof = bytes(NONCE_BYTES) + access_key(secret, self._of) + bytes(PROOF_BYTES)
        told["access"] = len(await self._ask(ACCESS, proof))
        for key in (announce_key(root.multihash), ticket_key(secret, root.multihash)):
            request = Request(kind=Kind.FIND, key=key)
            told[f"find {len(told)}"] = await self._ask(ANNOUNCE, encode_delimited(encode_request(request)))
        words = tuple(name.removesuffix(".txt").split())
        request = Request(kind=Kind.SEARCH, key=word_key(max(words, key=len)), words=words)
        told["search"] = await self._ask(ANNOUNCE, encode_delimited(encode_request(request)))
        return told

    async def push(self, cid: Cid, block: bytes) -> None:
        """Send a block that nobody asked for, as if it had been asked for."""
        stream = await self._node.host.open_stream(self._of, PROTOCOL_1_2)
        await stream.send_buffers(*encode_message(OutgoingMessage(blocks=[(cid, block)]), protocol=PROTOCOL_1_2))
        await stream.send_eof()
        with anyio.fail_after(SECONDS), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            while True:
                await stream.receive()


@pytest.mark.parametrize("who", ["alice", "bob"], ids=["sharer", "re-seeder"])
async def test_no_protocol_tells_a_closed_share_from_nothing(tmp_path: Path, who: str) -> None:
    async with node_of("bob", tmp_path, "daemon") as bob, node_of("alice", tmp_path, "daemon") as alice:
        ticket = decode_ticket(text := await alice.share(plan(tmp_path)))
        await seed(bob, text, tmp_path / "bob's")
        asked = alice if who == "alice" else bob
        block = b"somebody else's"
        async with Node.open(Config(listen=LOOPBACK, mdns=False)) as mallory:
            await mallory.connect(asked.addresses()[0])
            await settled(lambda: mallory.host.protocols(asked.peer_id) is not None)
            stranger = Stranger(mallory, asked)
            nothing = await stranger.ask(Cid.of(block), "some quite public plan.txt", b"n" * 16)
            assert await stranger.ask(ticket.root, NAME, b"g" * 16) == nothing
            node = await asked.store.get(ticket.root)
            for cid, data in ((ticket.root, node), (Cid.of(block), block)):
                await stranger.push(cid, data)
            assert await stranger.ask(ticket.root, NAME, b"g" * 16) == nothing
            assert mallory.host.is_connected(asked.peer_id)
        assert not await asked.access.is_open(ticket.root)  # nor does a block that comes from elsewhere open it
        assert [cid async for cid in asked.store.cids() if cid.multihash == Cid.of(block).multihash] == []


def forms(ticket: Ticket) -> dict[str, tuple[bytes, ...]]:
    """Everything by which a share could be known."""
    root, spellings = ticket.root, ("base32", "base36", "base58btc", "base64url", "base16")
    texts = tuple(multibase(base, bytes(root)).encode() for base in spellings)
    blocks = (root.digest, b"meet at noon" * 2)
    return {
        "cid": (*texts, *blocks),
        "name": (NAME.encode(), b"secret plan"),
        "secret": (ticket.secret, ticket.secret.hex().encode()),
    }


@contextmanager
def overheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytearray]]:
    """What each node is told on all its connections, after decryption."""
    told: dict[str, bytearray] = {}
    opened = NoiseSession.open

    def open_and_keep(self: NoiseSession, data: memoryview) -> tuple[int, memoryview] | None:
        frame = opened(self, data)
        if frame is not None:
            told.setdefault(WHO.get(), bytearray()).extend(frame[1])
        return frame

    with monkeypatch.context() as patched:
        patched.setattr(NoiseSession, "open", open_and_keep)
        yield told


async def test_who_introduces_receivers_hears_neither_cid_nor_name_nor_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alice shares, Bob re-seeds, Alice leaves, Dave finds Bob: all of it through a peer that has nothing to do with it. The secret is
    never said to anybody."""
    with overheard(monkeypatch) as told:
        async with node_of("common", tmp_path, "daemon") as common, node_of("bob", tmp_path, "daemon", common) as bob:
            async with node_of("alice", tmp_path, "share", common) as alice:
                text = await alice.share(plan(tmp_path))
                await seed(bob, text, tmp_path / "bob's")
            await settled(lambda: bob.announcing.layer.waiting == 0)
            async with node_of("dave", tmp_path, "get", common) as dave:
                with anyio.fail_after(SECONDS):
                    got = await dave.get(text, tmp_path / "dave's")
        assert got.read_bytes() == (tmp_path / NAME).read_bytes()
    ticket = decode_ticket(text)
    heard = {
        who: {what for what, each in forms(ticket).items() if any(form in data for form in each)}
        for who, data in told.items()
    }
    assert len(told["common"]) > 1000 and ticket_key(ticket.secret, ticket.root.multihash) in told["common"]
    assert heard["common"] == set()
    assert "cid" in heard["bob"]  # it was looked for in the right way
    assert not any("secret" in each for each in heard.values())
