"""A transport, a protocol, a store and a command of somebody else, each a file and a row: what docs/extending.md says, tried."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest

from stack import Cid, Config, Multiaddr, Node
from stack.blocks import STORES
from stack.blocks.memory import MemoryStore
from stack.cli import COMMANDS
from stack.errors import ConfigError
from stack.identity.peer_id import PeerId
from stack.muxers import MUXERS
from stack.muxers.yamux.shell import YamuxConnection, YamuxMuxer
from stack.net.host import Host
from stack.node import build
from stack.node.build import entry_points, may_be_offered
from stack.protocols import SERVICES
from stack.sansio.budget import Scope
from stack.security.noise.shell import NoiseSecurity
from stack.streams.interfaces import RawStream, SecureChannel, Stream
from stack.trace import Trace
from stack.transports import TRANSPORTS
from stack.transports.interfaces import Listener
from stack.transports.memory import MemoryTransport

HERE = __name__


class PigeonTransport:
    """Carries `/memory` addresses, and counts its flights."""

    flights = 0

    def __init__(self) -> None:
        self._lower = MemoryTransport()

    def can_dial(self, address: Multiaddr) -> bool:
        return address.protocols == ("memory",)

    def can_listen(self, address: Multiaddr) -> bool:
        return self.can_dial(address)

    async def dial(self, address: Multiaddr) -> RawStream:
        PigeonTransport.flights += 1
        return await self._lower.dial(address)

    async def listen(self, address: Multiaddr) -> Listener:
        return await self._lower.listen(address)


class ShoutService:
    """`/shout/1.0.0`: answers in capitals."""

    def __init__(self, host: Host) -> None:
        host.handle("/shout/1.0.0", self._serve)

    async def _serve(self, stream: Stream) -> None:
        await stream.send((await stream.receive()).upper())


class CountingStore(MemoryStore):
    """A store that knows how often it was opened."""

    opened = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, home: Path | None = None, *, quota: int | None = None, trace: Trace | None = None
    ) -> AsyncIterator["CountingStore"]:
        cls.opened += 1
        yield cls()


@click.command()
@click.argument("name")
def greet(name: str) -> None:
    """Greets."""
    click.echo(f"hello {name}")


@pytest.mark.anyio
async def test_a_transport_is_a_file_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSPORTS, "memory", f"{HERE}:PigeonTransport")
    async with Node.open(Config(listen=("/memory/7007",))) as one, Node.open() as two:
        before = PigeonTransport.flights
        await two.connect(one.addresses()[0])
        assert PigeonTransport.flights == before + 1


@pytest.mark.anyio
async def test_a_protocol_is_a_file_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SERVICES, "shout", f"{HERE}:ShoutService")
    async with Node.open() as one, Node.open() as two:
        await two.connect(one.addresses()[0])
        stream = await two.host.open_stream(one.peer_id, "/shout/1.0.0")
        await stream.send(b"hello")
        assert await stream.receive() == b"HELLO"
        await stream.aclose()


class LoudNoise(NoiseSecurity):
    """Noise by another name."""

    upgrades = 0

    async def upgrade(
        self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        LoudNoise.upgrades += 1
        return await super().upgrade(stream, outbound=outbound, expected=expected, muxers=muxers)


@pytest.mark.anyio
async def test_security_of_another_package_is_an_entry_point_and_is_named_by_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = EntryPoint("/loud/1.0.0", f"{HERE}:LoudNoise", "stack.security")

    def offering(group: str, name: str | None = None) -> Sequence[EntryPoint]:
        if group != offered.group:
            return entry_points(group, name)
        return [offered] if name in (None, offered.name) else ()

    monkeypatch.setattr(build, "entry_points", offering)
    config = Config(security=("/loud/1.0.0", "tls"))
    async with Node.open(config) as one, Node.open(config) as two:
        before = LoudNoise.upgrades
        await two.connect(one.addresses()[0])
        assert LoudNoise.upgrades == before + 2
    with pytest.raises(ConfigError, match="security: 'plain' is not one of noise, tls, and no package"):
        async with Node.open(Config(security=("plain",))):
            pass


class SteadyYamux(YamuxMuxer):
    """Yamux by another name."""

    connections = 0

    def connection(self, channel: SecureChannel, *, outbound: bool, scope: Scope) -> YamuxConnection:
        SteadyYamux.connections += 1
        return super().connection(channel, outbound=outbound, scope=scope)


@pytest.mark.anyio
async def test_a_muxer_of_another_package_is_an_entry_point_and_comes_after_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = EntryPoint("/steady/1.0.0", f"{HERE}:SteadyYamux", "stack.muxers")
    monkeypatch.setattr(build, "entry_points", lambda group, name=None: [offered] if group == offered.group else ())
    async with Node.open() as one, Node.open() as two:
        before = SteadyYamux.connections
        await two.connect(one.addresses()[0])
        assert SteadyYamux.connections == before
    monkeypatch.delitem(MUXERS, "/yamux/1.0.0")
    async with Node.open() as one, Node.open() as two:
        await two.connect(one.addresses()[0])
        assert SteadyYamux.connections == before + 2


@pytest.mark.anyio
async def test_a_store_is_a_file_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STORES, "counting", f"{HERE}:CountingStore")
    async with Node.open(Config(store="counting")) as node:
        assert CountingStore.opened
        await node.put([(Cid.of(b"x"), b"x")])
        assert await node.store.get(Cid.of(b"x")) == b"x"


def test_a_command_is_a_file_and_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from stack.cli.app import run

    monkeypatch.setitem(COMMANDS, "greet", f"{HERE}:greet")
    with pytest.raises(SystemExit) as ended:
        run(["greet", "you"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "hello you\n"
    assert HERE in sys.modules


def short(*arguments: object) -> object:
    """What has no descriptor left."""
    raise OSError(24, "Too many open files")


def test_packages_are_asked_only_where_one_of_them_may_offer_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive.zip").write_bytes(b"")
    for name, group in (("one", "stack.services"), ("other", "console_scripts"), ("bare", None)):
        (tmp_path / name / f"{name}-1.dist-info").mkdir(parents=True)
        (tmp_path / name / f"{name}-1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        if group is not None:
            text = f"[{group}]\nmine = {name}.service:Mine\n"
            (tmp_path / name / f"{name}-1.dist-info" / "entry_points.txt").write_text(text)
    places = {name: str(tmp_path / name) for name in ("one", "other", "bare", "missing", "archive.zip")}
    found = {name: may_be_offered("stack.services", [place]) for name, place in places.items()}
    assert found == {"one": True, "other": False, "bare": False, "missing": False, "archive.zip": True}
    with monkeypatch.context() as moment:
        for name in ("os.listdir", "pathlib.Path.read_text"):
            moment.setattr(name, short)
            assert may_be_offered("stack.services", [places["other"]]), (
                "it was not there for a moment without descriptors"
            )
    monkeypatch.setattr("sys.path", [places["other"], places["one"]])
    assert [entry.value for entry in entry_points("stack.services")] == ["one.service:Mine"]
    assert [entry.value for entry in entry_points("stack.services", "mine")] == ["one.service:Mine"]
    assert not entry_points("stack.services", "yours")
    monkeypatch.setattr("sys.path", [places["other"]])
    assert entry_points("stack.services") == ()
