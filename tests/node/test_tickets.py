"""What becomes of a ticket whose maker has gone while others have what it names; asyncio and trio (use 1)."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest

from stack import Config, Node
from stack.bitswap.messages import Want
from stack.files.events import FetchFinished, ProviderFound
from stack.files.ranges import whole_ranges
from stack.files.ticket import decode_ticket, encode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.node.handlers.naming import is_cut_of
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
SIZE = 2_700_000


def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


@asynccontextmanager
async def bob_has_it(tmp_path: Path) -> AsyncIterator[tuple[Node, str, bytes]]:
    """A node that has fetched by a ticket whose maker has gone, and serves what it wrote."""
    (tmp_path / "home").mkdir()
    path = film(tmp_path)
    async with Node.open(Config(home=tmp_path / "home", listen=LOOPBACK)) as bob:
        async with Node.open() as alice:
            ticket = await alice.share(path)
            await bob.get(ticket, tmp_path / "bob")
        yield bob, ticket, path.read_bytes()


async def fetched(node: Node, ticket: str, place: Path, after_start: Sequence[object] = ()) -> tuple[bytes, set[str]]:
    """What came, and how those were found who brought it; in 5 s."""
    found: set[str] = set()
    with anyio.fail_after(5):
        async with node.fetch(ticket, place) as events:
            for step in after_start:
                await step()  # type: ignore[operator]
            async for event in events:
                if isinstance(event, ProviderFound):
                    found.add(event.source)
                if isinstance(event, FetchFinished):
                    return event.target.read_bytes(), found
    raise AssertionError("a fetch ends with FetchFinished or an error")


@pytest.mark.parametrize("late", [False, True])
async def test_a_neighbour_that_has_it_is_found_by_the_ticket_of_one_who_has_gone(tmp_path: Path, late: bool) -> None:
    async with bob_has_it(tmp_path) as (bob, ticket, data), Node.open() as dave:
        meet = partial(dave.connect, bob.addresses()[0])
        if not late:
            await meet()
        assert await fetched(dave, ticket, tmp_path / "dave", [meet] if late else []) == (data, {"swarm"})


async def test_a_common_bootstrap_peer_that_has_it_is_asked(tmp_path: Path) -> None:
    async with (
        bob_has_it(tmp_path) as (bob, ticket, data),
        Node.open(Config(bootstrap=(str(bob.addresses()[0]),))) as dave,
    ):
        assert await fetched(dave, ticket, tmp_path / "dave") == (data, {"swarm"})


async def test_who_announces_it_is_found_by_the_ticket_of_one_who_has_gone(tmp_path: Path) -> None:
    async with bob_has_it(tmp_path) as (bob, ticket, data), Node.open() as middle, Node.open() as dave:
        await bob.connect(middle.addresses()[0])
        await dave.connect(middle.addresses()[0])
        await bob.announce(decode_ticket(ticket).root)
        await settled(lambda: bob.announcing.layer.waiting == 0)
        await bob.host.disconnect(dave.peer_id)
        data_there, found = await fetched(dave, ticket, tmp_path / "dave")
        assert data_there == data and found <= {"announced", "swarm"}


async def test_a_maker_that_does_not_answer_costs_two_seconds(tmp_path: Path) -> None:
    """Its computer sleeps, or its address is another's now: the connection is taken and nothing is said on it."""
    async with bob_has_it(tmp_path) as (bob, ticket, data), Node.open() as dave:
        await dave.connect(bob.addresses()[0])
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            silent = (Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}"),)
            there = decode_ticket(ticket)
            asleep = encode_ticket(replace(there, addresses=silent))
            assert (await fetched(dave, asleep, tmp_path / "dave"))[0] == data


async def test_a_maker_that_is_there_and_has_lost_it_is_not_waited_for(tmp_path: Path) -> None:
    async with bob_has_it(tmp_path) as (bob, ticket, data), Node.open() as alice, Node.open() as dave:
        await dave.connect(bob.addresses()[0])
        there = decode_ticket(ticket)
        lost = encode_ticket(replace(there, peer=alice.peer_id, addresses=tuple(alice.host.addresses())))
        assert (await fetched(dave, lost, tmp_path / "dave"))[0] == data


async def test_strangers_are_asked_by_a_key_and_never_hear_what_a_ticket_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Want] = []
    async with bob_has_it(tmp_path) as (bob, ticket, data), Node.open() as stranger, Node.open() as dave:

        def listening(peer: PeerId, wants: Sequence[Want], *, full: bool) -> None:
            heard.extend(wants)

        monkeypatch.setattr(stranger.exchange.engine, "receive_wants", listening)
        await dave.connect(stranger.addresses()[0])
        meet = partial(dave.connect, bob.addresses()[0])
        assert (await fetched(dave, ticket, tmp_path / "dave", [partial(anyio.sleep, 0), meet]))[0] == data
        assert heard == []


async def test_reading_by_ticket_finds_others_as_fetching_does(tmp_path: Path) -> None:
    async with bob_has_it(tmp_path) as (bob, ticket, data), Node.open() as dave:
        await dave.connect(bob.addresses()[0])
        with anyio.fail_after(5):
            assert await dave.cat(ticket) == data


LONG = "A lecture about something that takes long to say, held in a room that has a name too, by somebody - part "


async def test_long_names_that_differ_at_their_end_arrive_whole(tmp_path: Path) -> None:
    """No 20 of other people's reports: the ticket has no room for the name, so its maker is asked."""
    async with Node.open() as alice, Node.open() as dave:
        for part in ("1", "2"):
            source = tmp_path / f"{LONG}{part}.mp4"
            source.write_bytes(part.encode())
            ticket = await alice.share(source)
            assert decode_ticket(ticket).name != source.name
            assert (await dave.get(ticket, tmp_path / "dave")).name == source.name
            assert (await dave.get(ticket, tmp_path / "dave")).name == source.name


async def test_a_name_that_the_ticket_does_not_begin_is_not_believed(tmp_path: Path) -> None:
    source = tmp_path / f"{LONG}1.mp4"
    source.write_bytes(b"content")
    async with Node.open() as alice, Node.open() as dave:
        ticket = await alice.share(source)
        hint = decode_ticket(ticket)
        alice.book.add(hint.root, whole_ranges(), "../.bashrc")
        assert (await dave.get(ticket, tmp_path / "dave")).name == hint.name


@pytest.mark.parametrize(
    ("hint", "name", "meant"),
    [
        ("A long na.mp4", "A long name - part 1.mp4", True),
        ("A long na", "A long name without a suffix", True),
        ("A long na.mp4", "A long name - part 1.mkv", False),
        ("A long na.mp4", "Another name.mp4", False),
        ("", "anything", False),
        ("A long na.mp4", "", False),
    ],
)
async def test_what_a_cut_name_may_have_been(hint: str, name: str, meant: bool) -> None:
    assert is_cut_of(hint, name) is meant
