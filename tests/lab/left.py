"""Alice shares, Bob fetches and seeds, Alice leaves: how long Dave's `get TICKET` takes. `python -m tests.lab.left`; needs root.

Three computers and one that all know, on one network. Dave finds Bob by mDNS, through the peer that all know, or since it was
announced; Alice has ended her share, or her cable is pulled; Dave begins when Bob is there, or waits for him.
"""

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place
from tests.acceptance.namespaces import Star

ALICE, BOB, DAVE, KNOWN = range(4)
PROMISED = 5.0
"""Seconds from when Bob is in sight, or Dave has begun, whichever is later."""
PATIENCE = 90.0
WAYS = ("mdns", "bootstrap", "announced")


def cells() -> Iterator[tuple[str, str, str]]:
    """How Dave finds Bob, how Alice leaves, who is there first."""
    return itertools.product(WAYS, ("ended", "cut"), ("Bob", "Dave"))


def _machine(star: Star, place: Path, number: int, way: str) -> Machine:
    return Machine(
        place / str(number),
        listen=f"/ip4/{star.address(number)}/tcp/4001",
        prefix=star.prefix(number),
        settings={"STACK_MDNS": "1" if way == "mdns" else "0", "STACK_REMEMBER_PEERS": "1"},
    )


def run(way: str, end: str, first: str) -> float:
    """Seconds. Raises AssertionError."""
    with temporary_place() as place, Star(4) as star, ExitStack() as running:
        alice, bob, dave, known = (_machine(star, place, number, way) for number in range(4))
        by: list[str] = []
        if way != "mdns":
            running.enter_context(known.daemon())
            by = ["--bootstrap", known.address()]
        film = make_file(place / "film", 2 * MIB)
        flags = [*by, "--announce"] if way == "announced" else by
        with alice.sharing(film, *flags) as (sharer, told):
            ticket = str(told["ticket"])
            get = ("get", ticket, "-o")
            if first == "Bob":
                seeding = running.enter_context(bob.start(*get, bob.folder / "film", "--seed", *by))
                seeding.next_said(r"(Complete; serving)", PATIENCE)
            else:
                good(bob.run(*get, bob.folder / "film", "--keep", *by))
            if end == "ended":
                sharer.stop(signal.SIGINT)
            else:
                star.inside(star.names[ALICE], "ip", "link", "set", "wire", "down")
            fetch = (*get, dave.folder / "film", *by)
            if first == "Dave":
                process = running.enter_context(dave.start(*fetch))
                time.sleep(8)
                running.enter_context(bob.daemon(*by))
                began = time.monotonic()
            else:
                time.sleep(3)  # Bob's neighbours know him
                began = time.monotonic()
                process = running.enter_context(dave.start(*fetch))
            outcome = process.wait(PATIENCE)
            seconds = time.monotonic() - began
            assert outcome.code == 0, outcome
            assert sha256(dave.folder / "film") == sha256(film)
        return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 when one took longer than is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args(arguments).rounds
    print("| found by | Alice | there first | seconds |\n|---|---|---|---|")
    late = 0
    for way, end, first in cells():
        took = [run(way, end, first) for _ in range(rounds)]
        late += max(took) > PROMISED
        print(f"| {way} | {end} | {first} | {', '.join(f'{seconds:.1f}' for seconds in took)} |", flush=True)
    return int(bool(late))


if __name__ == "__main__":
    sys.exit(main())
