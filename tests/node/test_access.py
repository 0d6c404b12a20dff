"""What is shared with a ticket is given to who has it, and to who has not it is not there; asyncio and trio (issue 9, must show 3)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import anyio
import pytest

from stack import Config, Node
from stack.bitswap.messages import PROTOCOL_1_2, PROTOCOLS, OutgoingMessage, Want, WantKind, encode_message
from stack.errors import FetchError, Refused
from stack.files.ticket import SECRET_SIZE, decode_ticket, encode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node.api import BlockPut, Fetch, ImportFlags, RemoveShare, Share, Shared
from stack.protocols.access.exchange import PROTOCOL as ACCESS
from stack.protocols.providers.interfaces import announce_key
from stack.protocols.providers.messages import PROTOCOL as PROVIDERS
from stack.protocols.providers.messages import Update, encode_update
from stack.sansio.delimited import DelimitedReader, encode_delimited
from stack.streams.interfaces import Stream
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

MEMORY = ("/memory/0",)


def config(tmp_path: Path, name: str) -> Config:
    home = tmp_path / f"home of {name}"
    home.mkdir(exist_ok=True)
    return Config(home=home, listen=MEMORY)


@pytest.fixture(params=["disk", "memory"])
def alice_config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    return config(tmp_path, "alice") if request.param == "disk" else Config(listen=MEMORY)


def tree(tmp_path: Path) -> Path:
    """Names, equal files, zeros, an empty file, a file of several leaves."""
    top = tmp_path / "a secret plan"
    (top / "below").mkdir(parents=True)
    (top / "plan.txt").write_bytes(b"meet at noon")
    (top / "below" / "copy.txt").write_bytes(b"meet at noon")
    (top / "empty").write_bytes(b"")
    (top / "zeros").write_bytes(bytes(3_000_000))
    (top / "film").write_bytes(os.urandom(2_500_000))
    return top


async def cids_below(node: Node) -> list[Cid]:
    return [cid async for cid in node.store.cids()]


class Asker:
    """A peer that speaks one version of bitswap by hand, and all bytes that it is sent on each stream."""

    def __init__(self, node: Node, protocol: str, stream: Stream) -> None:
        self.protocol = protocol
        self.stream = stream
        self.heard: list[bytearray] = []
        node.host.handle(protocol, self._listen)

    @classmethod
    async def at(cls, node: Node, peer: PeerId, protocol: str) -> "Asker":
        """A new connection on which nothing else is spoken."""
        for other in PROTOCOLS:
            node.host.unhandle(other)
        await node.host.disconnect(peer)
        await node.host.connect(peer)
        return cls(node, protocol, await node.host.open_stream(peer, protocol))

    async def _listen(self, stream: Stream) -> None:
        came = bytearray()
        self.heard.append(came)
        try:
            while True:
                came += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def _send(self, message: OutgoingMessage) -> None:
        await self.stream.send_buffers(*encode_message(message, protocol=self.protocol))

    async def ask(self, wants: list[Want], fence: Cid, *, full: bool) -> list[bytes]:
        """All that comes, until what is asked for last has come."""
        for came in self.heard:
            came.clear()
        await self._send(OutgoingMessage(wants=wants, full=full))
        await settled(lambda: any(came.endswith(bytes(4000)) for came in self.heard))
        if (
            self.protocol == PROTOCOL_1_2
        ):  # what is said without blocks goes on a stream of its own, in the order of the look-ups
            await self._send(OutgoingMessage(wants=[Want(fence, WantKind.HAVE)]))
            await settled(lambda: any(came.endswith(bytes(fence)) for came in self.heard))
        await self._send(OutgoingMessage(full=True))
        return sorted(filter(None, (_said(bytes(came)) for came in self.heard)))


def _said(came: bytes) -> bytes:
    """What the messages of a stream say, one after the other: how much is in one of them is a matter of moments."""
    reader = DelimitedReader(1 << 22)
    reader.receive_data(came)
    said = b""
    while (message := reader.next_message()) is not None:
        said += message.removeprefix(b"\x0a\x00").removeprefix(b"\x0a\x02\x10\x01")  # an empty wantlist, whole at first
    return said


@asynccontextmanager
async def alice_and_mallory(alice_config: Config) -> AsyncIterator[tuple[Node, Node]]:
    async with Node.open(alice_config) as alice, Node.open(Config(listen=MEMORY)) as mallory:
        await mallory.connect(alice.addresses()[0])
        yield alice, mallory


async def fence_at(alice: Node) -> Cid:
    """A block for everybody, large enough that HAVE answers for it."""

    async def data() -> AsyncIterator[bytes]:
        yield b"the fence" + bytes(5000)

    return (await alice.write(BlockPut(), data())).cid


async def test_who_knows_every_cid_cannot_tell_a_closed_share_from_nothing_in_any_way_of_bitswap(
    tmp_path: Path, alice_config: Config
) -> None:
    path = tree(tmp_path)
    async with alice_and_mallory(alice_config) as (alice, mallory):
        root = decode_ticket(await alice.share(path)).root
        leaf = Cid.of(b"meet at noon")
        others = [cid for cid in await cids_below(alice) if cid.multihash not in (root.multihash, leaf.multihash)]
        closed = [root, leaf, others[0]]
        fence = await fence_at(alice)
        for protocol in PROTOCOLS:
            asker = await Asker.at(mallory, alice.peer_id, protocol)
            await asker.ask([Want(fence)], fence, full=False)  # the first words on a stream are others
            for kind, dont_have, full, cid in product(WantKind, (False, True), (False, True), closed):
                unknown = Cid.of(b"nobody has this" + bytes(cid), codec=cid.codec, version=cid.version)
                answers = []
                for asked in (cid, unknown):
                    wants = [Want(asked, kind, send_dont_have=dont_have), Want(fence)]
                    answer = await asker.ask(wants, fence, full=full)
                    answers.append([part.replace(bytes(asked), b"the cid that was asked") for part in answer])
                assert answers[0] == answers[1], (protocol, kind, dont_have, full)
                assert len(answers[0]) == (2 if protocol == PROTOCOL_1_2 else 1)
                is_told = any(b"that was asked" in part for part in answers[0])
                assert is_told is (protocol == PROTOCOL_1_2 and dont_have)


async def test_a_closed_root_has_no_providers_for_who_has_not_proved(tmp_path: Path, alice_config: Config) -> None:
    async with alice_and_mallory(alice_config) as (alice, mallory):
        ticket = decode_ticket(await alice.share(tree(tmp_path)))

        async def ask(root: Cid) -> bytes:
            stream = await mallory.host.open_stream(alice.peer_id, PROVIDERS)
            await stream.send(encode_delimited(encode_update(Update(key=announce_key(root.multihash)))))
            return await stream.receive()

        nothing = await ask(Cid.of(b"nobody has this"))
        assert await ask(ticket.root) == nothing
        async with alice.exchange.session(ticket.root):  # nor when somebody here is just fetching it
            assert await ask(ticket.root) == nothing
        assert await mallory.host.open_stream(alice.peer_id, ACCESS)  # spoken by everybody, whatever is shared


async def test_with_the_ticket_everything_comes(tmp_path: Path, alice_config: Config) -> None:
    path = tree(tmp_path)
    async with Node.open(alice_config) as alice, Node.open(config(tmp_path, "bob")) as bob:
        ticket = await alice.share(path)
        assert len(decode_ticket(ticket).secret) == SECRET_SIZE
        got = await bob.get(ticket, tmp_path / "bob")
        assert (got / "film").read_bytes() == (path / "film").read_bytes()
        assert (got / "below" / "copy.txt").read_bytes() == b"meet at noon"
        assert (got / "zeros").stat().st_size == 3_000_000
        assert await bob.cat(encode_ticket(replace(decode_ticket(ticket), root=await alice.add(path / "plan.txt"))))


async def no_ticket(node: Node, source: str, place: Path, provider: Node) -> None:
    """The fetch brings nothing."""
    request = Fetch(source=source, directory=place, providers=provider.addresses(), timeout=0.3)
    with pytest.raises(FetchError):
        async with node.watch(request) as events:
            async for _ in events:
                pass


async def test_a_cid_or_a_wrong_secret_bring_nothing(tmp_path: Path, alice_config: Config) -> None:
    async with alice_and_mallory(alice_config) as (alice, mallory):
        ticket = decode_ticket(await alice.share(tree(tmp_path)))
        await no_ticket(mallory, str(ticket.root), tmp_path / "mallory", alice)
        wrong = encode_ticket(replace(ticket, secret=bytes(SECRET_SIZE)))
        await no_ticket(mallory, wrong, tmp_path / "mallory", alice)
        none = encode_ticket(replace(ticket, secret=b""))
        await no_ticket(mallory, none, tmp_path / "mallory", alice)
        assert await cids_below(mallory) == []


async def test_who_asked_before_it_proved_is_answered_when_it_has(tmp_path: Path, alice_config: Config) -> None:
    async with alice_and_mallory(alice_config) as (alice, mallory):
        ticket = await alice.share(tree(tmp_path))
        root = decode_ticket(ticket).root
        got: list[Path] = []

        async def early() -> None:
            async with mallory.exchange.session(root) as session:
                session.machine.add_peer(alice.peer_id)
                assert await session.get(root)
                got.append(tmp_path)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(early)
            await settled(lambda: alice.exchange.engine.wants == 1)
            assert not got
            with anyio.fail_after(10):
                await mallory.get(ticket, tmp_path / "mallory")
        assert got


async def test_who_seeds_it_asks_the_same_of_others(tmp_path: Path, alice_config: Config) -> None:
    async with (
        Node.open(config(tmp_path, "bob")) as bob,
        Node.open(Config(listen=MEMORY)) as mallory,
        Node.open(config(tmp_path, "dave")) as dave,
    ):
        async with Node.open(alice_config) as alice:
            ticket = await alice.share(tree(tmp_path))
            await bob.get(ticket, tmp_path / "bob")
        root = decode_ticket(ticket).root
        await mallory.connect(bob.addresses()[0])
        closed = await cids_below(bob)
        assert len(closed) > 5
        sizes = await bob.store.sizes_for(closed, frozenset())  # type: ignore[attr-defined] # both stores know realms
        assert set(sizes) == {None}
        await no_ticket(mallory, str(root), tmp_path / "mallory", bob)
        from_bob = encode_ticket(
            replace(decode_ticket(ticket), peer=bob.peer_id, addresses=tuple(bob.host.addresses()))
        )
        assert (await dave.get(from_bob, tmp_path / "dave") / "below" / "copy.txt").read_bytes() == b"meet at noon"


async def test_receivers_help_each_other(tmp_path: Path) -> None:
    """They prove to each other what they proved to who shares it."""
    path = tree(tmp_path)
    async with Node.open(config(tmp_path, "alice")) as alice, Node.open(config(tmp_path, "bob")) as bob:
        async with Node.open(config(tmp_path, "carol")) as carol:
            ticket = await alice.share(path)
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(bob.get, ticket, tmp_path / "bob")
                    tasks.start_soon(carol.get, ticket, tmp_path / "carol")
        assert (tmp_path / "bob" / path.name / "film").read_bytes() == (path / "film").read_bytes()
        assert (tmp_path / "carol" / path.name / "film").read_bytes() == (path / "film").read_bytes()


async def test_open_announced_added_and_old_content_is_for_everybody(tmp_path: Path, alice_config: Config) -> None:
    async with alice_and_mallory(alice_config) as (alice, mallory):
        for number, share in enumerate(("open", "announce", "add")):
            path = tmp_path / f"{share}.bin"
            path.write_bytes(os.urandom(700_000))
            if share == "add":
                root = await alice.add(path)
            else:
                ticket = decode_ticket(await alice.share(path, open=share == "open", announce=share == "announce"))
                assert ticket.secret == b""
                root = ticket.root
            place = tmp_path / f"got {number}"
            got = await mallory.get(str(root), place, providers=alice.addresses())
            assert got.read_bytes() == path.read_bytes()


async def test_what_lies_in_an_open_and_a_closed_place_is_open(tmp_path: Path, alice_config: Config) -> None:
    data = os.urandom(600_000)
    (tmp_path / "closed").write_bytes(data)
    (tmp_path / "open").write_bytes(data)
    async with alice_and_mallory(alice_config) as (alice, mallory):
        request = Share(paths=(tmp_path / "closed",), flags=PLAIN)
        (root,) = [event.cid async for event in _events(alice, request) if isinstance(event, Shared)]
        await no_ticket(mallory, str(root), tmp_path / "m", alice)
        assert await alice.add(tmp_path / "open") == root
        assert (await mallory.get(str(root), tmp_path / "m", providers=alice.addresses())).read_bytes() == data


async def test_what_was_open_before_stays_so_and_is_told(tmp_path: Path, alice_config: Config) -> None:
    (tmp_path / "x").write_bytes(b"known to all")
    async with Node.open(alice_config) as alice:
        await alice.add(tmp_path / "x")
        (tmp_path / "y").write_bytes(b"known to nobody")
        for name, is_open in ("x", True), ("y", False):
            request = Share(paths=(tmp_path / name,), flags=PLAIN)
            told = [event async for event in _events(alice, request) if isinstance(event, Shared)]
            assert told[0].open == is_open


PLAIN = ImportFlags(preserve_mtime=False)
"""The same blocks as those of `add`."""


async def _events(node: Node, request: Share) -> AsyncIterator[object]:
    async with node.watch(request) as events:
        async for event in events:
            yield event


async def test_announcing_a_closed_share_opens_it_and_who_waited_gets_it(tmp_path: Path, alice_config: Config) -> None:
    async with alice_and_mallory(alice_config) as (alice, mallory):
        path = tree(tmp_path)
        root = decode_ticket(await alice.share(path)).root
        got: list[bytes] = []

        async def wait() -> None:
            async with mallory.exchange.session(root) as session:
                session.machine.add_peer(alice.peer_id)
                got.append(await session.get(root))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settled(lambda: alice.exchange.engine.wants == 1)
            await alice.announce(root)
            await settled(lambda: bool(got))


async def test_a_part_of_a_closed_share_is_not_announced_by_itself(tmp_path: Path, alice_config: Config) -> None:
    async with Node.open(alice_config) as alice:
        root = decode_ticket(await alice.share(tree(tmp_path))).root
        part = next(cid for cid in await cids_below(alice) if cid.multihash != root.multihash)
        with pytest.raises(Refused, match="--open"):
            await alice.announce(part)


async def test_a_grant_ends_with_the_connection_and_a_removed_share_with_its_ticket(
    tmp_path: Path, alice_config: Config
) -> None:
    path = tree(tmp_path)
    async with alice_and_mallory(alice_config) as (alice, bob):
        ticket = await alice.share(path)
        await bob.get(ticket, tmp_path / "bob")
        engine = alice.exchange.engine
        assert engine._peers[bob.peer_id].admitted
        await bob.host.disconnect(alice.peer_id)
        await settled(lambda: bob.peer_id not in engine._peers)
        await bob.connect(alice.addresses()[0])
        await settled(lambda: bob.peer_id in engine._peers)
        assert not engine._peers[bob.peer_id].admitted
        root = decode_ticket(ticket).root
        await alice.ask(RemoveShare(target=str(root)))
        again = await alice.share(path)
        assert decode_ticket(again).root == root and decode_ticket(again).secret != decode_ticket(ticket).secret
        await no_ticket(bob, ticket, tmp_path / "again", alice)


async def test_the_same_shared_again_has_the_same_secret_also_after_a_restart(tmp_path: Path) -> None:
    """Who was interrupted goes on with the ticket it has."""
    path = tree(tmp_path)
    async with Node.open(config(tmp_path, "alice")) as alice:
        first = decode_ticket(await alice.share(path))
        assert decode_ticket(await alice.share(path)).secret == first.secret
    async with Node.open(config(tmp_path, "alice")) as alice, Node.open(Config(listen=MEMORY)) as mallory:
        await mallory.connect(alice.addresses()[0])
        again = await alice.share(path)
        assert decode_ticket(again).secret == first.secret
        await no_ticket(mallory, str(first.root), tmp_path / "mallory", alice)
        await mallory.get(again, tmp_path / "mallory")


async def test_fetching_by_cid_what_is_closed_here_does_not_open_it(tmp_path: Path, alice_config: Config) -> None:
    async with alice_and_mallory(alice_config) as (alice, mallory):
        root = decode_ticket(await alice.share(tree(tmp_path))).root
        await alice.get(str(root), tmp_path / "copy")
        await no_ticket(mallory, str(root), tmp_path / "mallory", alice)
