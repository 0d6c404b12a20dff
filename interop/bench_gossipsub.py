"""One publisher to one subscriber of the same kind over TCP on loopback: signed messages, all of which must arrive.

    python -m interop.bench_gossipsub [--count 20000] [--size 1024] [--rounds 3] [KIND ...]

Rounds alternate between the kinds. The rate is that of the subscriber: from the command to publish until it has counted all.
"""

import argparse
import statistics
import sys
import time

from interop import build
from interop.driver import Peer, connect, peers, wait_for_subscribers

TOPIC = "flood"
WARM_TOPIC = "warm"
WARM = 500
"""Messages before the clock runs, for what compiles itself as it runs."""
MESH_SECONDS = 2.0
"""Two heartbeats, until a mesh stands: go loses what is published before."""
SECONDS = 60.0
SHARE = {"py": 4}
"""A slow kind gets so many times fewer messages."""


def flood(publisher: Peer, subscriber: Peer, topic: str, count: int, size: int) -> tuple[float, float]:
    """Seconds and CPU-seconds of both for so many messages. Raises TimeoutError when one is lost."""
    for peer in (publisher, subscriber):
        peer.ask("count", topic, count, answer="counting")
        peer.ask("subscribe", topic, answer="subscribed")
    for peer, other in ((publisher, subscriber), (subscriber, publisher)):
        wait_for_subscribers(peer, topic, [other])
    time.sleep(MESH_SECONDS)
    before = publisher.cpu_seconds() + subscriber.cpu_seconds()
    started = time.monotonic()
    publisher.say("flood", topic, count, size)
    subscriber.wait("counted", topic, str(count), seconds=SECONDS)
    seconds = time.monotonic() - started
    return seconds, publisher.cpu_seconds() + subscriber.cpu_seconds() - before


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("kinds", nargs="*", default=[kind for kind in build.KINDS if build.why_not(kind) is None])
    arguments.add_argument("--count", type=int, default=20_000)
    arguments.add_argument("--size", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {kind: [] for kind in options.kinds}
    for kind in options.kinds:
        build.command(kind)
    for _ in range(options.rounds):
        for kind, rows in figures.items():
            count = options.count // SHARE.get(kind, 1)
            with peers(kind, kind) as (publisher, subscriber):
                connect(publisher, subscriber)
                try:
                    flood(publisher, subscriber, WARM_TOPIC, WARM, options.size)
                    seconds, cpu = flood(publisher, subscriber, TOPIC, count, options.size)
                except TimeoutError as error:
                    print(f"{kind}: {error}", file=sys.stderr)
                    continue
            rows.append((count / seconds, cpu / count * 1000))
            print(f"{kind:5} {count / seconds:8.0f} a second", file=sys.stderr, flush=True)
    print("| kind | messages a second | median | CPU-seconds per 1,000, both ends |\n|---|---|---|---|")
    for kind, rows in figures.items():
        if rows:
            rates = [rate for rate, _ in rows]
            each = ", ".join(f"{rate:,.0f}" for rate in rates)
            cpu = statistics.median(cpu for _, cpu in rows)
            print(f"| {kind} | {each} | {statistics.median(rates):,.0f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
