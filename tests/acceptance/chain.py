"""Computers in a row: each sees only the next one, until they forward what is not for themselves."""

import os
import subprocess
from types import TracebackType

from tests.acceptance.namespaces import prefix


class Chain:
    """Namespaces in a row, with a cable between neighbours. A context."""

    def __init__(self, count: int) -> None:
        self.names = tuple(f"stack-{os.getpid()}-c{number}" for number in range(count))

    def prefix(self, number: int) -> tuple[str, ...]:
        """What to put in front of a command to run it on one of the computers."""
        return prefix(self.names[number])

    def __enter__(self) -> "Chain":
        try:
            for name in self.names:
                _run("ip", "netns", "add", name)
                self._inside(name, "ip", "link", "set", "lo", "up")
            for link, (left, right) in enumerate(zip(self.names, self.names[1:], strict=False)):
                ends = f"ip link add right netns {left} type veth peer name left netns {right}"
                _run(*ends.split())
                for name, device, host in ((left, "right", 1), (right, "left", 2)):
                    self._inside(name, *f"ip address add 10.78.{link}.{host}/24 dev {device}".split())
                    self._inside(name, "ip", "link", "set", device, "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._remove()

    def forward(self) -> None:
        """From now on everybody can reach everybody."""
        last = len(self.names) - 1
        for number, name in enumerate(self.names):
            self._inside(name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            for link in range(last):
                if link < number - 1:
                    self._inside(name, *f"ip route add 10.78.{link}.0/24 via 10.78.{number - 1}.1".split())
                elif link > number:
                    self._inside(name, *f"ip route add 10.78.{link}.0/24 via 10.78.{number}.2".split())

    def _inside(self, name: str, *command: str) -> None:
        _run(*prefix(name), *command)

    def _remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
