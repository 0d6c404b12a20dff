"""Many small files from one program to another of the same kind over loopback: `stack`, Kubo, croc, magic-wormhole, in one run.

    STACK_KUBO=/path/to/ipfs STACK_CROC=/path/to/croc STACK_WORMHOLE=/path/to/venv/bin python -m tests.bench.small_files

The programs whose variable is not set are left out; croc's and wormhole's relays run here too, and `strace` counts the syncs of both
ends (it stops a process at these calls alone). `ready` is the time until the sender says how the files are got, `fetch` that of
the receiver's command; processor time is user and system of all processes of an end, relays apart. Every run has new homes and ends with
a comparison of what arrived. Nothing is deleted before all have run: for minutes after many files were deleted ext4 looks long for
a free inode for each new one.
"""

import argparse
import filecmp
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_BYTES = 1024
FILES_A_DIRECTORY = 500
SECONDS_MAX = 3600.0
CLOCK = os.sysconf("SC_CLK_TCK")
STACK = (sys.executable, "-m", "stack")
SYNCS = "fsync,fdatasync,sync,syncfs,msync,sync_file_range"
RELAY_PORTS = (19009, 19010)
MAILBOX_PORT, TRANSIT_PORT = 14000, 14001


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One transfer."""

    what: str
    ready: float
    fetch: float
    sender_cpu: float
    receiver_cpu: float
    sender_syncs: int
    receiver_syncs: int


class End:
    """The processes of one end of a transfer: what they took, and how often they waited for the disk."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        folder.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment = {**kept, **environment}
        self.cpu = 0.0
        self._started = 0

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        """A process under `strace`, its output in one stream."""
        self._started += 1
        counts = self.folder / f"syncs{self._started}"
        trace = ["strace", "-D", "-f", "--seccomp-bpf", "-c", "-U", "name,calls", "-o", counts, "-e", f"trace={SYNCS}"]
        return subprocess.Popen(
            [*trace, *command],
            env=self._environment,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def reap(self, process: subprocess.Popen[str], *, needed: bool = True) -> None:
        """Wait for its end, and count what it took. Raises SystemExit for one that failed."""
        assert process.stdout is not None
        with process.stdout:
            said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu += usage.ru_utime + usage.ru_stime
        if needed and process.returncode:
            raise SystemExit(f"{process.args}: exit {process.returncode}\n{said[-2000:]}")

    def run(self, *command: str | Path) -> str:
        """A command to its end; what it says is small."""
        process = self.start(*command)
        assert process.stdout is not None
        said = process.stdout.read()
        self.reap(process)
        return said

    def stop(self, process: subprocess.Popen[str], number: int = signal.SIGINT) -> None:
        """End a process that serves."""
        process.send_signal(number)
        self.reap(process, needed=False)

    @property
    def syncs(self) -> int:
        """Of all processes, once they have ended."""
        found = 0
        for path in self.folder.glob("syncs*"):
            deadline = time.monotonic() + 10
            while not path.stat().st_size and time.monotonic() < deadline:
                time.sleep(0.05)  # the tracer outlives what it traces; it writes nothing where nothing was counted
            found += sum(int(calls) for calls in re.findall(r"^ *\w+ +(\d+)$", path.read_text(), re.MULTILINE))
        return found


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """The first group of what it says. Raises SystemExit when it ends without."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if (found := re.search(pattern, line)) is not None:
            return found[1]
    raise SystemExit(f"{process.args}: {told[-2000:]}")


def row(what: str, sender: End, receiver: End, begun: float, ready: float, done: float) -> Row:
    return Row(
        what=what,
        ready=ready - begun,
        fetch=done - ready,
        sender_cpu=sender.cpu,
        receiver_cpu=receiver.cpu,
        sender_syncs=sender.syncs,
        receiver_syncs=receiver.syncs,
    )


def ours(tree: Path, place: Path) -> tuple[Row, Path]:
    listen = {"STACK_MDNS": "0", "STACK_LISTEN": "/ip4/127.0.0.1/tcp/0", "PYTHONPATH": os.getcwd()}
    sender = End(place / "a", STACK_HOME=str(place / "a/home"), **listen)
    receiver = End(place / "b", STACK_HOME=str(place / "b/home"), **listen)
    begun = time.monotonic()
    sharing = sender.start(*STACK, "share", "--json", "--no-qr", tree)
    ticket = said(sharing, r'"ticket": *"([^"]+)"')
    ready = time.monotonic()
    receiver.run(*STACK, "get", "--json", ticket, "-o", "got")
    done = time.monotonic()
    sender.stop(sharing)
    return row("stack", sender, receiver, begun, ready, done), place / "b/got"


def kubo(tree: Path, place: Path) -> tuple[Row, Path]:
    """The daemons run before the time begins; `ready` is that of `ipfs add`, with raw leaves, into a running daemon."""
    program = os.environ["STACK_KUBO"]
    ends = [End(place / name, IPFS_PATH=str(place / name / "repo"), IPFS_TELEMETRY="off") for name in "ab"]
    daemons = []
    for end in ends:
        for arguments in (("init", "--profile", "test"), ("bootstrap", "rm", "--all")):
            subprocess.run([program, *arguments], env=end._environment, check=True, capture_output=True)
        for key, value in {
            "AutoConf.Enabled": False,
            "Addresses.Swarm": ["/ip4/127.0.0.1/tcp/0"],
            "Addresses.Gateway": [],
            "Addresses.API": "/ip4/127.0.0.1/tcp/0",
            "Routing.Type": "none",
            "Discovery.MDNS.Enabled": False,
            "Provide.Enabled": False,
        }.items():
            command = [program, "config", "--json", key, json.dumps(value)]
            subprocess.run(command, env=end._environment, check=True, capture_output=True)
        daemons.append(end.start(program, "daemon", "--enable-gc=false"))
        said(daemons[-1], "(Daemon is ready)")
    sender, receiver = ends
    address = sender.run(program, "id", "-f", "<addrs>").split()[0]
    receiver.run(program, "swarm", "connect", address)
    begun = time.monotonic()
    root = sender.run(program, "add", "-r", "-Q", "--raw-leaves", "--cid-version", "1", tree).split()[-1]
    ready = time.monotonic()
    receiver.run(program, "get", "--progress=false", "-o", "got", root)
    done = time.monotonic()
    for end, daemon in zip(ends, daemons, strict=True):
        end.stop(daemon)
    return row("Kubo", sender, receiver, begun, ready, done), place / "b/got"


def croc(tree: Path, place: Path) -> tuple[Row, Path]:
    program, ports = os.environ["STACK_CROC"], ",".join(map(str, RELAY_PORTS))
    secret = {"CROC_SECRET": "small-files-bench", "CROC_CONFIG_DIR": str(place / "settings")}
    sender, receiver = End(place / "a", **secret), End(place / "b", **secret)
    relay = ("--relay", f"127.0.0.1:{RELAY_PORTS[0]}")
    with running(program, "relay", "--host", "127.0.0.1", "--ports", ports):
        begun = time.monotonic()
        sending = sender.start(program, *relay, "send", "--no-local", tree)
        said(sending, "(Code is)")
        ready = time.monotonic()
        receiver.run(program, "--yes", "--overwrite", *relay)
        done = time.monotonic()
        sender.reap(sending)
    return row("croc", sender, receiver, begun, ready, done), place / "b" / tree.name


def wormhole(tree: Path, place: Path) -> tuple[Row, Path]:
    folder = Path(os.environ["STACK_WORMHOLE"])
    program, twist = (folder / "python", folder / "wormhole"), (folder / "python", folder / "twist")
    sender, receiver = End(place / "a"), End(place / "b")
    servers = ("--relay-url", f"ws://127.0.0.1:{MAILBOX_PORT}/v1", "--transit-helper", f"tcp:127.0.0.1:{TRANSIT_PORT}")
    mailbox = (*twist, "wormhole-mailbox", "--port", f"tcp:{MAILBOX_PORT}:interface=127.0.0.1")
    transit = (*twist, "transitrelay", "--port", f"tcp:{TRANSIT_PORT}:interface=127.0.0.1")
    with running(*mailbox, folder=place), running(*transit, folder=place):
        begun = time.monotonic()
        sending = sender.start(*program, *servers, "send", "--hide-progress", "--no-qr", "--code", "1-a-b", tree)
        said(sending, "(Wormhole code is|wormhole receive)")
        ready = time.monotonic()
        receiver.run(*program, *servers, "receive", "--hide-progress", "--accept-file", "-o", "got", "1-a-b")
        done = time.monotonic()
        sender.reap(sending)
    return row("magic-wormhole", sender, receiver, begun, ready, done), place / "b/got"


@contextmanager
def running(*command: str | Path, folder: Path | None = None) -> Iterator[None]:
    """A server of both ends."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2.0)
        yield
    finally:
        process.terminate()
        process.wait()


PROGRAMS: Mapping[str, tuple[str, Callable[[Path, Path], tuple[Row, Path]]]] = {
    "stack": ("", ours),
    "kubo": ("STACK_KUBO", kubo),
    "croc": ("STACK_CROC", croc),
    "wormhole": ("STACK_WORMHOLE", wormhole),
}


def make_tree(tree: Path, files: int) -> None:
    """Files of random bytes, in directories."""
    source = random.Random(files)
    for number in range(files):
        folder = tree / f"{number // FILES_A_DIRECTORY}"
        if number % FILES_A_DIRECTORY == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}").write_bytes(source.randbytes(FILE_BYTES))


def is_same(left: Path, right: Path) -> bool:
    """Whether two trees have the same files."""
    compared = filecmp.dircmp(left, right)
    waiting = [compared]
    while waiting:
        one = waiting.pop()
        if one.left_only or one.right_only or one.funny_files:
            return False
        if filecmp.cmpfiles(one.left, one.right, one.common_files, shallow=False)[0] != one.common_files:
            return False
        waiting += one.subdirs.values()
    return True


def table(rows: Sequence[Row]) -> str:
    """For the documents."""
    lines = [
        "| what | ready, s | fetch, s | sender, CPU s | receiver, CPU s | syncs of both |",
        "|---|---|---|---|---|---|",
    ]
    for each in rows:
        figures = (each.ready, each.fetch, each.sender_cpu, each.receiver_cpu)
        syncs = f"{each.sender_syncs:,} + {each.receiver_syncs:,}"
        lines.append(f"| {each.what} | {' | '.join(f'{figure:.1f}' for figure in figures)} | {syncs} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print each row as JSON and all as a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--programs", nargs="*", choices=PROGRAMS, default=list(PROGRAMS))
    chosen = parser.parse_args(arguments)
    rows = []
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="small-files-")))
        make_tree(place / "tree", chosen.files)
        for name in chosen.programs:
            variable, work = PROGRAMS[name]
            if variable and variable not in os.environ:
                print(f"{name} is left out: {variable} is not set", file=sys.stderr)
                continue
            (place / name).mkdir()
            load = os.getloadavg()[0]
            try:
                measured, got = work(place / "tree", place / name)
            except SystemExit as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            if not is_same(place / "tree", got):
                raise SystemExit(f"{name}: what arrived is something else")
            rows.append(measured)
            print(json.dumps({**asdict(measured), "files": chosen.files, "load": load}), flush=True)
            os.sync()
    print(table(rows))


if __name__ == "__main__":
    main()
