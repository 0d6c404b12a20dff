"""Nodes behind a relay: what their settings say, their tickets, and a fetch through it."""

import random
from pathlib import Path

import anyio
import pytest

from stack import Node
from stack.errors import ConfigError
from stack.files.events import FetchProgress
from stack.files.ticket import decode_ticket
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, is_relayed
from stack.node.config import Config
from stack.node.keystore import load_or_create
from stack.node.listen import usual_addresses
from stack.node.reach import reach_of
from stack.node.relaying import relay_facts
from stack.protocols.relay.keeping import LOST_SECONDS
from stack.protocols.relay.service import HOP
from stack.protocols.relay.shell import keeper
from tests.net.hosts import settled
from tests.turns import counting_steps

pytestmark = pytest.mark.anyio

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
CONTENT = bytes(range(256)) * 4096


def relay_at(node: Node) -> str:
    return str(node.addresses()[0])


async def test_a_file_comes_through_a_relay_from_who_can_be_reached_no_other_way(tmp_path: Path) -> None:
    """It is all that the ticket names: without who the relay is, for which there is no room."""
    source = tmp_path / "film"
    source.write_bytes(CONTENT)
    (tmp_path / "home").mkdir(mode=0o700)
    home_peer = PeerId.of(load_or_create(tmp_path / "home", "ed25519").public)
    relaying = Config(relay=True, relay_allow=(str(home_peer),), listen=LOOPBACK)
    async with Node.open(relaying) as relay:
        circuit = f"{relay_at(relay)}/p2p-circuit"
        short = Multiaddr.parse(f"{relay.host.addresses()[0]}/p2p-circuit")
        assert usual_addresses(Config(relay_via=(relay_at(relay),))) == [Multiaddr.parse(circuit)]
        async with Node.open(Config(home=tmp_path / "home", listen=(circuit,))) as home, Node.open(Config()) as guest:
            ticket = await home.share(source)
            assert decode_ticket(ticket).addresses == (short,)
            got = await guest.get(ticket, tmp_path / "got")
            assert got.read_bytes() == CONTENT
            [row] = [row for row in await guest.peers.ls() if row.peer_id == str(home.peer_id)]
            assert row.relayed
            assert not row.limited


async def test_a_fetch_goes_over_to_a_direct_connection_and_outlives_the_relay(tmp_path: Path) -> None:
    """What is under way when the better connection comes still arrives; what comes later goes there; no block comes twice."""
    source = tmp_path / "film"
    source.write_bytes(random.Random(1).randbytes(3 << 20))
    (tmp_path / "home").mkdir(mode=0o700)
    home_peer = PeerId.of(load_or_create(tmp_path / "home", "ed25519").public)
    async with Node.open(Config(relay=True, relay_allow=(str(home_peer),), listen=LOOPBACK)) as relay:
        circuit = f"{relay_at(relay)}/p2p-circuit"
        guests = Config(download_limit=4 << 20)
        async with Node.open(Config(home=tmp_path / "home", listen=(circuit,))) as home, Node.open(guests) as guest:
            ticket = await home.share(source)
            async with guest.fetch(ticket, tmp_path / "got") as fetch:
                async for event in fetch:
                    if isinstance(event, FetchProgress) and event.bytes_done:
                        break
                relayed = guest.host.best_connection(home_peer)
                assert relayed is not None
                assert relayed.relayed
                bound = await home.host.listen(Multiaddr.parse(LOOPBACK[0]))
                direct = await guest.host._swarm.establish(home_peer, bound)
                assert guest.host.best_connection(home_peer) is direct
                moved = guest.traffic.received(home_peer) + (1 << 19)
                async for _ in fetch:
                    if guest.traffic.received(home_peer) >= moved and not relayed.closed:
                        await relay.host.disconnect(home_peer)
            assert (tmp_path / "got" / "film").read_bytes() == source.read_bytes()
            assert relayed.closed
            assert not direct.closed
            assert guest.traffic.received(home_peer) <= (3 << 20) + 1000


async def test_a_node_has_places_at_the_relays_that_are_named_before_it_makes_tickets() -> None:
    async with Node.open(Config(relay=True)) as relay:
        bound = Multiaddr.parse(f"{relay_at(relay)}/p2p-circuit")
        async with Node.open(Config(relay_via=(relay_at(relay), "/ip4/127.0.0.1/tcp/1"))) as home:
            assert bound in home.host.addresses()
            await relay.host.disconnect(home.peer_id)
            await settled(lambda: bound not in home.host.addresses())


async def test_only_who_is_asked_for_it_is_a_relay() -> None:
    async with Node.open(Config()) as node:
        assert HOP not in node.host.supported()
    async with Node.open(Config(relay=True)) as node:
        assert HOP in node.host.supported()


async def test_who_looks_for_a_relay_takes_one_among_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not public itself, and the relay is."""
    async with Node.open(Config(relay=True)) as relay, Node.open(Config()) as home:
        ours = home.host.addresses()
        monkeypatch.setattr(keeper, "reach_of", lambda address: Reach.PRIVATE if address in ours else Reach.PUBLIC)
        await home.host.connect(None, relay.addresses())
        await settled(lambda: any(map(is_relayed, home.host.addresses())))
        await home.host.disconnect(relay.peer_id)
        await settled(lambda: not any(map(is_relayed, home.host.addresses())))
        with counting_steps() as steps:
            await anyio.sleep(1.5 * LOST_SECONDS)
        assert steps.total() < 500, steps.most_common(
            3
        )  # a duty that goes round without waiting makes tens of thousands


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"relay_allow": ("nobody",)}, "relay_allow"),
        ({"relay_via": ("nowhere",)}, "relay_via"),
        ({"relay_via": ("192.0.2.1:1",) * 5}, "more than 4"),
        ({"relay_allow": ("x",) * 257}, "more than 256"),
    ],
)
def test_settings_of_relays_that_make_no_sense_are_refused(settings: dict[str, tuple[str, ...]], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Config(**settings)  # type: ignore[arg-type] # names of settings


def test_who_is_reached_through_a_relay_is_told_so() -> None:
    addresses = [Multiaddr.parse(t) for t in ("/ip4/192.168.1.2/tcp/1", "/ip4/45.1.2.3/tcp/4001/p2p-circuit")]
    reach = reach_of(addresses)
    assert (reach.scope, reach.addresses) == ("internet", (addresses[1],))
    assert "through the relay at 45.1.2.3:4001" in reach.advice


def test_doctor_tells_of_relays() -> None:
    held = Multiaddr.parse("/ip4/45.1.2.3/tcp/4001/p2p-circuit")
    config = Config(relay_via=("45.1.2.3:4001", "/ip4/45.9.9.9/tcp/1"), relay=True)
    facts = [(fact.subject, fact.ok) for fact in relay_facts([held], config)]
    assert facts == [("45.1.2.3:4001", True), ("45.9.9.9:1", False), ("", True)]
    assert relay_facts([Multiaddr.parse("/ip4/45.1.2.3/tcp/1")], Config()) == []
    assert [fact.ok for fact in relay_facts([held], Config(relay_via=("relay.example.org:4001",)))] == [True]
