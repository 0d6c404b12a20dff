"""Computers on a wire or around a switch: network namespaces with veth pairs between them, gone afterwards without a trace."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType


def missing() -> str | None:
    """Why namespaces cannot be made here, or None."""
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"needs the program `{tool}` (iproute2)"
    name = f"stack-{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "this kernel or container does not let us make network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def prefix(name: str) -> tuple[str, ...]:
    """What to put in front of a command to run it in a namespace; the command keeps the process id."""
    return ("ip", "netns", "exec", name)


class Wire:
    """Namespaces `left` and `right`, joined by one cable that carries `mbit` a second. A context."""

    LEFT, RIGHT = "10.77.0.1", "10.77.0.2"

    def __init__(self, mbit: int) -> None:
        self._mbit = mbit
        self.left = f"stack-{os.getpid()}-l"
        self.right = f"stack-{os.getpid()}-r"

    def prefix(self, name: str) -> tuple[str, ...]:
        """See `prefix`."""
        return prefix(name)

    def __enter__(self) -> "Wire":
        try:
            for name in (self.left, self.right):
                _run(["ip", "netns", "add", name])
                self.inside(name, "ip", "link", "set", "lo", "up")
            _run(
                [
                    "ip",
                    "link",
                    "add",
                    "wire",
                    "netns",
                    self.left,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "wire",
                    "netns",
                    self.right,
                ]
            )
            for name, address in ((self.left, self.LEFT), (self.right, self.RIGHT)):
                self.inside(name, "ip", "address", "add", f"{address}/24", "dev", "wire")
                self.inside(name, "ip", "link", "set", "wire", "up")
                shape = f"tc qdisc add dev wire root tbf rate {self._mbit}mbit burst 256kb latency 50ms"
                self.inside(name, *shape.split())
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def inside(self, name: str, *command: str) -> None:
        """Run a program in a namespace. Raises CalledProcessError."""
        _run([*prefix(name), *command])

    def move(self, name: str, old: str, new: str) -> None:
        """Give a namespace another address, as when a laptop changes networks."""
        self.inside(name, "ip", "address", "del", f"{old}/24", "dev", "wire")
        self.inside(name, "ip", "address", "add", f"{new}/24", "dev", "wire")

    def _remove(self) -> None:
        for name in (self.left, self.right):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Star:
    """Namespaces around a switch, each with an address of its own. A context.

    The addresses are those reserved for benchmarks (RFC 2544): nobody takes them for a local network, for which libtorrent has
    no limits.
    """

    def __init__(self, count: int) -> None:
        self.names = tuple(f"stack-{os.getpid()}-{number}" for number in range(count))
        self._switch = f"stack-{os.getpid()}-s"

    def address(self, number: int) -> str:
        """Of one of the computers."""
        return f"198.18.0.{number + 1}"

    def prefix(self, number: int) -> tuple[str, ...]:
        """What to put in front of a command to run it on one of the computers."""
        return prefix(self.names[number])

    def __enter__(self) -> "Star":
        try:
            _run(["ip", "netns", "add", self._switch])
            _run([*prefix(self._switch), "ip", "link", "add", "switch", "type", "bridge"])
            _run([*prefix(self._switch), "ip", "link", "set", "switch", "up"])
            for number, name in enumerate(self.names):
                _run(["ip", "netns", "add", name])
                _run([*prefix(name), "ip", "link", "set", "lo", "up"])
                ends = ["wire", "netns", name, "type", "veth", "peer", "name", f"port{number}", "netns", self._switch]
                _run(["ip", "link", "add", *ends])
                _run([*prefix(name), "ip", "address", "add", f"{self.address(number)}/24", "dev", "wire"])
                _run([*prefix(name), "ip", "link", "set", "wire", "up"])
                _run([*prefix(self._switch), "ip", "link", "set", f"port{number}", "master", "switch", "up"])
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for name in (*self.names, self._switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
