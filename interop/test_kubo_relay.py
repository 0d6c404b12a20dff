"""Relays and hole punching against Kubo as it is, each side in each role."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import Machine, good, until
from tests.lab import nat

pytestmark = pytest.mark.timeout(300)

PRIVATE = {"Internal.Libp2pForceReachability": "private", "Swarm.EnableHolePunching": True}


def identity(kubo: Kubo) -> str:
    return str(json.loads(kubo.run("id"))["ID"])


def at_relay(front: str) -> Mapping[str, object]:
    """Settings of a Kubo that has a place at a relay."""
    return {**PRIVATE, "Swarm.RelayClient": {"Enabled": True, "StaticRelays": [front]}}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    yield Machine(tmp_path / "first"), Machine(tmp_path / "second")


def test_kubo_is_the_relay(tmp_path: Path, machines: tuple[Machine, Machine]) -> None:
    home, guest = machines
    settings = {"Swarm.RelayService.Enabled": True, "Internal.Libp2pForceReachability": "public"}
    with Kubo(tmp_path / "kubo", settings=settings).running() as kubo:
        circuit = f"{kubo.address}/p2p-circuit"
        peer = good(home.run("id", "--json")).json["peer_id"]
        with home.daemon("--relay-via", kubo.address), guest.daemon():
            assert any("p2p-circuit" in address for address in good(home.run("id", "--json")).json["addresses"])
            good(guest.run("connect", f"{circuit}/p2p/{peer}"))
            good(guest.run("ping", peer, "-n", "2"))
            rows = [row for row in good(guest.run("peers", "--json")).json["items"] if row["peer_id"] == peer]
            assert any(row["relayed"] and row["limited"] for row in rows)


def test_we_are_the_relay_and_kubo_is_behind_it_or_comes_through_it(
    tmp_path: Path, machines: tuple[Machine, Machine]
) -> None:
    relay, other = machines
    with relay.daemon("--relay"):
        front = relay.address()
        with Kubo(tmp_path / "kubo", settings=at_relay(front)).running() as kubo, other.daemon("--relay-via", front):
            theirs = identity(kubo)
            until(lambda: other.run("connect", f"{front}/p2p-circuit/p2p/{theirs}").code == 0, 60, "Kubo at our relay")
            good(other.run("disconnect", theirs))
            ours = good(other.run("id", "--json")).json["peer_id"]
            kubo.run("swarm", "connect", f"{front}/p2p-circuit/p2p/{ours}")
            until(lambda: ours in kubo.run("swarm", "peers").decode(), 10, "Kubo connected to us")


@pytest.mark.parametrize("listens", ["kubo", "ours"])
def test_a_hole_is_punched_with_kubo(listens: str, tmp_path: Path) -> None:
    """Who listens at the relay begins; both stand behind routers that let in only answers."""
    reason = nat.missing() or (None if os.environ.get("STACK_INTEROP_ALL") else "is part of the long form")
    if reason is not None:
        pytest.skip(f"NOT TESTED: hole punching with Kubo; it {reason}")
    with nat.Homes(("port", "port")) as net, ExitStack() as stack:
        listen = f"/ip4/0.0.0.0/tcp/{nat.PORT}"
        relay, home = (
            Machine(tmp_path / name, listen=listen, prefix=net.prefix(namespace))
            for name, namespace in (("relay", net.relay), ("home", net.homes[0]))
        )
        stack.enter_context(relay.daemon("--relay"))
        front = f"/ip4/{nat.RELAY}/tcp/{nat.PORT}/p2p/{good(relay.run('id', '--json')).json['peer_id']}"
        settings = at_relay(front) if listens == "kubo" else {**PRIVATE, "Swarm.RelayClient.Enabled": True}
        settings = {**settings, "Addresses.Swarm": [listen]}
        kubo = stack.enter_context(
            Kubo(tmp_path / "kubo", settings=settings, prefix=net.prefix(net.homes[1])).running()
        )
        stack.enter_context(home.daemon(*(() if listens == "kubo" else ("--relay-via", front))))
        ours, theirs = good(home.run("id", "--json")).json["peer_id"], identity(kubo)
        if listens == "kubo":
            until(lambda: home.run("connect", f"{front}/p2p-circuit/p2p/{theirs}").code == 0, 60, "Kubo at our relay")
        else:
            kubo.run("swarm", "connect", f"{front}/p2p-circuit/p2p/{ours}")

        def direct() -> bool:
            time.sleep(0.5)
            rows = good(home.run("peers", "--json")).json["items"]
            return any(row["peer_id"] == theirs and not row["relayed"] for row in rows)

        until(direct, 30, "a direct connection")
