"""A computer behind a router gets another address in the middle of a fetch: after how long bytes come again.

python -m tests.lab.moves [gets|shares] [--runs N]      # root
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from tests.acceptance.kit import MIB, good, make_file, sha256
from tests.lab import nat

DOWN = "4M"
"""So slowly it comes that it lasts."""
BEFORE_BYTES = 4 * MIB
MOVE = """
import subprocess, time
for words in (
    "address del 192.168.{0}.2/24 dev lan",
    "address add 192.168.{0}.3/24 dev lan",
    "route add default via 192.168.{0}.1",
):
    subprocess.run(["ip", *words.split()], check=True)
print(time.monotonic())
"""


def moved(who: str, size: int = 24 * MIB) -> float:
    """Seconds from the move to the end of the longest pause."""
    with tempfile.TemporaryDirectory() as place, nat.two_homes(Path(place), ("port", "port")) as homes:
        sharer, getter = homes
        source = make_file(sharer.folder / "film", size)
        with (
            sharer.sharing(source, "--relay-via", nat.address(False, nat.RELAY)) as (_, shared),
            getter.start("get", shared["ticket"], "--jsonl", "--down", DOWN) as process,
        ):
            while int(process.next_event("FetchProgress", 60)["bytes_done"]) < BEFORE_BYTES:
                pass
            number = 0 if who == "shares" else 1
            at = float(homes[number].python(MOVE.format(number)).stdout)
            came, done = [at], 0
            while (event := process.next_json(60))["event"] != "FetchFinished":
                if event["event"] == "FetchProgress" and event["bytes_done"] > done:
                    came.append(time.monotonic())
                    done = event["bytes_done"]
            process.wait(30)
            good(getter.run("get", shared["ticket"], "-o", "again"))  # the ticket still leads there
            assert sha256(getter.folder / "film") == sha256(getter.folder / "again") == sha256(source)
            return max((after - before, after - at) for before, after in itertools.pairwise(came))[1]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", nargs="?", choices=["gets", "shares"], default="shares", help="moves")
    parser.add_argument("--runs", type=int, default=1)
    given = parser.parse_args()
    runs = []
    for _ in range(given.runs):
        runs.append(moved(given.who))
        print(f"{runs[-1]:.1f} s", flush=True)
    print(f"median {statistics.median(runs):.1f} s, most {max(runs):.1f} s")


if __name__ == "__main__":
    main()
