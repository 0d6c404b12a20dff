"""How a node finds others: its settings, its file of peers, its private network."""

import json
import os
from pathlib import Path

import anyio
import pytest

from stack.blocks.disk import read_regular
from stack.cli.doctor import _node as examined
from stack.errors import ConfigError, Refused, StackError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.interfaces import DialError
from stack.node.api import GetDiscovery
from stack.node.config import Config
from stack.node.discover import PEERS_FILE, private_network
from stack.node.listen import PORT_FILE, usual_addresses
from stack.node.node import Node
from stack.security.pnet.key import encode_swarm_key
from stack.transports import TRANSPORTS
from stack.transports.late import LateTransport, of_row, protectable
from stack.transports.memory import MemoryTransport

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
KEY, OTHER = b"k" * 32, b"o" * 32


def member(place: Path, key: bytes | None = KEY, **settings: object) -> Config:
    """A node with a home, in the network of this key."""
    place.mkdir(exist_ok=True)
    if key is not None:
        (place / "swarm.key").write_bytes(encode_swarm_key(key))
    return Config(home=place, listen=LOOPBACK, **settings)  # type: ignore[arg-type]


def test_the_key_is_found_in_the_home_or_where_the_setting_says(tmp_path: Path) -> None:
    assert private_network(Config(), {}) is None
    assert private_network(Config(home=tmp_path), {}) is None
    at_home = private_network(member(tmp_path), {"LIBP2P_FORCE_PNET": "1"})
    assert at_home is not None
    elsewhere = tmp_path / "other.key"
    elsewhere.write_bytes(encode_swarm_key(OTHER))
    other = private_network(Config(home=tmp_path, swarm_key=elsewhere), {})
    assert other is not None
    assert other.fingerprint != at_home.fingerprint


def test_a_node_that_is_forced_into_a_private_network_does_not_start_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LIBP2P_FORCE_PNET"):
        private_network(Config(home=tmp_path), {"LIBP2P_FORCE_PNET": "1"})


@pytest.mark.parametrize("content", [b"nonsense", None])
def test_a_key_that_cannot_be_read_is_an_error_and_never_the_public_network(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "a.key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"swarm_key: .*a\.key"):
        private_network(Config(swarm_key=file), {})


def test_a_key_of_which_it_cannot_be_seen_whether_it_is_there_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> os.stat_result:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "lstat", broken)
    with pytest.raises(ConfigError, match="Input/output error"):
        private_network(Config(home=tmp_path), {})


@pytest.mark.anyio
async def test_a_file_goes_through_a_private_network_and_no_outsider_gets_in(tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "f.bin").write_bytes(data)
    async with Node.open(member(tmp_path / "a")) as one, Node.open(member(tmp_path / "b")) as two:
        ticket = await one.share(tmp_path / "f.bin")
        assert (await two.get(ticket, tmp_path / "out")).read_bytes() == data
        assert [fact.what for fact in await one.ask(GetDiscovery())] == ["private network", "mdns", "clock"]
        (at,) = one.addresses()
        async with Node.open(member(tmp_path / "c", OTHER)) as stranger:
            # Whoever answers says nothing before it has heard something that it understands.
            with pytest.raises(DialError, match="the key of this private network"):
                await stranger.connect(at)
            with pytest.raises(DialError, match="the key of this private network"):
                await one.connect(stranger.addresses()[0])
        async with Node.open(Config(listen=LOOPBACK)) as public:
            with pytest.raises(StackError):
                await public.connect(at)
        assert {row.peer for row in one.host.connections()} == {two.peer_id}


@pytest.mark.anyio
async def test_a_transport_that_cannot_carry_a_private_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryTransport, "protectable", False)
    async with Node.open(member(tmp_path)) as node:
        here = Multiaddr.parse("/memory/77")
        with pytest.raises(StackError, match="cannot carry a private network"):
            await node.host.listen(here)
        with pytest.raises(StackError, match="cannot carry a private network"):
            await node.connect(here)


def test_every_transport_of_ours_says_whether_it_can_be_private() -> None:
    addresses = {
        "memory": "/memory/7",
        "tcp": "/ip4/127.0.0.1/tcp/1",
        "ws": "/ip4/127.0.0.1/tcp/1/ws",
    }
    for name, text in addresses.items():
        transport = LateTransport(lambda name=name: of_row(TRANSPORTS[name]))  # type: ignore[misc] # a default of a lambda
        assert protectable(transport, Multiaddr.parse(text))
        assert not protectable(transport, Multiaddr.parse("/ip4/1.2.3.4/udp/1"))


@pytest.mark.anyio
async def test_a_restarted_node_finds_its_peers_again(tmp_path: Path) -> None:
    settings = {"remember_peers": True}
    async with Node.open(Config(listen=LOOPBACK)) as other:
        async with Node.open(member(tmp_path, None, **settings)) as node:
            await node.connect(other.addresses()[0])
        row = json.loads((tmp_path / PEERS_FILE).read_text())["peers"][0]
        assert row["peer"] == str(other.peer_id)
        async with Node.open(member(tmp_path, None, **settings)) as node:
            with anyio.fail_after(10):
                while not node.host.is_connected(other.peer_id):
                    await anyio.sleep(0.01)
        (tmp_path / PEERS_FILE).write_bytes(b"\0damaged")
        async with Node.open(member(tmp_path, None, **settings)) as node:
            facts = await node.ask(GetDiscovery())
            assert "damaged and begun anew" in facts[-1].detail
        assert json.loads((tmp_path / PEERS_FILE).read_text())["peers"] == []


@pytest.mark.anyio
async def test_a_file_of_peers_that_cannot_be_read_does_not_stop_the_node(tmp_path: Path) -> None:
    (tmp_path / PEERS_FILE).mkdir()
    async with Node.open(member(tmp_path, None, remember_peers=True)) as node:
        assert node.discovery is not None
        await node.discovery._save(last=True)
        (_, fact) = await node.ask(GetDiscovery())
        assert "cannot be read, and is left as it is: Is a directory" in fact.detail


def out_of_descriptors(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """For who reads a file of this name."""

    def short(path: Path, length: int = -1) -> bytes:
        if path.name == name:
            raise OSError(24, "Too many open files")
        return read_regular(path, length)

    monkeypatch.setattr("stack.node.listen.read_regular", short)
    monkeypatch.setattr("stack.node.discover.read_regular", short)


@pytest.mark.anyio
async def test_peers_of_earlier_runs_that_cannot_be_read_now_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Config(home=tmp_path, listen=LOOPBACK, remember_peers=True)
    async with Node.open(Config(listen=LOOPBACK)) as other, Node.open(settings) as node:
        await node.connect(other.addresses()[0])
    before = (tmp_path / PEERS_FILE).read_bytes()
    out_of_descriptors(monkeypatch, PEERS_FILE)
    async with Node.open(settings) as node:
        (_, fact) = await node.ask(GetDiscovery())
        assert "cannot be read, and is left as it is: Too many open files" in fact.detail
    assert (tmp_path / PEERS_FILE).read_bytes() == before


@pytest.mark.anyio
async def test_a_port_of_earlier_runs_that_cannot_be_read_now_is_not_written_over_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another was taken and kept, without a word: the tickets of earlier runs were dead."""
    monkeypatch.setattr("stack.node.listen.EVERYWHERE", ("/ip4/127.0.0.1/tcp/{port}",))
    settings = Config(home=tmp_path)
    async with Node.open(settings) as node:
        assert not node.notices
    port = (tmp_path / PORT_FILE).read_text()
    with monkeypatch.context() as moment:
        out_of_descriptors(moment, PORT_FILE)
        async with Node.open(settings) as node:
            (notice,) = node.notices
            assert "port cannot be read (Too many open files), this node now listens on" in notice
        with pytest.raises(Refused, match="Too many open files"):
            usual_addresses(settings)
    async with Node.open(settings) as node:
        assert not node.notices
        assert (tmp_path / PORT_FILE).read_text() == port == node.addresses()[0].get("tcp")
    (tmp_path / PORT_FILE).write_text("70000")
    assert usual_addresses(settings) == []
    async with Node.open(settings) as node:
        (notice,) = node.notices
        assert "port is damaged, this node now listens on" in notice
        assert (tmp_path / PORT_FILE).read_text() == node.addresses()[0].get("tcp")


@pytest.mark.anyio
async def test_nobody_is_looked_for_by_default_nor_by_commands_of_a_moment(tmp_path: Path) -> None:
    async with Node.open() as node:
        assert node.discovery is None
        assert [(fact.what, fact.detail) for fact in await node.ask(GetDiscovery())] == [("mdns", "switched off")]
    async with Node.open(member(tmp_path, None, role="command", remember_peers=True, mdns=True)) as node:
        assert node.discovery is None


@pytest.mark.anyio
async def test_the_doctor_says_what_was_tried_and_what_failed(tmp_path: Path) -> None:
    async with Node.open(Config(listen=LOOPBACK)) as other:
        bootstrap = (str(other.addresses()[0]), "/memory/999")
        config = Config(home=tmp_path, role="doctor", bootstrap=bootstrap, remember_peers=True)
        findings = {finding.check: finding for finding in await examined(config)}
        assert findings["mdns"].detail == "switched off"
        good, bad = findings[f"bootstrap {bootstrap[0]}"], findings["bootstrap /memory/999"]
        assert (good.verdict, good.detail) == ("ok", f"connected to {other.peer_id}")
        assert bad.verdict == "warning"
        assert "nobody listens there" in bad.detail
        assert "0 remembered" in findings["saved peers"].detail
