"""Others try for us whether we can be reached, by AutoNAT 2. Needs root, for network namespaces with public addresses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop import build
from interop.driver import Peer
from tests.acceptance import namespaces
from tests.acceptance.kit import Machine, good, temporary_place, until

TRY_SECONDS = 30
"""We begin at once when `doctor` asks, as soon as we have met the other."""

WHY_NOT = namespaces.missing()
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(WHY_NOT is not None, reason=f"NOT TESTED: AutoNAT with others; {WHY_NOT}"),
]


class Outside(namespaces.Wire):
    """Both ends have addresses that are public."""

    LEFT, RIGHT = "9.77.0.1", "9.77.0.2"


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_place() as folder:
        yield folder


@pytest.mark.parametrize("kind", ["kubo", "go"])
@pytest.mark.parametrize("told", ["reached", "not reached"])
def test_another_tells_us_whether_we_are_reached(place: Path, told: str, kind: str) -> None:
    if (reason := build.why_not_now(kind)) is not None:
        pytest.skip(reason)
    with Outside(1000) as wire:
        command = [*wire.prefix(wire.left), *build.command(kind)]
        other = Peer(kind, kind, "--relay", "service", listen="/ip4/9.77.0.1/tcp/4001", command=command)
        try:
            machine = Machine(place / "ours", listen="/ip4/9.77.0.2/tcp/4001", prefix=wire.prefix(wire.right))
            if told == "not reached":
                door = "add table ip door; add chain ip door in { type filter hook input priority 0; }"
                # Only what begins a connection: we dial from that port too, and the answers are let in.
                begins = "tcp dport 4001 tcp flags & (syn | ack) == syn"
                wire.inside(wire.right, "nft", f"{door}; add rule ip door in {begins} reject with tcp reset")
            with machine.daemon("--bootstrap", f"/ip4/9.77.0.1/tcp/4001/p2p/{other.id}"):
                detail = "1 peer outside came that way" if told == "reached" else "1 peer outside tried and could not"

                def is_told() -> bool:
                    checks = good(machine.run("doctor", "--json")).json["items"]
                    return any(row["check"] == "outside 9.77.0.2:4001" and detail in row["detail"] for row in checks)

                until(is_told, TRY_SECONDS, detail)
        finally:
            other.quit()
