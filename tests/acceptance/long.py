"""The long forms of the acceptance tests, with their figures: `python -m tests.acceptance.long [NAME...]`.

`kills`: `stack get` killed 20 times. `restart`: the sharer killed and back. `stopped`: either end stands still for 60 s.
`address`: the receiver's address changes (root). `demo`: 1 GiB and 5 receivers. `swarm`: 64 MiB from a seed of 4 MB/s to 8
receivers of 4 MB/s (root). `providers`: four providers of 8 MB/s; one of them stops, one of them lies (root). `updates`: a tree of many
files of which 1 % changes, shared again, and brought to its new version by a receiver that is killed 20 times while it writes.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stack.cli.output import size as shown
from tests.acceptance import scenarios, swarm
from tests.acceptance.kit import MIB, temporary_place
from tests.acceptance.namespaces import Star, missing
from tests.acceptance.updates import updated_and_killed

COPIES_MAX = 1.5
HELD_MAX = 0.9
"""What the demo promises for a file of 1 GiB and 5 receivers."""
AGAIN_PART = 0.02
UPDATE_PART = 0.015
"""Of the bytes of a tree of which 1 % changed: read by who shares it again, received by who updates it."""
CODE_BYTES = 12 * MIB
"""What a command reads of Python and of itself."""
SWARM_RATE = 4_000_000
PROVIDER_RATE = 8_000_000
"""Bytes a second that each sends at most."""


def kills(place: Path, options: argparse.Namespace) -> str:
    """20 random kills in one fetch, at two rates: one where 64 MiB, one where 2 s is what a kill may cost."""
    told = []
    for rate in (128.0 * MIB, 24.0 * MIB):
        size = int(options.size if rate > 64 * MIB else options.size / 4) * MIB
        report = scenarios.killed_and_resumed(
            place / f"{rate:.0f}", size=size, kills=options.kills, rate=rate, seed=options.seed
        )
        assert all(kill.lost <= report.allowed for kill in report.kills), str(report)
        assert len(report.kills) >= options.kills * 3 // 4, str(report)
        told.append(str(report))
    return "\n".join(told)


def updates(place: Path, options: argparse.Namespace) -> str:
    """A tree of 100 KiB files that changes; the reads of who shares it again, and 20 kills of who updates it."""
    report = updated_and_killed(place, files=options.files, size=100 << 10, kills=options.kills, seed=options.seed)
    assert report.received <= UPDATE_PART * report.size, str(report)
    assert all(each.asked - CODE_BYTES <= AGAIN_PART * report.size for each in report.shares[1:]), str(report)
    assert report.within >= options.kills * 3 // 4, str(report)
    return str(report)


def restart(place: Path, options: argparse.Namespace) -> str:
    """The sharer is killed and comes back under its identity and port."""
    outcome = scenarios.sharer_restarted(place, size=options.size // 4 * MIB, rate=24.0 * MIB)
    return f"complete after {outcome.seconds:.1f} s"


def stopped(place: Path, options: argparse.Namespace) -> str:
    """Either end stands still for a minute."""
    told = []
    for who in ("sharer", "receiver"):
        outcome = scenarios.one_stopped(
            place / who, size=options.size // 8 * MIB, rate=24.0 * MIB, seconds=options.seconds, who=who
        )
        told.append(f"the {who} stood still for {options.seconds:.0f} s: complete after {outcome.seconds:.1f} s")
    return "\n".join(told)


def address(place: Path, options: argparse.Namespace) -> str:
    """The receiver moves to another address."""
    reason = missing()
    if reason is not None:
        return f"NOT TESTED: {reason}"
    outcome = scenarios.address_changed(place, size=options.size // 8 * MIB, mbit=160)
    return f"complete after {outcome.seconds:.1f} s"


def demo(place: Path, options: argparse.Namespace) -> str:
    """A file of 1 GiB and 5 receivers; the sharer is killed as soon as they hold everything together."""
    last = scenarios.demo(place, size=options.size * MIB, peers=5)
    told = (
        f"the sharer sent {last['copies_sent']:.2f} copies (at most {COPIES_MAX}), nobody held more than "
        f"{last['most_held']:.0%} then (at most {HELD_MAX:.0%}), all 5 complete after {last['seconds']:.1f} s, hashes match"
    )
    assert last["copies_sent"] <= COPIES_MAX, told
    assert last["most_held"] <= HELD_MAX, told
    return told


def swarm_of_eight(place: Path, options: argparse.Namespace) -> str:
    """One seed and eight receivers, each limited; the seed is killed as soon as they hold everything together."""
    reason = missing()
    if reason is not None:
        return f"NOT TESTED: {reason}"
    source = swarm.made(place, options.size // 16 * MIB)
    with Star(9) as star:
        alone = swarm.fetched_alone(star, place / "alone", source, SWARM_RATE)
        report = swarm.swarm(star, place / "swarm", source, SWARM_RATE)
    told = f"one alone {alone:.1f} s; eight {report.seconds / alone:.2f} times as long (at most {swarm.ALONE_MOST}): {report}"
    assert report.seconds <= swarm.ALONE_MOST * alone, told
    return told


def providers(place: Path, options: argparse.Namespace) -> str:
    """A fetch from four who are each limited; then one of them stops half-way; then one of them lies."""
    reason = missing()
    if reason is not None:
        return f"NOT TESTED: {reason}"
    size = options.size // 2 * MIB
    source = swarm.made(place, size)
    with Star(5) as star:
        well = swarm.fetched_from_many(star, place / "well", source, rate=PROVIDER_RATE, count=4, stop=False)
        stopped = swarm.fetched_from_many(star, place / "stop", source, rate=PROVIDER_RATE, count=4, stop=True)
        seconds, liar, dropped = swarm.fetched_past_a_liar(star, place / "lie", source, rate=PROVIDER_RATE, count=4)
    part = size / well / (4 * PROVIDER_RATE)
    cost = stopped - well * swarm.one_less(4, True)
    told = (
        f"{shown(int(size / well))}/s, {part:.0%} of four times {shown(PROVIDER_RATE)}/s (at least {swarm.TOGETHER_LEAST:.0%}); "
        f"one that stopped half-way cost {cost:.1f} s (at most {swarm.STALL_MOST:.0f}); one that sent wrong blocks was dropped, "
        f"{dropped['peer_id'][-6:]} {dropped['reason']!r}, complete after {seconds:.1f} s"
    )
    assert part >= swarm.TOGETHER_LEAST, told
    assert cost <= swarm.STALL_MOST, told
    assert (dropped["peer_id"], dropped["reason"]) == (liar, "sent a wrong block"), told
    return told


SCENARIOS: dict[str, Callable[[Path, argparse.Namespace], str]] = {
    "kills": kills,
    "restart": restart,
    "stopped": stopped,
    "address": address,
    "demo": demo,
    "swarm": swarm_of_eight,
    "providers": providers,
    "updates": updates,
}


def main() -> int:
    """Run the scenarios; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--files", type=int, default=100_000, help="of the tree that changes")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long an end stands still")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    failed = 0
    for name in options.names or SCENARIOS:
        start = time.monotonic()
        try:
            with temporary_place() as place:
                told = SCENARIOS[name](place, options)
        except AssertionError as error:
            failed += 1
            told = f"FAILED: {error}"
        print(f"{name} ({time.monotonic() - start:.0f} s): {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
