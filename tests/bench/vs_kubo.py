"""`stack share` to `stack get` beside Kubo to Kubo, alternating, in one run on one machine, disk to disk.

    STACK_KUBO=/path/to/ipfs python -m tests.bench.vs_kubo --size 1024 --rounds 3

Every fetch is between two processes over loopback, into an empty repository. What is fetched is hashed afterwards and
compared; rate is size by the wall time of the fetching command, CPU is user and system of both processes.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, disk_usage, good, make_file, sha256

HOME_GROWTH_MAX = 0.01
MEMORY_MAX = 128 * MIB
RATE_LEAST = 3.0
"""Times the rate of `ipfs get`."""
SECONDS_MAX = 1800.0
CLOCK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One fetch of the whole file."""

    what: str
    mib: float
    seconds: float
    provider_cpu: float
    receiver_cpu: float
    provider_peak: int
    receiver_peak: int
    home_growth: float | None
    """Of the sharer's home, as a part of the file; for Kubo, which copies, not measured."""

    @property
    def rate(self) -> float:
        """MiB a second."""
        return self.mib / self.seconds


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def peak_memory(pid: int) -> int:
    """VmHWM of a running process."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def ours(source: Path, digest: str, place: Path) -> Run:
    """`stack share` and `stack get`, each with a new home."""
    size = source.stat().st_size
    sharer, receiver = Machine(place / "sharer"), Machine(place / "receiver")
    with sharer.sharing(source, timeout=SECONDS_MAX) as (process, shared):
        before = cpu_seconds(process.pid)
        got = good(receiver.run("get", shared["ticket"], "-o", "got.bin", "--json", timeout=SECONDS_MAX))
        provider_cpu = cpu_seconds(process.pid) - before
        growth = disk_usage(sharer.home) / size
        peak = process.peak_memory
    if sha256(receiver.folder / "got.bin") != digest:
        raise SystemExit("stack get: the file is another one")
    return Run(
        what="stack get",
        mib=size / MIB,
        seconds=got.seconds,
        provider_cpu=provider_cpu,
        receiver_cpu=got.cpu_seconds,
        provider_peak=peak,
        receiver_peak=got.peak_memory,
        home_growth=growth,
    )


def kubos(provider: Kubo, root: str, command: str, size: int, digest: str, place: Path) -> Run:
    """`ipfs get` or `ipfs pin add` into a new Kubo from one that has the file."""
    with Kubo(place / "receiver").running() as receiver:
        receiver.run("swarm", "connect", provider.address)
        assert provider.process is not None and receiver.process is not None
        pids = (provider.process.pid, receiver.process.pid)
        before = [cpu_seconds(pid) for pid in pids]
        start = time.monotonic()
        if command == "get":
            receiver.run("get", "-o", str(place / "got.bin"), root, timeout=SECONDS_MAX)
        else:
            receiver.run("pin", "add", root, timeout=SECONDS_MAX)
        seconds = time.monotonic() - start
        spent = [cpu_seconds(pid) - first for pid, first in zip(pids, before, strict=True)]
        peaks = [peak_memory(pid) for pid in pids]
        if command == "get" and sha256(place / "got.bin") != digest:
            raise SystemExit("ipfs get: the file is another one")
    return Run(
        what=f"ipfs {'get' if command == 'get' else 'pin add'}",
        mib=size / MIB,
        seconds=seconds,
        provider_cpu=spent[0],
        receiver_cpu=spent[1],
        provider_peak=peaks[0],
        receiver_peak=peaks[1],
        home_growth=None,
    )


def in_a_folder(place: Path, work: Callable[[Path], Run]) -> Run:
    """Each run in a folder of its own that is removed before the next begins."""
    folder = place / "run"
    folder.mkdir()
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder)
        os.sync()


def measure(place: Path, size: int, rounds: int, commands: Sequence[str]) -> list[Run]:
    """All runs, alternating, so that a busy moment of the machine meets everybody."""
    source = make_file(place / "file.bin", size, 7)
    digest = sha256(source)
    runs = []
    with ExitStack() as stack:
        provider, root = None, ""
        if commands:
            provider = stack.enter_context(Kubo(place / "provider").running())
            root = provider.run("add", "-Q", "--cid-version", "1", str(source), timeout=SECONDS_MAX).decode().strip()
        works = [partial(ours, source, digest)]
        works += [partial(kubos, provider, root, command, size, digest) for command in commands if provider is not None]
        for number in range(rounds):
            # The first pays for memory that those after it use again, so each is first in turn.
            turn = number % len(works)
            for work in works[turn:] + works[:turn]:
                runs.append(in_a_folder(place, work))
                print(line(runs[-1]), file=sys.stderr)
    return runs


def line(run: Run) -> str:
    """One run for people."""
    growth = "" if run.home_growth is None else f"  home +{run.home_growth:.2%}"
    return (
        f"{run.what:13} {run.rate:7.1f} MiB/s  {run.seconds:6.1f} s  CPU {run.provider_cpu:5.1f} + {run.receiver_cpu:5.1f} s"
        f"  peak {run.provider_peak / MIB:4.0f} + {run.receiver_peak / MIB:4.0f} MiB{growth}"
    )


def summary(runs: Sequence[Run]) -> dict[str, float]:
    """Median rate by command, and how many times faster we are."""
    names = dict.fromkeys(run.what for run in runs)
    rates = {name: statistics.median(run.rate for run in runs if run.what == name) for name in names}
    ratios = {f"stack get : {name}": rates["stack get"] / rate for name, rate in rates.items() if name != "stack get"}
    return {**{f"{name}, MiB/s": rate for name, rate in rates.items()}, **ratios}


def failures(runs: Sequence[Run]) -> list[str]:
    """What was promised and not kept."""
    wrong = []
    for run in runs:
        if run.what == "stack get":
            if run.home_growth is not None and run.home_growth >= HOME_GROWTH_MAX:
                wrong.append(f"the sharer's home grew by {run.home_growth:.2%}")
            if max(run.provider_peak, run.receiver_peak) >= MEMORY_MAX:
                wrong.append(f"peak memory {max(run.provider_peak, run.receiver_peak) / MIB:.0f} MiB")
    ratio = summary(runs).get("stack get : ipfs get")
    if ratio is not None and ratio < RATE_LEAST:
        wrong.append(f"{ratio:.2f} times the rate of `ipfs get`, {RATE_LEAST:.0f} were promised")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", help="where files, homes and repositories are while it runs")
    parser.add_argument("--kubo", nargs="*", choices=["get", "pin"], default=["get", "pin"], help="none: only ours")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stack-", dir=options.directory) as folder:
        runs = measure(Path(folder), options.size * MIB, options.rounds, options.kubo)
    wrong = failures(runs)
    if options.json:
        print(
            json.dumps({"runs": [{**asdict(run), "rate": run.rate} for run in runs], **summary(runs), "broken": wrong})
        )
    else:
        print(f"\n{options.size} MiB, {options.rounds} rounds, {os.cpu_count()} cores; provider + receiver")
        for run in sorted(runs, key=lambda run: run.what, reverse=True):
            print(line(run))
        for name, value in summary(runs).items():
            print(f"{name:24} {value:7.2f}")
        for text in wrong:
            print(f"BROKEN: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
