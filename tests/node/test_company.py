"""A fetch does without gossipsub and announcements until it needs them."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import pytest

from stack import Cid, Config, Node
from stack.bitswap.interfaces import Provider
from stack.errors import Refused
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.node import company
from stack.node.announcing import Announcing
from stack.node.api import ListShares, ListTopics
from stack.node.company import Both, Company
from tests.bitswap.simulation import cid_of
from tests.net.hosts import settled

pytestmark = pytest.mark.anyio

ROOT = cid_of(1)
ONE, OTHER = (PeerId.of(generate().public) for _ in range(2))
NEVER = 1e9


class Layer:
    """An announcement layer that knows one provider."""

    def __init__(self) -> None:
        self.steps: list[object] = []

    @property
    def layer(self) -> "Layer":
        return self

    async def find_providers(self, root: Cid, secret: bytes) -> AsyncGenerator[Provider, None]:
        self.steps.append((root, secret))
        yield Provider(ONE, (), "announced")

    def delivered(self, peer: PeerId) -> None:
        self.steps.append(("delivered", peer))

    def failed(self, peer: PeerId) -> None:
        self.steps.append(("failed", peer))

    @asynccontextmanager
    async def both(self) -> AsyncIterator[Both]:
        self.steps.append("begun")
        try:
            yield None, cast(Announcing, self)
        finally:
            await anyio.lowlevel.checkpoint()
            self.steps.append("ended")


async def names(found: Company) -> list[PeerId]:
    return [provider.peer async for provider in found.find_providers(ROOT, b"secret")]


async def test_it_begins_with_the_node_where_it_is_not_put_off() -> None:
    layer = Layer()
    async with Company.open(layer.both(), None, later=False) as found:
        assert layer.steps == ["begun"] and found.announcing is not None
        await found.begin()
    assert layer.steps == ["begun", "ended"]


async def test_put_off_it_begins_when_a_session_looks_for_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "ALONE_SECONDS", NEVER)
    layer = Layer()
    told: list[Company] = []
    async with Company.open(layer.both(), None, later=True) as found:
        found.begun = lambda: told.append(found)
        found.delivered(OTHER)
        found.failed(OTHER)
        await anyio.wait_all_tasks_blocked()
        assert layer.steps == [] and found.announcing is None
        assert await names(found) == [ONE]
        assert told == [found]
        found.delivered(ONE)
        found.failed(ONE)
    assert layer.steps == [
        "begun",
        (ROOT, b"secret"),
        ("delivered", ONE),
        ("failed", ONE),
        "ended",
    ]


async def test_put_off_it_begins_after_a_while_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "ALONE_SECONDS", 0.0)
    layer = Layer()
    async with Company.open(layer.both(), None, later=True):
        await settled(lambda: layer.steps == ["begun"])
    assert layer.steps == ["begun", "ended"]


async def test_a_node_that_ends_before_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "ALONE_SECONDS", NEVER)
    layer = Layer()
    async with Company.open(layer.both(), None, later=True):
        await anyio.wait_all_tasks_blocked()
    assert layer.steps == []


async def test_what_cannot_begin_later_ends_no_node_and_lets_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "ALONE_SECONDS", NEVER)
    told: list[Company] = []

    @asynccontextmanager
    async def broken() -> AsyncIterator[Both]:
        if not told:
            raise Refused("no")
        yield None, None

    async with Company.open(broken(), None, later=True) as found:
        found.begun = lambda: told.append(found)
        assert await names(found) == []
        await found.begin()
        assert not told
    with pytest.raises(Refused):
        async with Company.open(broken(), None, later=False):
            pass


async def test_a_node_that_only_fetches_has_company_when_another_command_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company, "ALONE_SECONDS", NEVER)
    config = Config(home=tmp_path / "home", listen=("/ip4/127.0.0.1/tcp/0",), role="get", mdns=False)
    async with Node.open(config) as node:
        states = [node.announces]
        assert await node.ask(ListShares()) == ()
        states.append(node.announces)
        assert await node.ask(ListTopics()) == ()
        states.append(node.announces)
        assert states == [False, False, True]
        assert node.pubsub is not None
