"""go-libp2p in the lab of `tests.lab.nat`: two of it behind two routers, one of which dials the other through a relay of ours, and after
how long a direct connection stood.

    python -m interop.nat [KIND KIND] [--only KIND]... [--quic]      # root; without kinds every pair, or those with one of these
"""

import argparse
import itertools
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from interop import build
from interop.driver import Peer
from tests.acceptance.kit import Machine, good
from tests.lab import nat

MEET_SECONDS = 2.0
"""For each to have met the relay: it tells where it sees them."""
PLACE_SECONDS = 30.0
SECONDS = 25.0
"""For three tries of hole punching."""


def punch(kinds: tuple[str, str], *, quic: bool) -> str:
    """How the second reached the first, and after how many seconds."""
    listen = f"{nat.address(quic, '0.0.0.0')} {nat.address(quic, '::')}"
    with nat.Homes(kinds) as net, tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        relay = Machine(Path(place), listen=listen, prefix=net.prefix(net.relay))
        stack.enter_context(relay.daemon("--relay"))
        front = f"{nat.address(quic, nat.RELAY)}/p2p/{good(relay.run('id', '--json')).json['peer_id']}"
        dialled, dialler = (
            Peer("go", home, "--relay", role, listen=listen, command=[*net.prefix(home), *build.command("go")])
            for home, role in zip(net.homes, (front, "client"), strict=True)
        )
        stack.callback(dialled.quit)
        stack.callback(dialler.quit)
        if kinds[0] == "open":
            begun = time.monotonic()
            way = f"{nat.address(quic, net.outside(0))}/p2p/{dialled.id}"
            dialler.ask("connect", way, answer=f"connected {dialled.id}")
            return f"direct, {time.monotonic() - begun:.1f} s"
        dialler.ask("connect", front, answer="connected")
        time.sleep(MEET_SECONDS)
        begun = _relayed(dialler, f"{front}/p2p-circuit/p2p/{dialled.id}", dialled.id)
        while time.monotonic() - begun < SECONDS:
            if dialler.catch_up().count(("connected", dialled.id)) > 1:  # one for each connection
                return f"punched, {time.monotonic() - begun:.1f} s"
            time.sleep(0.05)
        return "relayed"


def _relayed(dialler: Peer, way: str, peer: str) -> float:
    """When it had dialled through the relay: as soon as the other has its place there."""
    until = time.monotonic() + PLACE_SECONDS
    while True:
        begun = time.monotonic()
        try:
            dialler.say("connect", way)
            dialler.wait("connected", peer, seconds=2.0)
        except TimeoutError:
            if time.monotonic() > until:
                raise
        else:
            return begun


def main() -> None:
    """Run one pair, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*nat.KINDS, []], metavar="KIND")
    parser.add_argument("--only", action="append", choices=nat.KINDS, default=[], help="pairs with one of these")
    parser.add_argument("--quic", action="store_true", help="by QUIC alone, in place of TCP")
    given = parser.parse_args()
    pairs = [tuple(given.kinds)] if given.kinds else list(itertools.product(nat.KINDS, nat.KINDS))
    print("| is dialled | dials | went |\n|---|---|---|")
    for first, second in pairs:
        if not given.only or {*given.only} & {first, second}:
            print(f"| {first} | {second} | {punch((first, second), quic=given.quic)} |", flush=True)


if __name__ == "__main__":
    main()
