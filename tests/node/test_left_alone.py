"""A ticket outlives its maker: who re-seeds is found by everybody who has it, and by nobody else (issue 9, must show 2)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from stack import Config, Node
from stack.announce.keyspace import ticket_key
from stack.errors import FetchError, NoProvider, Refused
from stack.files.events import FetchFinished, FetchProgress, WaitingForProvider
from stack.files.ticket import decode_ticket, encode_ticket
from stack.files.watch import NOT_SHARED
from stack.multiformats.multiaddr import Multiaddr
from stack.node import patience
from stack.node.api import Fetch, ImportFlags, RemoveShare, Share, Shared, Withdraw
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
SECONDS = 30.0
"""From the start of a fetch, with whoever has it in sight, to its end: half a second where nothing else runs."""


def at(home: Path, role: str, *known: Node) -> Config:
    """A node that has these as its bootstrap peers."""
    bootstrap = tuple(str(node.addresses()[0]) for node in known)
    return Config(home=home, listen=LOOPBACK, role=role, mdns=False, bootstrap=bootstrap)


def film(tmp_path: Path) -> Path:
    """Repeated blocks, zeros, and something of its own."""
    path = tmp_path / "film.bin"
    path.write_bytes(bytes(700_000) + os.urandom(300_000) * 3)
    return path


async def told(node: Node) -> None:
    """Wait until somebody keeps what this node tells; who fetches begins with that a moment later."""
    await settled(lambda: node.announces and node.announcing.layer.waiting == 0)


async def seed(node: Node, ticket: str, place: Path) -> None:
    """`stack get --seed`."""
    async with node.watch(Fetch(source=ticket, directory=place, seed=True)) as events:
        async for _ in events:
            pass


@asynccontextmanager
async def seeded(tmp_path: Path, *, announce: bool = False) -> AsyncIterator[tuple[str, Node, Node]]:
    """Alice has shared, Bob has fetched and seeds, Alice has gone: the ticket, Bob, and a node that both knew and has nothing."""
    async with (
        Node.open(at(tmp_path / "common", "daemon")) as common,
        Node.open(at(tmp_path / "bob", "get", common)) as bob,
    ):
        async with Node.open(at(tmp_path / "alice", "share", common)) as alice:
            ticket = await alice.share(film(tmp_path), announce=announce)
            await seed(bob, ticket, tmp_path / "bob's")
        await told(bob)
        yield ticket, bob, common


async def test_who_re_seeds_a_closed_share_is_found_by_who_has_the_ticket_and_by_nobody_else(tmp_path: Path) -> None:
    """Through a peer that both know, which has nothing itself and learns nothing, although it knows the CID and keeps all records."""
    async with seeded(tmp_path) as (ticket, bob, common):
        async with Node.open(at(tmp_path / "dave", "get", common)) as dave:
            with anyio.fail_after(SECONDS):
                got = await dave.get(ticket, tmp_path / "dave's")
        assert got.read_bytes() == (tmp_path / "film.bin").read_bytes()
        read = decode_ticket(ticket)
        of_bob = common.announcing.layer._machine.table.records_of(bytes(bob.peer_id))
        assert [record.keys for record in of_bob] == [ticket_key(read.secret, read.root.multihash)]
        async with common.fetch(read.root, tmp_path / "common's", timeout=0.5) as events:
            with pytest.raises(FetchError):
                async for _ in events:
                    pass
        await bob.ask(RemoveShare(target=str(read.root)))
        await settled(lambda: not bob.announcing.layer._machine._own._kept)


async def test_who_re_seeds_what_is_for_everybody_is_found_too(tmp_path: Path) -> None:
    async with seeded(tmp_path, announce=True) as (ticket, _, common):
        async with Node.open(at(tmp_path / "dave", "get", common)) as dave:
            with anyio.fail_after(SECONDS):
                got = await dave.get(ticket, tmp_path / "dave's")
        assert got.read_bytes() == (tmp_path / "film.bin").read_bytes()


async def test_who_shares_is_found_by_an_old_ticket_when_it_is_elsewhere(tmp_path: Path) -> None:
    async with Node.open(at(tmp_path / "common", "daemon")) as common:
        async with Node.open(at(tmp_path / "alice", "daemon", common)) as alice:
            ticket = await alice.share(film(tmp_path))
        stale = encode_ticket(replace(decode_ticket(ticket), addresses=(Multiaddr.parse("/ip4/127.0.0.1/tcp/9"),)))
        async with (
            Node.open(at(tmp_path / "alice", "daemon", common)) as alice,
            Node.open(at(tmp_path / "dave", "get", common)) as dave,
        ):
            await told(alice)
            with anyio.fail_after(SECONDS):
                got = await dave.get(stale, tmp_path / "dave's")
        assert got.read_bytes() == (tmp_path / "film.bin").read_bytes()


async def refused(node: Node, source: str, place: Path, provider: Node) -> None:
    request = Fetch(source=source, directory=place, providers=provider.addresses(), timeout=0.3)
    with pytest.raises(FetchError):
        async with node.watch(request) as events:
            async for _ in events:
                pass


@pytest.mark.parametrize("how", ["announce", "share --announce"])
async def test_an_announcement_opens_a_share_and_its_withdrawal_closes_it_again(tmp_path: Path, how: str) -> None:
    path = film(tmp_path)
    async with (
        Node.open(at(tmp_path / "alice", "daemon")) as alice,
        Node.open(Config(listen=LOOPBACK, mdns=False)) as mallory,
        Node.open(Config(listen=LOOPBACK, mdns=False)) as bob,
    ):
        # Without times: what is announced has none.
        async with alice.watch(Share(paths=(path,), flags=ImportFlags(preserve_mtime=False))) as events:
            [ticket] = [event.ticket async for event in events if isinstance(event, Shared)]
        root = decode_ticket(ticket).root
        await refused(mallory, str(root), tmp_path / "mallory's", alice)
        if how == "announce":
            await alice.announce(root)
        else:
            assert decode_ticket(await alice.share(path, announce=True)).secret == decode_ticket(ticket).secret
        assert await alice.access.is_open(root)
        await mallory.get(root, tmp_path / "mallory's", providers=alice.addresses())
        assert await bob.cat(ticket) == path.read_bytes()  # the ticket was good all the time
        assert (await alice.ask(Withdraw(cid=root))).count == 1
        assert not await alice.access.is_open(root)
        async with Node.open(Config(listen=LOOPBACK, mdns=False)) as eve:
            await refused(eve, str(root), tmp_path / "eve's", alice)
            assert await eve.cat(ticket) == path.read_bytes()


async def test_what_was_shared_for_everybody_stays_so_when_its_announcement_is_withdrawn(tmp_path: Path) -> None:
    """Its ticket has no secret: closed, it would be good for nothing."""
    path = film(tmp_path)
    async with Node.open(at(tmp_path / "alice", "daemon")) as alice:
        root = decode_ticket(await alice.share(path, announce=True)).root
        await alice.withdraw(root)
        assert await alice.access.is_open(root)


async def test_a_share_that_a_killed_process_left_open_is_closed_by_the_next(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with Node.open(at(tmp_path / "alice", "daemon")) as alice:
        root = decode_ticket(await alice.share(path)).root
        await alice.access.open(root)  # and nothing came after it
    async with Node.open(at(tmp_path / "alice", "daemon")) as alice:
        assert not await alice.access.is_open(root)


async def test_a_node_without_a_home_claims_nothing_of_what_it_has_fetched(tmp_path: Path) -> None:
    """It has written the file and cannot serve it: who believed it asked in vain."""
    path = film(tmp_path)
    async with (
        Node.open(at(tmp_path / "alice", "daemon")) as alice,
        Node.open(Config(listen=LOOPBACK, mdns=False)) as bob,
    ):
        ticket = await alice.share(path)
        root = decode_ticket(ticket).root
        async with bob.fetch(ticket, tmp_path / "bob's") as events:
            async for event in events:
                told = bob.book.ranges(root)
                assert isinstance(event, FetchFinished) or told is None or not len(told)
        assert bob.book.ranges(root) is None
        await settled(
            lambda: alice.sharing.is_over(root, alice.host.is_connected)
        )  # and yet its maker hears that it is done
        with pytest.raises(Refused, match="without a home"):
            await seed(bob, ticket, tmp_path / "bob's")


async def test_what_is_fetched_by_its_cid_has_the_name_that_is_used_where_the_user_says(tmp_path: Path) -> None:
    path = film(tmp_path)
    async with (
        Node.open(at(tmp_path / "alice", "daemon")) as alice,
        Node.open(Config(listen=LOOPBACK, mdns=False)) as bob,
    ):
        root = decode_ticket(await alice.share(path, open=True)).root
        assert (await bob.get(root, tmp_path / "bob's", providers=alice.addresses())).name == "film.bin"


async def test_who_reads_by_the_ticket_of_a_share_that_has_ended_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ENDED_SECONDS", 0.5)
    async with (
        Node.open(at(tmp_path / "alice", "daemon")) as alice,
        Node.open(Config(listen=LOOPBACK, mdns=False)) as bob,
    ):
        ticket = await alice.share(film(tmp_path))
        await alice.ask(RemoveShare(target=str(decode_ticket(ticket).root)))
        with anyio.fail_after(SECONDS), pytest.raises(NoProvider, match="shares nothing for this ticket any more"):
            await bob.cat(ticket)


async def test_who_is_fetching_when_the_share_ends_is_told_so(tmp_path: Path) -> None:
    """It was told that it had not got all of it, which the same command would mend; a new fetch was told the truth."""
    film(tmp_path).write_bytes(os.urandom(1_500_000))
    async with (
        Node.open(replace(at(tmp_path / "alice", "daemon"), upload_limit=300_000)) as alice,
        Node.open(at(tmp_path / "bob", "get")) as bob,
    ):
        ticket = await alice.share(tmp_path / "film.bin")
        request = Fetch(source=ticket, directory=tmp_path / "bob's", timeout=6.0)
        reasons: list[str] = []
        with anyio.fail_after(SECONDS), pytest.raises(NoProvider, match="shares nothing for this ticket any more"):
            async with bob.watch(request) as events:
                async for event in events:
                    if isinstance(event, FetchProgress) and event.received and alice.sharing.whole():
                        await alice.ask(RemoveShare(target=str(decode_ticket(ticket).root)))
                    if isinstance(event, WaitingForProvider):
                        reasons.append(event.reason)
        assert reasons[-1] == NOT_SHARED
        again = await alice.share(tmp_path / "film.bin")
        with anyio.fail_after(SECONDS):
            await bob.get(again, tmp_path / "bob's")
