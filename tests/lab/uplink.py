"""One upload that many share: receivers, each with an address of its own, who fetch one file at the same time from one slow home.

    python -m tests.lab.uplink [--receivers 24] [--kib 512] [--kbit 480]      # root

says when each had it, and how much the line carried beside what it had to. Its queue is short, so it loses packets, and TCP pauses.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.acceptance.kit import Machine, good, make_file, sha256, temporary_place
from tests.acceptance.namespaces import Namespaces

PORT = 7001
KIB = 1024


class Uplink(Namespaces):
    """Namespaces behind one router each with a cable of its own; what the first sends is shaped to `kbit` a second."""

    def __init__(self, receivers: int, kbit: int) -> None:
        super().__init__(*map(str, range(receivers + 1)), "r")
        *self.computers, self._router = self.names
        self._kbit = kbit

    def address(self, number: int) -> str:
        """Of one of the computers."""
        return f"10.79.{number}.2"

    def _build(self) -> None:
        self.inside(self._router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        for number, name in enumerate(self.computers):
            self.join(name, "wire", self._router, f"port{number}")
            self.give(name, "wire", self.address(number))
            self.give(self._router, f"port{number}", f"10.79.{number}.1")
            self.inside(name, *f"ip route add default via 10.79.{number}.1".split())
        shape = f"tc qdisc add dev wire root tbf rate {self._kbit}kbit burst 16kb limit 64kb"
        self.inside(self.computers[0], *shape.split())


class Shared(NamedTuple):
    """What came of it."""

    seconds: list[float]
    """When each receiver had the file, in order."""
    carried: float
    """Bytes that the line carried for each of the file that it had to, at most once a receiver."""


def shared(receivers: int, size: int, kbit: int, seconds_max: float) -> Shared:
    """Raises AssertionError when a receiver has not got it by then, or something else."""
    with temporary_place() as place, Uplink(receivers, kbit) as uplink:
        listen = {"listen": f"/ip4/0.0.0.0/tcp/{PORT}"}
        sharer, *others = (
            Machine(place / str(number), prefix=uplink.prefix(number), **listen) for number in range(receivers + 1)
        )
        source = make_file(sharer.folder / "film", size)
        begun = time.monotonic()

        def get(machine: Machine, ticket: str) -> float:
            good(machine.run("get", ticket, "--json", timeout=seconds_max))
            assert sha256(machine.folder / "film") == sha256(source)
            return time.monotonic() - begun

        with sharer.sharing(source) as (_, told), ThreadPoolExecutor(receivers) as pool:
            begun = time.monotonic()
            done = [pool.submit(get, machine, told["ticket"]) for machine in others]
            seconds = sorted(each.result() for each in done)
            counted = sharer.python("print(open('/sys/class/net/wire/statistics/tx_bytes').read())")
        return Shared(seconds, int(counted.out) / (size * receivers))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--receivers", type=int, default=24)
    parser.add_argument("--kib", type=int, default=512)
    parser.add_argument("--kbit", type=int, default=480)
    given = parser.parse_args()
    ideal = given.receivers * given.kib * KIB * 8 / given.kbit / 1000
    seconds, carried = shared(given.receivers, given.kib * KIB, given.kbit, 120 + 3 * ideal)
    print(f"first after {seconds[0]:.0f} s, half after {seconds[len(seconds) // 2]:.0f}, all after {seconds[-1]:.0f};")
    print(f"one copy for each takes {ideal:.0f} s; the line carried {carried:.2f} times that")


if __name__ == "__main__":
    main()
