"""Ports of a host at a router on loopback."""

import anyio
import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.portmap.service import NO_ROUTER, NOT_NEEDED, PortMapper
from tests.net.hosts import settled
from tests.net.identities import key
from tests.net.internet import Internet, Line, at, node
from tests.portmap.routers import Router, listening

pytestmark = pytest.mark.anyio
HERE = "127.0.0.1"


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
    async with node(Internet(), 1, "192.168.1.5") as host, listening(Router(address="100.64.3.4")) as port:
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


async def test_who_has_a_public_address_asks_nobody() -> None:
    async with node(Internet(), 1, "9.1.1.1") as host, PortMapper.open(host, find_gateway=lambda: HERE) as mapper:
        await mapper.settle()
        assert (mapper.facts(), mapper.gateway, mapper.fault) == ([], None, NOT_NEEDED)


async def test_a_router_that_cannot_be_spoken_to_harms_nobody() -> None:
    async with node(Internet(), 1, "192.168.1.5") as host:
        async with PortMapper.open(host, find_gateway=lambda: "255.255.255.255") as mapper:
            await mapper.settle()
            assert "cannot be asked" in mapper.fault
        async with listening(Router()) as port:
            free = port
        async with PortMapper.open(host, find_gateway=lambda: HERE, port=free) as mapper:
            with anyio.fail_after(10):
                await mapper.settle()
            assert mapper.facts()[0].fault


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
