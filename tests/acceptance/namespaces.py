"""Computers on a wire or around a switch or in a row: network namespaces with veth pairs between them, gone afterwards without a trace."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self


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


class Namespaces:
    """Computers by the names of their namespaces, made by `_build` and gone afterwards. A context."""

    def __init__(self, *names: str) -> None:
        self.names = tuple(f"stack-{os.getpid()}-{name}" for name in names)

    def __enter__(self) -> Self:
        try:
            for name in self.names:
                _run(["ip", "netns", "add", name])
                self.inside(name, "ip", "link", "set", "lo", "up")
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def prefix(self, computer: int | str) -> tuple[str, ...]:
        """What to put in front of a command to run it on one of the computers, by its number or name."""
        return prefix(computer if isinstance(computer, str) else self.names[computer])

    def inside(self, name: str, *command: str) -> None:
        """Run a program in a namespace. Raises CalledProcessError."""
        _run([*prefix(name), *command])

    def join(self, left: str, left_device: str, right: str, right_device: str) -> None:
        """A cable between two of them."""
        ends = [left_device, "netns", left, "type", "veth", "peer", "name", right_device, "netns", right]
        _run(["ip", "link", "add", *ends])

    def give(self, name: str, device: str, address: str) -> None:
        """An address on a device, which is up from then on."""
        self.inside(name, "ip", "address", "add", f"{address}/24", "dev", device)
        self.inside(name, "ip", "link", "set", device, "up")

    def _build(self) -> None:
        raise NotImplementedError

    def _remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Alone(Namespaces):
    """One computer without a cable."""

    def __init__(self) -> None:
        super().__init__("alone")

    def _build(self) -> None:
        pass


class Wire(Namespaces):
    """Namespaces `left` and `right`, joined by one cable that carries `mbit` a second."""

    LEFT, RIGHT = "10.77.0.1", "10.77.0.2"

    def __init__(self, mbit: int) -> None:
        super().__init__("l", "r")
        self._mbit = mbit
        self.left, self.right = self.names

    def move(self, name: str, old: str, new: str) -> None:
        """Give a namespace another address, as when a laptop changes networks."""
        self.inside(name, "ip", "address", "del", f"{old}/24", "dev", "wire")
        self.inside(name, "ip", "address", "add", f"{new}/24", "dev", "wire")

    def _build(self) -> None:
        self.join(self.left, "wire", self.right, "wire")
        for name, address in ((self.left, self.LEFT), (self.right, self.RIGHT)):
            self.give(name, "wire", address)
            shape = f"tc qdisc add dev wire root tbf rate {self._mbit}mbit burst 256kb latency 50ms"
            self.inside(name, *shape.split())


class Star(Namespaces):
    """Namespaces around a switch, each with an address of its own.

    The addresses are those reserved for benchmarks (RFC 2544): nobody takes them for a local network, for which libtorrent has
    no limits.
    """

    def __init__(self, count: int) -> None:
        super().__init__(*map(str, range(count)), "s")
        *self.computers, self._switch = self.names

    def address(self, number: int) -> str:
        """Of one of the computers."""
        return f"198.18.0.{number + 1}"

    def _build(self) -> None:
        self.inside(self._switch, "ip", "link", "add", "switch", "type", "bridge")
        self.inside(self._switch, "ip", "link", "set", "switch", "up")
        for number, name in enumerate(self.computers):
            self.join(name, "wire", self._switch, f"port{number}")
            self.give(name, "wire", self.address(number))
            self.inside(self._switch, "ip", "link", "set", f"port{number}", "master", "switch", "up")


class Chain(Namespaces):
    """Namespaces in a row, with a cable between neighbours: each sees only the next one, until they forward."""

    def __init__(self, count: int) -> None:
        super().__init__(*(f"c{number}" for number in range(count)))

    def forward(self) -> None:
        """From now on everybody can reach everybody."""
        last = len(self.names) - 1
        for number, name in enumerate(self.names):
            self.inside(name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            for link in range(last):
                if link < number - 1:
                    self.inside(name, *f"ip route add 10.78.{link}.0/24 via 10.78.{number - 1}.1".split())
                elif link > number:
                    self.inside(name, *f"ip route add 10.78.{link}.0/24 via 10.78.{number}.2".split())

    def _build(self) -> None:
        for link, (left, right) in enumerate(itertools.pairwise(self.names)):
            self.join(left, "right", right, "left")
            self.give(left, "right", f"10.78.{link}.1")
            self.give(right, "left", f"10.78.{link}.2")


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
