"""One seed and eight receivers of `stack` beside the same work of libtorrent, alternating, in one run on one machine (root).

    STACK_LIBTORRENT=/path/to/venv/bin/python python -m tests.bench.vs_libtorrent --size 64 --rounds 3

`STACK_LIBTORRENT` is an interpreter that has the package `libtorrent` of PyPI. Every computer is a network namespace, every
upload is limited by the program itself; the seed is killed when the receivers hold everything together. Time is from the start
of the receivers' processes until the last one has the file, which is hashed. Receivers of `stack` know the seed's ticket;
those of libtorrent are told everybody's address, as a tracker would do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.acceptance.kit import MIB, sha256, temporary_place
from tests.acceptance.namespaces import Star, missing
from tests.acceptance.process import Json, Running
from tests.acceptance.swarm import ALONE_MOST, SwarmReport, fetched_alone, made, swarm

RATIO_MAX = 1.25
"""Our time by that of libtorrent."""
SECONDS_MAX = 300.0
PEER = Path(__file__).with_name("torrent_peer.py")


def torrents(python: str, star: Star, place: Path, source: Path, rate: int) -> SwarmReport:
    """The same as `swarm` with libtorrent."""
    torrent = place / "file.torrent"
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run([python, str(PEER), "make", str(source), str(torrent)], check=True, timeout=60)
    count = len(star.computers)

    def start(number: int) -> Running:
        folder = source.parent if number == 0 else place / f"t{number}"
        folder.mkdir(exist_ok=True)
        others = [star.address(other) for other in range(count) if other != number]
        words = [str(torrent), str(folder), star.address(number), str(rate), *others]
        command = [*star.prefix(number), python, str(PEER), "run", *words]
        return Running(command, cwd=place, environment=dict(os.environ))

    with ExitStack() as stack:
        seed = stack.enter_context(start(0))
        _follow(seed, lambda said: bool(said["complete"]))
        began = time.monotonic()
        peers = [stack.enter_context(start(number)) for number in range(1, count)]
        together = _until_together(peers) - began
        sent = _latest(seed)["sent"]
        seed.kill()
        seconds = max(_follow(peer, lambda said: bool(said["complete"]))["at"] for peer in peers) - began
    digest = sha256(source)
    if any(sha256(place / f"t{number}" / source.name) != digest for number in range(1, count)):
        raise SystemExit("libtorrent: a file is another one")
    return SwarmReport(seconds, together, sent / source.stat().st_size)


def _follow(peer: Running, until: Callable[[Json], bool]) -> Json:
    """What a peer says once it is so."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        said: Json = json.loads(peer.next_line())
        if until(said):
            return said
    raise SystemExit("libtorrent: a peer does not come to an end")


def _latest(peer: Running) -> Json:
    """What a peer says now."""
    now = time.monotonic()
    return _follow(peer, lambda said: said["at"] >= now)


def _until_together(peers: Sequence[Running]) -> float:
    """When the receivers held everything together."""
    while True:
        told = [_latest(peer) for peer in peers]
        if all("1" in column for column in zip(*(said["pieces"] for said in told), strict=True)) and told[0]["pieces"]:
            return max(float(said["at"]) for said in told)


def measure(python: str, size: int, rate: int, receivers: int, rounds: int) -> dict[str, float]:
    """All runs, alternating; prints each as it ends."""
    ours, theirs, alone = [], [], []
    for _ in range(rounds):
        with temporary_place() as place, Star(receivers + 1) as star:
            source = made(place, size)
            alone.append(fetched_alone(star, place / "alone", source, rate))
            print(f"one receiver alone  {alone[-1]:6.1f} s", flush=True)
            ours.append(swarm(star, place / "stack", source, rate))
            print(f"stack               {ours[-1]}", flush=True)
            theirs.append(torrents(python, star, place / "torrent", source, rate))
            print(f"libtorrent          {theirs[-1]}", flush=True)
    seconds = statistics.median(report.seconds for report in ours)
    return {
        "one receiver alone, s": statistics.median(alone),
        "stack, s": seconds,
        "libtorrent, s": statistics.median(report.seconds for report in theirs),
        "stack : alone": seconds / statistics.median(alone),
        "stack : libtorrent": seconds / statistics.median(report.seconds for report in theirs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a promise is broken, 0 where this machine cannot play it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="MiB of the file")
    parser.add_argument("--rate", type=int, default=4_000_000, help="bytes a second that each sends at most")
    parser.add_argument("--receivers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--python", default=os.environ.get("STACK_LIBTORRENT"), help="an interpreter that has libtorrent"
    )
    options = parser.parse_args(arguments)
    reason = missing() if options.python else "STACK_LIBTORRENT names no interpreter"
    if reason is not None:
        print(f"NOT MEASURED: {reason}")
        return 0
    figures = measure(options.python, options.size * MIB, options.rate, options.receivers, options.rounds)
    print(
        f"\n{options.size} MiB, {options.receivers} receivers, {options.rate:,} bytes a second each, {os.cpu_count()} cores"
    )
    for name, value in figures.items():
        print(f"{name:24} {value:7.2f}")
    broken = figures["stack : alone"] > ALONE_MOST or figures["stack : libtorrent"] > RATIO_MAX
    if broken:
        print(f"BROKEN: at most {ALONE_MOST} times one receiver alone and {RATIO_MAX} times libtorrent were promised")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
