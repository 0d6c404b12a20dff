"""The long forms of the acceptance tests, with their figures: `python -m tests.acceptance.long [NAME...]`.

`kills`: `stack get` killed 20 times. `restart`: the sharer killed and back. `stopped`: either end stands still for 60 s.
`address`: the receiver's address changes (root). `demo`: 1 GiB and 5 receivers.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.acceptance import scenarios
from tests.acceptance.kit import MIB, temporary_place
from tests.acceptance.namespaces import missing

COPIES_MAX = 1.5
HELD_MAX = 0.9
"""What the demo promises for a file of 1 GiB and 5 receivers."""


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


SCENARIOS: dict[str, Callable[[Path, argparse.Namespace], str]] = {
    "kills": kills,
    "restart": restart,
    "stopped": stopped,
    "address": address,
    "demo": demo,
}


def main() -> int:
    """Run the scenarios; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--kills", type=int, default=20)
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
