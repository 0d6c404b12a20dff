"""Ports of a host at a router on loopback."""

from dataclasses import replace
from ipaddress import IPv4Address

import anyio
import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.portmap.igd import PAGE_MAX
from stack.portmap.lease import DEAF, Mapping
from stack.portmap.messages import Transport
from stack.portmap.shell import mapper as mapper_module
from stack.portmap.shell import upnp
from stack.portmap.shell.mapper import NO_ROUTER, NOT_NEEDED, SILENT, PortMapper
from tests.net.hosts import settled
from tests.net.identities import key
from tests.net.internet import Internet, Line, at, node
from tests.portmap.routers import Router, UpnpRouter, listening, speaking_upnp

pytestmark = pytest.mark.anyio
HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer is not waited for."""
    monkeypatch.setattr(upnp, "SEARCH_WAITS", (0.2,))


async def free_port() -> int:
    """Where nobody listens."""
    async with listening(Router()) as port:
        return port


async def test_a_port_is_opened_told_and_shut_at_the_end() -> None:
    router = Router()
    async with node(Internet(), 1, "192.168.1.5") as host, listening(router) as port:
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=port) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            assert host.addresses()[0] == at("9.1.1.1", 4002)
            [fact] = mapper.facts()
            assert fact.mapping is not None and fact.mapping.protocol == "PCP" and not fact.fault
            assert router.opened == {4001: 600} and mapper.gateway == HERE
        await settled(lambda: router.opened == {4001: 0})
        assert at("9.1.1.1", 4002) not in host.addresses()


async def test_a_router_behind_another_is_said_to_be_and_its_address_not_told() -> None:
    router = Router(address="100.64.3.4")
    async with node(Internet(), 1, "192.168.1.5") as host, listening(router) as port:
        before = host.addresses()
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=port) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            assert "100.64.3.4 is not public" in mapper.facts()[0].fault
            assert host.addresses() == before


async def test_without_a_router_nothing_is_asked() -> None:
    async with node(Internet(), 1, "192.168.1.5") as host, PortMapper.open(host, find_gateway=lambda: None) as mapper:
        await mapper.settle()
        assert (mapper.facts(), mapper.gateway, mapper.fault) == ([], None, NO_ROUTER)


async def test_a_router_that_cannot_be_looked_for_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.portmap.shell.mapper.RETRY_SECONDS", 0.01)
    looks = []

    def find_gateway() -> str | None:
        looks.append(1)
        if len(looks) == 1:
            raise OSError(24, "Too many open files")
        return None

    async with node(Internet(), 1, "192.168.1.5") as host, PortMapper.open(host, find_gateway=find_gateway) as mapper:
        await mapper.settle()
        assert mapper.fault == "the router cannot be looked for: Too many open files"
        with anyio.fail_after(10):
            while mapper.fault != NO_ROUTER:
                await mapper._changed.wait()


async def test_who_has_a_public_address_asks_nobody() -> None:
    async with node(Internet(), 1, "9.1.1.1") as host, PortMapper.open(host, find_gateway=lambda: HERE) as mapper:
        await mapper.settle()
        assert (mapper.facts(), mapper.gateway, mapper.fault) == ([], None, NOT_NEEDED)


async def test_a_router_that_cannot_be_spoken_to_harms_nobody() -> None:
    async with node(Internet(), 1, "192.168.1.5") as host:
        async with PortMapper.open(host, find_gateway=lambda: "255.255.255.255") as mapper:
            await mapper.settle()
            assert "cannot be asked" in mapper.fault
        nowhere = (HERE, await free_port())
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=nowhere[1], search_at=nowhere) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            assert mapper.facts()[0].fault == f"{DEAF}; UPnP: {SILENT}"


async def test_in_another_network_another_router_is_asked() -> None:
    first, second = Router(), Router(versions=(0,), address="9.2.2.2")
    async with (
        node(Internet(), 1, "192.168.1.5") as host,
        listening(first) as port,
        listening(second) as other,
        PortMapper.open(host, find_gateway=lambda: HERE, port=port) as mapper,
    ):
        with anyio.fail_after(10):
            await mapper.settle()
        mapper._port = other
        host.ours._read_interfaces = lambda: ["10.0.0.9"]
        host.ours.look()
        await settled(lambda: at("9.2.2.2", 4002) in host.addresses())
        assert at("9.1.1.1", 4002) not in host.addresses()


async def test_finding_17_after_a_sleep_the_router_is_asked_at_once() -> None:
    router = Router()
    async with node(Internet(), 1, "192.168.1.5") as host, listening(router) as port:
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=port) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            router.opened.clear()
            for callback in host._wake.listeners():
                callback(8 * 3600.0)
            await settled(lambda: router.opened == {4001: 600} and host.addresses()[0] == at("9.1.1.1", 4002))
        assert mapper._slept not in host._wake.listeners()


async def test_finding_17_after_a_sleep_a_router_that_speaks_upnp_is_asked_at_once() -> None:
    router, silent = UpnpRouter(said=[]), await free_port()
    async with (
        node(Internet(), 1, "192.168.1.5") as host,
        speaking_upnp(router) as place,
        PortMapper.open(host, find_gateway=lambda: HERE, port=silent, search_at=place) as mapper,
    ):
        with anyio.fail_after(10):
            await mapper.settle()
        mapper._slept(8 * 3600.0)
        await settled(lambda: router.said.count("AddPortMapping") == 2)
        await settled(lambda: mapper.facts()[0].mapping is not None)


async def test_every_listener_has_its_port_but_those_the_router_cannot_lead_to() -> None:
    router = Router()
    line = Line(Internet(), "192.168.1.5")
    async with (
        Host(key(1), transports=[line], interfaces=lambda: ["192.168.1.5"]) as host,
        listening(router) as port,
        PortMapper.open(host, find_gateway=lambda: HERE, port=port) as mapper,
    ):
        for text in ("/ip4/0.0.0.0/tcp/11", "/ip4/127.0.0.1/tcp/12", "/ip4/192.168.1.5/tcp/13", "/ip6/::/tcp/14"):
            await host.listen(Multiaddr.parse(text))
        with anyio.fail_after(10):
            await mapper.settle()
            await settled(lambda: set(router.opened) == {11, 12})


@pytest.mark.parametrize(
    "router", [UpnpRouter(), UpnpRouter(ponders=0.2), UpnpRouter(holds_on=True)], ids=["quick", "slow", "holds on"]
)
async def test_a_router_that_speaks_upnp_alone_opens_the_port_and_shuts_it_at_the_end(
    router: UpnpRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some need longer for a page than for an answer to a search, some keep the connection after it."""
    monkeypatch.setattr(upnp, "SEARCH_WAITS", (0.1, 0.1, 0.1))
    router, silent = replace(router, said=[]), await free_port()
    async with node(Internet(), 1, "192.168.1.5") as host, speaking_upnp(router) as place:
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=silent, search_at=place) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            [fact] = mapper.facts()
            assert fact.mapping is not None and fact.mapping.protocol == "UPnP" and not fact.fault
            assert host.addresses()[0] == at("9.1.1.1", 4001)
            assert router.said == ["AddPortMapping", "GetExternalIPAddress"]
        assert router.said[2:] == ["DeletePortMapping"]
        assert at("9.1.1.1", 4001) not in host.addresses()


@pytest.mark.parametrize(
    "router",
    [
        UpnpRouter(taken=(4001,)),
        UpnpRouter(gives=50_000, describes=UpnpRouter.describes.replace(b"Connection:1", b"Connection:2")),
    ],
    ids=["says that it is taken", "gives another"],
)
async def test_where_our_port_is_another_computers_another_one_leads_to_us(
    router: UpnpRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upnp, "SEARCH_WAITS", (0.1, 0.1, 0.1))
    router, silent = replace(router, said=[], ports=[]), await free_port()
    async with node(Internet(), 1, "192.168.1.5") as host, speaking_upnp(router) as place:
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=silent, search_at=place) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            mapping = mapper.facts()[0].mapping
            assert mapping is not None and mapping.port == (router.gives or router.ports[1]) != 4001
            assert router.ports[0] == 4001 and at("9.1.1.1", mapping.port) in host.addresses()
        assert router.ports[-1] == mapping.port and router.said[-1] == "DeletePortMapping"


@pytest.mark.parametrize(
    ("router", "says"),
    [
        (UpnpRouter(refuses="718"), "the port is another computer's"),
        (UpnpRouter(describes=b"<root/>"), "no service that opens ports"),
        (UpnpRouter(describes=b"x" * (PAGE_MAX + 1)), "a page of more than"),
        (UpnpRouter(address="nowhere"), "no address outside"),
    ],
)
async def test_why_a_router_that_speaks_upnp_opens_nothing_is_said(router: UpnpRouter, says: str) -> None:
    silent = await free_port()
    async with (
        node(Internet(), 1, "192.168.1.5") as host,
        speaking_upnp(router) as place,
        PortMapper.open(host, find_gateway=lambda: HERE, port=silent, search_at=place) as mapper,
    ):
        with anyio.fail_after(10):
            await mapper.settle()
        assert says in mapper.facts()[0].fault


async def test_a_port_of_udp_is_asked_for_as_such() -> None:
    bound = Multiaddr.parse("/ip4/0.0.0.0/udp/4001/quic-v1")
    assert mapper_module._port_of(bound) == (Transport.UDP, 4001)
    outside = mapper_module._outside(bound, Mapping(IPv4Address("9.1.1.1"), 7, "PCP"))
    assert str(outside) == "/ip4/9.1.1.1/udp/7/quic-v1"
