"""What processes take, as the system counts it."""

import compileall
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from interop import build
from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, make_file, sha256
from tests.acceptance.process import Outcome, Running
from tests.bench.figures import End, Figure

CLOCK = os.sysconf("SC_CLK_TCK")
SECONDS_MAX = 1800.0
"""For one command."""

Work = Callable[[Path], Figure]
"""One run, in an empty folder of its own."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def memory(pid: int, what: str = "VmHWM") -> int:
    """Bytes by /proc/PID/status: those resident at most, or another of its lines."""
    found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


class Meter:
    """What running processes take from now on."""

    def __init__(self, **pids: int) -> None:
        """Ends by name."""
        self._pids = pids
        for pid in pids.values():
            with suppress(OSError):  # then it is the peak of its whole life
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def ends(self) -> tuple[End, ...]:
        """So far."""
        return tuple(End(name, cpu_seconds(pid) - self._before[name], memory(pid)) for name, pid in self._pids.items())


def alive(name: str, pid: int) -> End:
    """What a running process took in its life so far."""
    return End(name, cpu_seconds(pid), memory(pid))


def end(name: str, outcome: Outcome) -> End:
    """What a command took in its life."""
    return End(name, outcome.cpu_seconds, outcome.peak_memory)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a row is measured, and with what."""

    place: Path
    size: int
    """What the row counts: MiB, or how many."""
    quick: bool = False
    tree: Path | None = None
    """Whose `stack` runs, if not this tree's."""
    alone: bool = False
    """No anchors."""
    missing: list[str] = field(default_factory=list)
    """Anchors that could not be run, with the reason."""

    def machine(self, place: Path, *, prefix: Sequence[str] = (), **settings: str) -> Machine:
        """A computer that runs `stack`."""
        tree = {"PYTHONPATH": str(self.tree)} if self.tree else {}
        return Machine(place, prefix=prefix, settings={**tree, **settings})

    def has(self, kind: str) -> bool:
        """Whether an anchor of interop/ can be run; builds it when need be. What is missing is noted."""
        if self.alone:
            return False
        reason = build.why_not(kind)
        if reason is None:
            try:
                build.command(kind)
                return True
            except (RuntimeError, OSError) as error:
                reason = str(error)
        self.missing.append(f"{kind}: {reason.rpartition('; ')[2]}")
        return False

    def libtorrent(self) -> str | None:
        """An interpreter that has libtorrent."""
        if self.alone:
            return None
        python = os.environ.get("STACK_LIBTORRENT")
        if python is None:
            self.missing.append("libtorrent: STACK_LIBTORRENT names no interpreter that has it")
        return python

    def file(self) -> tuple[Path, str]:
        """A file of `size` MiB and its hash."""
        path = make_file(self.place / "file.bin", self.size * MIB, 7)
        return path, sha256(path)


def ipfs(kubo: Kubo, *arguments: str | Path, place: Path, prefix: Sequence[str] = ()) -> Outcome:
    """`ipfs ARGUMENTS` as a measured process."""
    command = [*prefix, str(build.kubo()), *map(str, arguments)]
    with Running(command, cwd=place, environment=kubo.environment) as process:
        outcome = process.wait(SECONDS_MAX)
    if outcome.code:
        raise RuntimeError(str(outcome))
    return outcome


def same(path: Path, digest: str, what: str) -> None:
    """Raises RuntimeError when a file is another one."""
    if sha256(path) != digest:
        raise RuntimeError(f"{what}: what came is something else")


def in_a_folder(place: Path, work: Work) -> Figure:
    """A run in a folder that is removed, and gone from the disk, before the next begins."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir=place))
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder)
        os.sync()


def compile_modules(tree: Path) -> None:
    """As an installed program's are: where Python is told to write none (PYTHONDONTWRITEBYTECODE) each start would compile them, for
    0.3 s."""
    compileall.compile_dir(tree / "stack", quiet=2)


def machine_facts() -> Mapping[str, str | int]:
    """Of this computer, for whoever reads the figures later."""
    import platform

    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": found[1] if found else platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
    }
