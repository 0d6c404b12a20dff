"""Relays and hole punching against Kubo and go-libp2p as they are, each side in each role."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from interop import build
from interop.driver import LISTEN, Peer
from tests.acceptance.kit import Machine, good, until
from tests.lab import nat

pytestmark = pytest.mark.timeout(300)

PLACE_SECONDS = 60
"""Until a peer has its place at a relay."""


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.skip(reason)] if (reason := build.why_not_now(kind)) else [])
        for kind in ("kubo", "go")
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    """One of the others."""
    return str(request.param)


@contextmanager
def peer(kind: str, role: str, *prefix: str, listen: str = LISTEN) -> Iterator[Peer]:
    """Another's peer with this role, see lines.md; `prefix` says in which namespace."""
    one = Peer(kind, kind, "--relay", role, listen=listen, command=[*prefix, *build.command(kind)])
    try:
        yield one
    finally:
        one.quit()


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine]:
    return Machine(tmp_path / "first"), Machine(tmp_path / "second")


def identity(machine: Machine) -> str:
    return str(good(machine.run("id", "--json")).json["peer_id"])


def test_another_is_the_relay(kind: str, machines: tuple[Machine, Machine]) -> None:
    home, guest = machines
    with (
        peer(kind, "service") as relay,
        peer(kind, "client") as stranger,
        home.daemon("--relay-via", relay.address),
        guest.daemon(),
    ):
        assert any("p2p-circuit" in address for address in good(home.run("id", "--json")).json["addresses"])
        ours = identity(home)
        way = f"{relay.address}/p2p-circuit/p2p/{ours}"
        good(guest.run("connect", way))
        good(guest.run("ping", ours, "-n", "2"))
        rows = [row for row in good(guest.run("peers", "--json")).json["items"] if row["peer_id"] == ours]
        assert any(row["relayed"] and row["limited"] for row in rows)
        stranger.say("connect", way)
        stranger.wait("connected", ours)


def test_we_are_the_relay_and_another_is_behind_it_or_comes_through_it(
    kind: str, machines: tuple[Machine, Machine]
) -> None:
    relay, other = machines
    with relay.daemon("--relay"):
        front = relay.address()
        with peer(kind, front) as theirs, other.daemon("--relay-via", front):
            way = f"{front}/p2p-circuit/p2p/{theirs.id}"
            until(lambda: other.run("connect", way).code == 0, PLACE_SECONDS, f"{kind} at our relay")
            good(other.run("ping", theirs.id))
            good(other.run("disconnect", theirs.id))
            ours = identity(other)
            theirs.wait("disconnected", ours)
            since = len(theirs.catch_up())
            theirs.say("connect", f"{front}/p2p-circuit/p2p/{ours}")
            theirs.wait("connected", ours, since=since)


@pytest.mark.parametrize("listens", ["theirs", "ours"])
def test_a_hole_is_punched(listens: str, kind: str, tmp_path: Path) -> None:
    """Who listens at the relay begins; both stand behind routers that let in only answers."""
    reason = nat.missing() or (None if os.environ.get("STACK_INTEROP_ALL") else "is part of the long form")
    if reason is not None:
        pytest.skip(f"NOT TESTED: hole punching with {kind}; it {reason}")
    with nat.Homes(("port", "port")) as net, ExitStack() as stack:
        listen = f"/ip4/0.0.0.0/tcp/{nat.PORT}"
        relay, home = (
            Machine(tmp_path / name, listen=listen, prefix=net.prefix(namespace))
            for name, namespace in (("relay", net.relay), ("home", net.homes[0]))
        )
        stack.enter_context(relay.daemon("--relay"))
        front = f"/ip4/{nat.RELAY}/tcp/{nat.PORT}/p2p/{identity(relay)}"
        role = front if listens == "theirs" else "client"
        theirs = stack.enter_context(peer(kind, role, *net.prefix(net.homes[1]), listen=listen))
        stack.enter_context(home.daemon(*(() if listens == "theirs" else ("--relay-via", front))))
        if listens == "theirs":
            way = f"{front}/p2p-circuit/p2p/{theirs.id}"
            until(lambda: home.run("connect", way).code == 0, PLACE_SECONDS, f"{kind} at our relay")
        else:
            theirs.say("connect", f"{front}/p2p-circuit/p2p/{identity(home)}")

        def direct() -> bool:
            time.sleep(0.5)
            rows = good(home.run("peers", "--json")).json["items"]
            return any(row["peer_id"] == theirs.id and not row["relayed"] for row in rows)

        until(direct, 30, "a direct connection")
