"""Kubo on the same cable, and nothing known of it: found by mDNS, and finding us. Needs root, for network namespaces."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.kubo.daemon import Kubo
from tests.acceptance import namespaces
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place, until

FIND_SECONDS = 10
"""Kubo asks at once, and again after 4 s."""

WHY_NOT = namespaces.missing()
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(WHY_NOT is not None, reason=f"NOT TESTED: mDNS with Kubo; {WHY_NOT}"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for all tests of this file."""
    with temporary_place() as folder:
        yield folder


@pytest.fixture(scope="module")
def wire() -> Iterator[namespaces.Wire]:
    """Kubo is left, we are right."""
    with namespaces.Wire(1000) as cable:
        yield cable


@pytest.fixture(scope="module")
def kubo(place: Path, wire: namespaces.Wire) -> Iterator[Kubo]:
    """A Kubo that speaks mDNS."""
    settings = {"Addresses.Swarm": ["/ip4/0.0.0.0/tcp/4001"], "Discovery.MDNS.Enabled": True}
    with Kubo(place / "kubo", settings=settings, prefix=wire.prefix(wire.left)).running() as running:
        yield running


def ours(place: Path, wire: namespaces.Wire, name: str) -> Machine:
    """A computer of ours that speaks mDNS, as users' do."""
    return Machine(
        place / name,
        listen="/ip4/0.0.0.0/tcp/0",
        prefix=wire.prefix(wire.right),
        settings={"STACK_MDNS": "1"},
    )


def kubo_id(kubo: Kubo) -> str:
    return str(json.loads(kubo.run("id", "--enc=json"))["ID"])


def test_kubo_and_our_daemon_find_each_other(place: Path, wire: namespaces.Wire, kubo: Kubo) -> None:
    machine = ours(place, wire, "daemon")
    with machine.daemon():
        us = good(machine.run("id", "--json")).json["peer_id"]
        until(lambda: us in kubo.run("swarm", "peers").decode(), FIND_SECONDS, "Kubo sees us")
        assert kubo_id(kubo) in [row["peer_id"] for row in good(machine.run("peers", "--json")).json["items"]]
        checks = good(machine.run("doctor", "--json")).json["items"]
        assert any(row["check"] == f"neighbour {kubo_id(kubo)}" and row["verdict"] == "ok" for row in checks), checks
        assert any(row["check"] == "mdns wire, IPv4" and row["verdict"] == "ok" for row in checks), checks


def test_we_dial_a_kubo_that_does_not_dial_us(place: Path, wire: namespaces.Wire, kubo: Kubo) -> None:
    machine = ours(place, wire, "quiet")
    del machine.environment["STACK_LISTEN"]
    with machine.daemon("--listen", "/ip4/127.0.0.1/tcp/0"):  # nothing that could be told on the cable
        until(lambda: kubo_id(kubo) in machine.run("peers", "--json").out, FIND_SECONDS, "we are connected to Kubo")


def test_a_cid_alone_is_enough_to_get_a_file_from_kubo(place: Path, wire: namespaces.Wire, kubo: Kubo) -> None:
    source = make_file(place / "theirs.bin", 2 * MIB, 5)
    root = kubo.run("add", "-Q", "--cid-version", "1", str(source)).decode().strip()
    machine = ours(place, wire, "getter")
    good(machine.run("get", root, "-o", "got.bin"))
    assert sha256(machine.folder / "got.bin") == sha256(source)


def test_a_cid_alone_is_enough_for_kubo_to_get_a_file(place: Path, wire: namespaces.Wire, kubo: Kubo) -> None:
    machine = ours(place, wire, "sharer")
    source = make_file(machine.folder / "ours.bin", 2 * MIB, 6)
    with machine.sharing(source, "--open") as (_, shared):
        kubo.run("get", "-o", str(place / "got.bin"), shared["cid"], timeout=60)
    assert sha256(place / "got.bin") == sha256(source)


def test_without_mdns_nobody_finds_anybody(place: Path, wire: namespaces.Wire, kubo: Kubo) -> None:
    machine = ours(place, wire, "silent")
    with machine.daemon("--no-mdns"):
        report = good(machine.run("doctor", "--json")).out
        assert "switched off" in report
        assert good(machine.run("peers", "--json")).json["items"] == []
