"""python -m interop.speed [--mib 256] [--runs 3]: how fast a file goes between us and Kubo, each way, by TCP with Noise or TLS and by QUIC.

Prints a table: MiB a second, and the CPU-seconds of each end. The lines take turns, so that what else the machine does falls on all.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place
from tests.bench.figures import End, Figure, Kind
from tests.bench.meter import SECONDS_MAX, Meter, end, in_a_folder, ipfs, same

LINES = {
    "TCP, Noise": ("/ip4/127.0.0.1/tcp/0", "noise"),
    "TCP, TLS": ("/ip4/127.0.0.1/tcp/0", "tls"),
    "QUIC": ("/ip4/127.0.0.1/udp/0/quic-v1", ""),
}
"""Where who serves listens, and what both secure it with; QUIC has its own."""


def kubo_at(place: Path, listen: str, security: str) -> Kubo:
    """A Kubo of this line."""
    settings: dict[str, object] = {"Addresses.Swarm": [listen]}
    if security:
        settings["Swarm.Transports.Security"] = {
            name: 100 if name.lower() == security else False for name in ("TLS", "Noise")
        }
    return Kubo(place, settings=settings)


def machine_at(place: Path, listen: str, security: str) -> Machine:
    """A computer of ours on this line."""
    return Machine(place, listen=listen, settings={"STACK_SECURITY": security} if security else {})


def kubo_gets(place: Path, file: Path, digest: str, listen: str, security: str) -> Figure:
    """`ipfs get` of what `stack daemon` has."""
    ours = machine_at(place / "ours", listen, security)
    with ours.daemon() as daemon, kubo_at(place / "kubo", listen, security).running() as kubo:
        root = good(ours.run("add", "-q", "--profile", "default", file, timeout=SECONDS_MAX)).out.strip()
        kubo.run("swarm", "connect", good(ours.run("id", "--json")).json["addresses"][0])
        assert kubo.process is not None
        meter = Meter(us=daemon.pid, Kubo=kubo.process.pid)
        began = time.monotonic()
        got = ipfs(kubo, "get", "-o", place / "got.bin", root, place=place)
        seconds = time.monotonic() - began
        here, there = meter.ends()
    same(place / "got.bin", digest, "ipfs get")
    # The command writes the file, the daemon brings it.
    both = End("Kubo", there.cpu + got.cpu_seconds, there.peak)
    return Figure(file.stat().st_size / MIB / seconds, (here, both))


def we_get(place: Path, file: Path, digest: str, listen: str, security: str) -> Figure:
    """`stack get` of what Kubo has."""
    ours = machine_at(place / "ours", listen, security)
    with kubo_at(place / "kubo", listen, security).running() as kubo:
        root = kubo.run("add", "-Q", str(file)).decode().strip()
        addresses = kubo.ask("id")["Addresses"]
        assert isinstance(addresses, list)
        assert kubo.process is not None
        meter = Meter(Kubo=kubo.process.pid)
        began = time.monotonic()
        got = good(ours.run("get", root, "--from", addresses[0], "-o", "got.bin", timeout=SECONDS_MAX))
        seconds = time.monotonic() - began
        (there,) = meter.ends()
    same(ours.folder / "got.bin", digest, "stack get")
    return Figure(file.stat().st_size / MIB / seconds, (end("us", got), there))


WAYS: dict[str, Callable[[Path, Path, str, str, str], Figure]] = {
    "`ipfs get` from us": kubo_gets,
    "`stack get` from Kubo": we_get,
}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="interop.speed", description="Our node and Kubo: rate and CPU-seconds.")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    figures: dict[tuple[str, str], list[Figure]] = {}
    with temporary_place() as place:
        file = make_file(place / "file.bin", given.mib * MIB, 7)
        digest = sha256(file)
        for _ in range(given.runs):
            for way, run in WAYS.items():
                for line, (listen, security) in LINES.items():

                    def work(
                        folder: Path,
                        run: Callable[[Path, Path, str, str, str], Figure] = run,
                        listen: str = listen,
                        security: str = security,
                    ) -> Figure:
                        return run(folder, file, digest, listen, security)

                    figures.setdefault((way, line), []).append(in_a_folder(place, work))
    print(f"| {given.mib} MiB | over | MiB/s | CPU-seconds, us | CPU-seconds, Kubo |\n|---|---|---|---|---|")
    for (way, line), some in figures.items():
        kind = Kind(line, tuple(some))
        print(f"| {way} | {line} | {kind.value} | {kind.cpu['us']} | {kind.cpu['Kubo']} |")


if __name__ == "__main__":
    main()
