"""Announcements of nodes, as programs use them and behind requests; asyncio and trio."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from stack import Cid, Config, Node, SyncNode
from stack.announce.interfaces import FoundName, KnownProvider
from stack.announce.shell.service import Announcements as Layer
from stack.bitswap.interfaces import Provider
from stack.blocks.interfaces import PinKind
from stack.blocks.store import DiskStore
from stack.errors import CorruptStore, LocalProtocolError, Refused
from stack.files.events import ProviderFound
from stack.files.ticket import decode_ticket
from stack.node import announcing
from stack.node.announcing import ANNOUNCEMENTS_FILE, PIN_LISTS, PIN_NAMES, BlockLists
from stack.node.api import (
    FindNames,
    FindProviders,
    GetAnnouncements,
    ListDirectory,
    ListTopics,
    RemoveShare,
    Share,
    Shared,
    Withdraw,
)
from tests.bitswap.simulation import peer_named
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)


@asynccontextmanager
async def three() -> AsyncIterator[list[Node]]:
    """One that shares, one that seeks, and one in between that both know."""
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Node.open()) for _ in range(3)]
        await nodes[0].connect(nodes[1].addresses()[0])
        await nodes[2].connect(nodes[1].addresses()[0])
        yield nodes


async def told(node: Node) -> None:
    """Wait until somebody keeps what this node announces."""
    await settled(lambda: node.announcing.layer.waiting == 0)


def film(tmp_path: Path, name: str = "film.bin", size: int = 300_000) -> Path:
    path = tmp_path / name
    path.write_bytes(os.urandom(size))
    return path


async def names(node: Node, words: str) -> list[FoundName]:
    async with node.find(words, timeout=5) as found:
        return [each async for each in found]


async def known(node: Node, root: Cid) -> list[KnownProvider]:
    async with node.providers(root, timeout=5) as found:
        return [each async for each in found]


def root_of(ticket: str) -> Cid:
    return decode_ticket(ticket).root


async def test_who_knows_only_the_cid_finds_an_announced_share(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with three() as [one, _, two]:
        root = root_of(await one.share(path, announce=True))
        await told(one)
        sources = {}
        async with two.fetch(root, tmp_path / "out", out="film.bin") as events:
            async for event in events:
                if isinstance(event, ProviderFound):
                    sources[event.peer] = event.source
        assert sources == {one.peer_id: "announced"}
        assert (tmp_path / "out" / "film.bin").read_bytes() == path.read_bytes()


async def test_a_public_name_is_found_and_its_directory_can_be_listed(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with three() as [one, _, two]:
        root = root_of(await one.share(path, public_name="Holiday Film 2026"))
        await told(one)
        (found,) = await names(two, "film holiday")
        assert (found.name, found.cid, found.size) == ("Holiday Film 2026", root, 300_000)
        assert found.author == one.peer_id and found.directory is not None and found.addresses
        async with two.watch(ListDirectory(source=str(found.directory))) as entries:
            (entry,) = [each async for each in entries]
        assert (entry.name, entry.cid) == ("Holiday Film 2026", root)
        assert await names(two, "other film") == []


async def test_a_plain_share_is_found_by_nobody(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with three() as [one, _, two]:
        root = root_of(await one.share(path))
        assert await known(two, root) == []
        assert await names(two, "film") == []
        assert (await one.ask(GetAnnouncements())).items == ()


async def test_a_ticket_is_fetched_without_asking_anybody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path)
    asked: list[Cid] = []
    find_providers = Layer.find_providers

    def listening(self: Layer, root: Cid, secret: bytes = b"") -> AsyncIterator[object]:
        asked.append(root)
        return find_providers(self, root, secret)

    monkeypatch.setattr(Layer, "find_providers", listening)
    async with three() as [one, _, two]:
        ticket = await one.share(path)
        await two.get(ticket, tmp_path / "out")
        assert await two.cat(ticket) == path.read_bytes()
        assert asked == []
        await told(one)
        await one.announce(root_of(ticket))
        await two.get(root_of(ticket), tmp_path / "again")
        assert asked == [root_of(ticket)]


async def test_providers_are_told_with_their_age_and_who_said_so(tmp_path: Path) -> None:
    async with three() as [one, middle, two]:
        root = Cid.of(b"something")
        await one.announce(root)
        await told(one)
        (provider,) = await known(two, root)
        assert provider.peer == one.peer_id and 0 <= provider.age < 30
        assert provider.addresses == tuple(one.host.addresses())
        assert provider.told_by in (None, middle.peer_id, one.peer_id)


async def test_what_is_withdrawn_or_no_longer_shared_is_not_announced(tmp_path: Path) -> None:
    first, second = film(tmp_path, "a.bin"), film(tmp_path, "b.bin")
    async with Node.open() as node:
        roots = [root_of(await node.share(path, public_name=f"the {path.name}")) for path in (first, second)]
        before = await node.ask(GetAnnouncements())
        assert [(item.cid, item.public_name, item.size) for item in before.items] == [
            (roots[0], "the a.bin", 300_000),
            (roots[1], "the b.bin", 300_000),
        ]
        assert (await node.ask(Withdraw(cid=roots[0]))).count == 1
        assert (await node.ask(Withdraw(cid=roots[0]))).count == 0
        after = await node.ask(GetAnnouncements())
        assert [item.cid for item in after.items] == [roots[1]] and after.directory != before.directory
        assert (await node.ask(RemoveShare(target=str(second)))).count == 1
        ended = await node.ask(GetAnnouncements())
        assert ended.items == () and ended.directory is None


async def test_two_roots_of_one_name_are_both_in_the_directory(tmp_path: Path) -> None:
    first, second = film(tmp_path, "a.bin"), film(tmp_path, "b.bin")
    async with Node.open() as node:
        for path in (first, second):
            await node.share(path, public_name="film")
        await node.announce(Cid.of(b"kept by somebody else"), public_name="film", size=21)
        directory = (await node.ask(GetAnnouncements())).directory
        async with node.watch(ListDirectory(source=str(directory))) as entries:
            assert {each.name async for each in entries} == {"film", "film (2)", "film (3)"}


async def test_announcements_survive_a_restart_and_their_directory_is_kept(tmp_path: Path) -> None:
    config = Config(home=tmp_path / "home", listen=LOOPBACK)
    path = film(tmp_path)
    async with Node.open(config) as node:
        await node.share(path, public_name="first name")
        await node.share(path, public_name="second name")
        before = await node.ask(GetAnnouncements())
    async with Node.open(config) as node, Node.open() as other:
        after = await node.ask(GetAnnouncements())
        assert (after.items, after.directory) == (before.items, before.directory)
        assert isinstance(node.store, DiskStore)
        pinned = [cid for cid, name in await node.store.pins(kind=PinKind.SHARE) if name == PIN_NAMES]
        assert pinned == [after.directory]
        await node.connect(other.addresses()[0])
        await told(node)
        (found,) = await names(other, "second")
        assert found.author == node.peer_id


async def test_a_command_of_a_moment_changes_what_a_home_announces_and_asks_nobody(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = film(tmp_path)
    async with Node.open(Config(home=home, listen=LOOPBACK)) as node:
        root = root_of(await node.share(path, announce=True))
    async with Node.open(Config(home=home, role="announce")) as node:
        assert [item.cid for item in (await node.ask(GetAnnouncements())).items] == [root]
        assert node.discovery is None and node.addresses() == ()
        assert (await node.ask(RemoveShare(target=str(root)))).count == 1
    async with Node.open(Config(home=home, role="find")) as node:
        assert node.announcing.items() == []
    async with Node.open(Config(home=home, listen=LOOPBACK)) as node:
        assert (await node.ask(GetAnnouncements())).items == ()


async def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ANNOUNCEMENTS_FILE).write_bytes(b"\xff")
    with pytest.raises(CorruptStore, match="announcements is damaged"):
        async with Node.open(Config(home=home, listen=LOOPBACK)):
            pass
    (home / ANNOUNCEMENTS_FILE).unlink()
    (home / ANNOUNCEMENTS_FILE).mkdir()
    with pytest.raises(Refused, match="cannot be read"):
        async with Node.open(Config(home=home, listen=LOOPBACK)):
            pass


@pytest.mark.parametrize("config", [Config(announce=False), Config(pubsub=False), Config(role="command")])
async def test_where_it_is_off_that_is_said(tmp_path: Path, config: Config) -> None:
    path = film(tmp_path)
    async with Node.open(config) as node:
        assert not node.announces
        with pytest.raises(Refused, match="no part in announcements"):
            await node.share(path, announce=True)
        for request in (FindNames(words="film"), FindProviders(cid=Cid.of(b""))):
            with pytest.raises(Refused):
                async with node.watch(request) as found:
                    await anext(found)
        ticket = await node.share(path)
        assert (await node.ask(RemoveShare(target=str(root_of(ticket))))).count == 1


@pytest.mark.parametrize("name", ["", ".", "a", "x" * 300, "a/film", "film\0", "\ud800film"])
async def test_B_a_name_that_is_none_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    async with Node.open() as node:
        with pytest.raises(LocalProtocolError):
            await node.share(tmp_path / "nothing.bin", public_name=name)


async def test_without_a_word_nothing_is_sought() -> None:
    async with Node.open() as node:
        with pytest.raises(LocalProtocolError):
            await names(node, "?!")


async def test_a_search_without_anybody_ends_with_its_time() -> None:
    async with Node.open(Config(role="find")) as node, node.find("film", timeout=0.2) as found:
        assert [each async for each in found] == []


async def test_topics_of_the_layer_are_not_listed(tmp_path: Path) -> None:
    async with three() as [one, two, _]:
        await settled(lambda: bool(one.pubsub.topics() and two.pubsub.topics()))
        assert await one.ask(ListTopics()) == ()


async def test_the_last_event_of_a_share_says_in_which_circle_it_is(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with Node.open() as node:
        for request, circle in (
            (Share(paths=(path,)), (False, None)),
            (Share(paths=(path,), announce=True), (True, None)),
            (Share(paths=(path,), public_name="film"), (True, "film")),
        ):
            async with node.watch(request) as events:
                shared = [event async for event in events][-1]
            assert isinstance(shared, Shared)
            assert (shared.announced, shared.public_name) == circle


async def test_finding_26_lists_of_keys_that_records_name_are_pinned_and_those_of_others_are_not_kept(
    tmp_path: Path,
) -> None:
    """Of more than 64, the first by CID was unpinned, whatever named it."""
    async with Node.open(Config(home=tmp_path / "home", listen=LOOPBACK, announce=False)) as one, Node.open() as two:
        ours, theirs = BlockLists(one.store, one.exchange), BlockLists(two.store, two.exchange)
        blocks = [bytes([number]) * 16 for number in range(100)]
        for data in blocks:
            await ours.put(Cid.of(data), data)
        assert isinstance(one.store, DiskStore)
        pinned = [cid for cid, name in await one.store.pins(kind=PinKind.SHARE) if name == PIN_LISTS]
        assert set(pinned) == {Cid.of(block) for block in blocks}
        named = frozenset(Cid.of(block) for block in blocks[::3])
        await one.store.add_pin(root := Cid.of(b"shared"), "a film", kind=PinKind.SHARE)
        await ours.retain(named)
        assert {cid for cid, _ in await one.store.pins(kind=PinKind.SHARE)} == {*named, root}
        addresses = tuple(one.host.addresses())
        with anyio.fail_after(20):
            assert await theirs.get(Cid.of(blocks[-1]), one.peer_id, addresses) == blocks[-1]
            long = bytes(16 * 65_536 + 16)
            await one.put([(Cid.of(long), long)])
            assert await theirs.get(Cid.of(long), one.peer_id, addresses) is None
        assert await two.store.has([Cid.of(blocks[-1])]) == [False]


async def test_attack_who_brings_nothing_of_a_list_or_a_byte_now_and_then_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each had a place of the few there are for a minute, as often as it liked."""
    monkeypatch.setattr("stack.node.announcing.LIST_STILL_SECONDS", 0.05)

    class Author:
        """Sends so many bytes with each look, and never all."""

        def __init__(self, slice: int) -> None:
            self._slice, self.sent, self.left = slice, 0, False

        @asynccontextmanager
        async def session(self, cid: Cid, providers: list[Provider]) -> AsyncIterator[Any]:
            try:
                yield self
            finally:
                self.left = True

        def reports(self) -> list[Any]:
            self.sent += self._slice
            return [SimpleNamespace(bytes=0, arriving=self.sent if self._slice > 0 else 100 + self.sent)]

        async def fetch(self, cids: list[Cid], sink: Any) -> None:
            while self.sent < 10_000:
                await anyio.sleep(0.01)
            sink(cids[0], memoryview(bytes(16)))

    for slice, comes in ((0, False), (-1, False), (1, False), (1000, True)):
        author = Author(slice)
        lists = BlockLists(cast(Any, None), cast(Any, author))
        with anyio.fail_after(5):
            assert await lists.get(Cid.of(bytes(16)), peer_named("author"), ()) == (bytes(16) if comes else None)
        assert author.left


def test_a_script_announces_and_finds(tmp_path: Path) -> None:
    path = film(tmp_path)
    with SyncNode.open() as one, SyncNode.open() as two:
        two.connect(one.addresses()[0])
        root = root_of(one.share(path, public_name="my film"))
        # The record is handed to a member in the background: who asks before that is told of nothing.
        (found,) = next(filter(None, (two.find("film") for _ in range(50))))
        assert (found.cid, found.name) == (root, "my film")
        (provider,) = two.providers(root)
        assert provider.peer == one.peer_id
        assert one.withdraw(root) and not one.withdraw(root)
        one.announce(root)


async def test_of_many_changes_in_a_row_each_key_is_computed_once_and_all_are_told_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[bytes] = []
    told_keys: list[int] = []
    of_tickets = announcing.ticket_key
    monkeypatch.setattr(
        announcing, "ticket_key", lambda secret, hash: computed.append(hash) or of_tickets(secret, hash)
    )
    keep = Layer.keep
    monkeypatch.setattr(Layer, "keep", lambda layer, keys: told_keys.append(len(keys)) or keep(layer, keys))
    async with Node.open() as node:
        for number in range(5):
            await node.share(film(tmp_path, f"{number}.bin", 100))
        await settled(lambda: told_keys[-1:] == [5])
        for _ in range(40):
            node.tell_keys()
        times = len(told_keys)
        await settled(lambda: len(told_keys) > times)
        assert told_keys[times:] == [5]
    assert len(computed) == len(set(computed)) == 5
