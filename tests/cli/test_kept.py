"""What the home keeps goes on being served when the command ends that serves it, and that command says so."""

import signal
from dataclasses import replace

import pytest

from stack.cli.share import moved
from stack.files.ticket import Ticket, encode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Shared
from tests.acceptance.kit import MIB, Machine, good, make_file

PEER = PeerId.parse("12D3KooWLS5s8EtEo9ugm5vwqtxzQQBTcQGRKcLBzGjyhx83tyzD")
LATER = "The home keeps the share for its next node: `stack shares rm` ends it."
NOW = "The home keeps the share, and the node that runs serves it: `stack shares rm` ends it."


def test_a_share_that_the_home_keeps_too_outlives_the_command_that_began_it(sharer: Machine) -> None:
    """Ctrl-C of the first said `nobody has fetched it`, and no more; the next said `Ctrl-C ends it`, which then did not."""
    film = make_file(sharer.folder / "film.bin", MIB)
    with sharer.sharing(film) as (first, _):
        assert first.next_said("Serving") == "Serving; Ctrl-C ends it."
        good(sharer.run("share", "--keep", "--no-qr", film))
        assert LATER in good(first.stop(signal.SIGINT)).err
    with sharer.sharing(film) as (second, _):
        assert second.next_said("Serving") == f"Serving; Ctrl-C ends this command. {LATER}"
        good(second.stop(signal.SIGINT))
    with sharer.daemon():
        with sharer.sharing(film, "--once") as (third, _):
            assert third.next_said("Serving") == (
                f"Serving until a receiver has all of it; Ctrl-C ends this command sooner. {NOW}"
            )
            assert NOW in third.stop(signal.SIGINT).err
        with sharer.sharing(film) as (fourth, _):
            fourth.next_said("Serving")
            good(sharer.run("shares", "rm", "film.bin"))
            ended = good(fourth.wait(20)).err
            assert "It is no longer shared." in ended and ended.count(NOW) == 1


@pytest.mark.parametrize(("now", "leads"), [("/ip4/10.0.0.1/tcp/4001", True), ("/ip4/10.0.0.1/tcp/4002", False)])
def test_a_ticket_that_leads_nowhere_any_more_is_not_said_to_be_good(now: str, leads: bool) -> None:
    """`Who has the ticket need not have another`, where the first window had had another `--listen`."""
    root = Cid.of(b"root")
    before = Ticket(
        root, "f", 4, PEER, (Multiaddr.parse("/ip4/10.0.0.1/tcp/4001"), Multiaddr.parse("/ip4/10.0.0.1/tcp/1"))
    )
    places = (Multiaddr.parse("/ip4/10.0.0.1/tcp/2"), Multiaddr.parse(now))
    ticket = encode_ticket(replace(before, addresses=places))
    addrs = tuple(address.with_peer(str(PEER)) for address in places)
    shared = Shared(
        ticket=ticket, cid=root, name="f", size=4, peer_id=str(PEER), addrs=addrs, announced=False, open=False
    )
    said = moved(encode_ticket(before), shared)
    assert ("need not have another" in said) == leads and ("otherwise needs" in said) != leads and said.endswith(ticket)
