"""What a node finds out of how it stands to the outside, and how it tells that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.net.host import Host
from stack.node import outside as module
from stack.node.config import Config
from stack.node.outside import Outside
from stack.portmap.shell import mapper as portmap
from stack.portmap.shell import upnp
from stack.protocols.autonat import service as autonat
from stack.protocols.autonat.service import AutonatService
from tests.net.hosts import settled
from tests.net.internet import Internet, at, node
from tests.portmap.routers import Router, listening

pytestmark = pytest.mark.anyio
HERE = "127.0.0.1"


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Router:
    """The router of this network, once it listens."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(autonat, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(upnp, "SEARCH_WAITS", (0.2,))
    return Router()


@asynccontextmanager
async def standing(
    router: Router, monkeypatch: pytest.MonkeyPatch, host: Host, **settings: object
) -> AsyncIterator[Outside]:
    """The outside of a host whose router is this one."""
    config = Config(**{"portmap": True, **settings})  # type: ignore[arg-type]  # settings of the test
    service = AutonatService(host)
    async with listening(router) as port:
        open_ = portmap.PortMapper.open
        monkeypatch.setattr(
            portmap.PortMapper,
            "open",
            lambda host: open_(host, find_gateway=lambda: HERE, port=port, search_at=(HERE, port)),
        )
        monkeypatch.setattr(module, "default_gateway", lambda: HERE)
        async with Outside.open(host, config, service) as outside:
            yield outside


def told(outside: Outside) -> dict[str, tuple[bool | None, str]]:
    return {f"{fact.what} {fact.subject}".strip(): (fact.ok, fact.detail) for fact in outside.facts()}


async def test_a_router_that_opens_a_port_and_a_peer_that_came_through_it(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Internet()
    net.forwards["9.1.1.1", 4002] = ("192.168.1.5", 4001)
    async with node(net, 2, "8.8.8.1") as server, node(net, 1, "192.168.1.5", outside="9.1.1.1") as host:
        AutonatService(server)
        async with standing(router, monkeypatch, host) as outside:
            assert outside.is_pending
            with anyio.fail_after(10):
                await outside.settle(5)
                assert outside.mapped() == [at("9.1.1.1", 4002)]
                assert told(outside)[f"router {HERE}"][0] is True
                assert told(outside)["outside 9.1.1.1:4002"][0] is None
                await host.connect(server.peer_id, server.addresses())
                await settled(lambda: told(outside)["outside 9.1.1.1:4002"] == (True, "1 peer outside came that way"))
                await settled(lambda: not outside.is_pending)
        await settled(lambda: router.opened == {4001: 0})


async def test_a_router_that_does_not_want_to_is_told_with_what_to_do_by_hand(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.result = 2
    net = Internet()
    async with (
        node(net, 2, "8.8.8.1") as server,
        node(net, 3, "8.8.9.1") as other,
        node(net, 1, "192.168.1.5", outside="9.1.1.1") as host,
        standing(router, monkeypatch, host) as outside,
    ):
        for each in (server, other):
            AutonatService(each)
            await host.connect(each.peer_id, each.addresses())
        await settled(lambda: outside.verdicts() != [] and outside.verdicts()[0].peers == 2)
        ok, detail = told(outside)[f"router {HERE}"]
        assert ok is False and "forward TCP port 4001" in detail and "--external" in detail
        assert told(outside)["outside"] == (True, "others see this node at 9.1.1.1")
        assert told(outside)["outside 9.1.1.1:4001"] == (False, "2 peers outside tried and could not come that way")


async def test_a_port_that_is_forwarded_by_hand_needs_no_router_that_opens_it(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.result = 2
    net = Internet()
    net.forwards["9.1.1.1", 4001] = ("192.168.1.5", 4001)
    async with (
        node(net, 2, "8.8.8.1") as server,
        node(net, 3, "8.8.9.1") as other,
        node(net, 1, "192.168.1.5", outside="9.1.1.1") as host,
        standing(router, monkeypatch, host) as outside,
    ):
        for each in (server, other):
            AutonatService(each)
            await host.connect(each.peer_id, each.addresses())
        await settled(lambda: outside.verdicts() != [] and outside.verdicts()[0].open is True)
        with anyio.fail_after(10):
            await outside.settle(5)
        ok, detail = told(outside)[f"router {HERE}"]
        assert ok is None and "need not" in detail


async def test_where_no_router_is_asked_that_is_said(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(Internet(), 1, "192.168.1.5") as host:
        async with standing(router, monkeypatch, host, portmap=False) as outside:
            await outside.settle(5)
            assert not outside.is_pending and not router.opened
            assert told(outside) == {}
        monkeypatch.setattr(module, "IDLE_SECONDS", 60.0)
        async with standing(router, monkeypatch, host) as outside:
            assert told(outside) == {}


async def test_who_has_bootstrap_peers_waits_for_them_a_moment(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap = ("/ip4/9.9.9.9/tcp/1",)
    async with (
        node(Internet(), 1, "192.168.1.5") as host,
        standing(router, monkeypatch, host, portmap=False, bootstrap=bootstrap) as outside,
    ):
        assert outside.is_pending
        started = anyio.current_time()
        await outside.settle(0.05)
        assert anyio.current_time() - started >= 0.05
        monkeypatch.setattr(module, "EXPECTING_SECONDS", 0.0)
        assert not outside.is_pending
