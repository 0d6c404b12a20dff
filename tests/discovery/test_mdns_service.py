"""mDNS on sockets: here they are plain ones on loopback, so that no test speaks on a network."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.discovery.dns import PTR, TXT, Message, Question, Record, decode, encode
from stack.discovery.mdns import service as module
from stack.discovery.mdns.links import Link
from stack.discovery.mdns.machine import SERVICE, PeerFound
from stack.discovery.mdns.service import MdnsService
from stack.multiformats.multiaddr import Multiaddr
from stack.platform import Interface
from tests.net.identities import peer

pytestmark = pytest.mark.anyio
LOOPBACK = "127.0.0.1"
CABLE = Interface(name="cable", index=7, networks=("127.0.0.1/8",), loopback=True, multicast=True)
OURS = [Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")]


class Network:
    """One neighbour, and the interfaces that the service is told of."""

    def __init__(self) -> None:
        self.interfaces = [CABLE]
        self.neighbour = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.neighbour.bind((LOOPBACK, 0))
        self.neighbour.settimeout(0)
        self.joined: list[socket.socket] = []
        self.broken: OSError | None = None

    def join(self, link: Link) -> socket.socket:
        """What stands for a socket in the group."""
        if self.broken is not None:
            raise self.broken
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind((LOOPBACK, 0))
        self.joined.append(made)
        return made

    def say(self, message: Message) -> None:
        """To the service."""
        self.neighbour.sendto(encode(message), self.joined[-1].getsockname())

    async def hear(self) -> Message:
        """From the service."""
        with anyio.fail_after(10):
            await anyio.wait_readable(self.neighbour)
        return decode(self.neighbour.recv(9000))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    made = Network()
    monkeypatch.setattr(module, "joined", made.join)
    monkeypatch.setattr(module, "GROUPS", {4: LOOPBACK})
    monkeypatch.setattr(module, "PORT", made.neighbour.getsockname()[1])
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    yield made
    made.neighbour.close()
    for each in made.joined:
        each.close()


@asynccontextmanager
async def speaking(network: Network, found: list[PeerFound] | None = None) -> AsyncIterator[MdnsService]:
    heard = found if found is not None else []
    service = MdnsService(peer(1), lambda: OURS, heard.append, read_interfaces=lambda: network.interfaces)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        yield service
        tasks.cancel_scope.cancel()


async def settled(condition: object) -> None:
    with anyio.fail_after(10):
        while not condition():  # type: ignore[operator]
            await anyio.sleep(0.005)


async def test_it_asks_and_tells_at_the_start_and_says_goodbye(network: Network) -> None:
    async with speaking(network) as service:
        question, answer = sorted([await network.hear(), await network.hear()], key=lambda m: m.response)
        assert question.questions == (Question(SERVICE, PTR),)
        assert answer.answers[0].name == SERVICE
        assert [(str(fact.link), fact.error) for fact in service.facts()] == [("cable, IPv4", None)]
        assert "1 links" in repr(service)
    farewell = await network.hear()
    assert farewell.answers[0].ttl == 0
    assert network.joined[0].fileno() == -1


async def test_a_neighbour_is_found_and_answered(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from stack.discovery.mdns import machine

    monkeypatch.setattr(machine, "PORT", network.neighbour.getsockname()[1])
    found: list[PeerFound] = []
    async with speaking(network, found) as service:
        await network.hear()
        text = Record((b"me", *SERVICE), TXT, 120, (f"dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{peer(2)}".encode(),))
        network.say(Message(response=True, answers=(text,)))
        await settled(lambda: found)
        assert found[0].peer == peer(2)
        assert service.packets
        network.say(Message(questions=(Question(SERVICE, PTR, unicast=True),)))
        while not (await network.hear()).response:
            pass


async def test_an_interface_that_goes_and_comes_is_noticed(network: Network) -> None:
    async with speaking(network) as service:
        await network.hear()
        network.interfaces = []
        await settled(lambda: not service.facts())
        network.interfaces = [CABLE]
        await settled(lambda: len(network.joined) == 2)
        service.look_again()
        await settled(lambda: service.facts())


async def test_interfaces_that_cannot_be_looked_at_are_spoken_on_as_before(network: Network) -> None:
    looks = []

    def interfaces() -> list[Interface]:
        looks.append(1)
        if len(looks) > 1:
            raise OSError(24, "Too many open files")
        return network.interfaces

    async with anyio.create_task_group() as tasks:
        service = MdnsService(peer(1), lambda: OURS, lambda found: None, read_interfaces=interfaces)
        tasks.start_soon(service.run)
        await settled(lambda: len(looks) > 3)
        assert len(service.facts()) == len(network.joined) == 1
        assert network.joined[0].fileno() != -1
        tasks.cancel_scope.cancel()


async def test_what_cannot_be_joined_is_a_fact_and_tried_again(network: Network) -> None:
    network.broken = PermissionError(1, "Operation not permitted")
    async with speaking(network) as service:
        await settled(service.facts)
        assert [fact.error for fact in service.facts()] == ["Operation not permitted"]
        network.broken = None
        await settled(lambda: service.facts()[0].error is None)


async def test_errors_of_sending_and_receiving_are_facts_until_they_are_over(network: Network) -> None:
    class Broken(socket.socket):
        fails = True

        def sendto(self, *arguments: object) -> int:
            if self.fails:
                raise OSError(100, "Network is down")
            return 0

        def recvfrom(self, *arguments: object) -> tuple[bytes, object]:
            if self.fails:
                raise OSError(100, "Network is down")
            raise BlockingIOError

    made = Broken(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((LOOPBACK, 0))
    network.join = lambda link: made  # type: ignore[method-assign]
    module.joined = network.join
    network.joined = [made]
    async with speaking(network) as service:
        await settled(lambda: service.facts() and service.facts()[0].error == "Network is down")
        network.say(Message())
        await anyio.sleep(0.02)
        made.fails = False
        await settled(lambda: service.facts()[0].error is None)


async def test_a_machine_without_multicast_goes_on(network: Network) -> None:
    network.interfaces = []
    async with speaking(network) as service:
        await anyio.wait_all_tasks_blocked()
        assert service.facts() == []
