"""A switch between network namespaces, in user space: this kernel may lack netem, and a TUN device is everywhere.

Each namespace has a device `wire` with the address 10.77.0.N/24. What a computer sends waits for its line's rate, is on the way for
the delay of both lines, and is lost by chance or when the queue is full, as on a real router. Multicast goes to all others.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import signal
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance import namespaces
from tests.acceptance.namespaces import Namespaces

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PACKET_MAX = 65536
MTU, MTU_FAST = 1500, 9000
FAST_BYTES_PER_SECOND = 20_000_000
"""From here on packets are larger: user space moves some 30,000 a second."""
QUEUE_SECONDS = 0.2
QUEUE_BYTES_MIN = 128 * 1024
"""What waits for a line: a fifth of a second, as routers keep, and a few packets on the slowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """From a computer to the switch and back."""

    rate: float = 100e6
    """Bytes a second, each way."""
    delay: float = 0.0
    """Seconds from here to the switch."""
    loss: float = 0.0
    """Part of the packets that do not arrive, each way."""
    buffer: int | None = None
    """Bytes at most in a socket's buffers; None as the system has it."""


def carried(one: Line, other: Line) -> float:
    """Bytes a second that one TCP connection brings at least from one computer to another: what line, sockets and loss leave (Mathis)."""
    trip, loss = 2 * (one.delay + other.delay), one.loss + other.loss
    rate = min(one.rate, other.rate)
    for line in (one, other):
        if line.buffer:
            rate = min(rate, line.buffer / max(trip, 0.001) / 2)
    return min(rate, 1500 / trip / loss**0.5) if loss and trip else rate


def enter(namespace: str) -> None:
    """Move this thread into a network namespace."""
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(handle)


def die_with_parent() -> None:
    """Nothing of a run outlives it, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 9)


def address(number: int) -> str:
    """Of the computer with this number, from 0."""
    return f"10.77.0.{number + 1}"


class _Port:
    """One computer's end of the switch."""

    def __init__(self, handle: int, line: Line) -> None:
        self.handle = handle
        self.line = line
        self.free_at = [0.0, 0.0]
        """When the line has sent what waits: up to the switch, and down from it."""

    def pass_on(self, way: int, size: int, now: float, chance: random.Random) -> float | None:
        """When a packet that comes to this line at `now` is at its other end; None when it gets lost."""
        if self.line.loss and chance.random() < self.line.loss:
            return None
        begin = max(now, self.free_at[way])
        queue = max(QUEUE_BYTES_MIN, self.line.rate * QUEUE_SECONDS)
        if (begin - now) * self.line.rate > queue:
            return None
        self.free_at[way] = begin + size / self.line.rate
        return self.free_at[way] + self.line.delay


class Switch(Namespaces):
    """Namespaces `names`, one line each, and a process of its own that passes packets on. A context; needs root."""

    def __init__(self, lines: Sequence[Line], seed: int = 0) -> None:
        super().__init__(*(f"lab{number}" for number in range(len(lines))))
        self.lines = list(lines)
        self._seed = seed
        self._pid: int | None = None

    def _build(self) -> None:
        for number, (name, line) in enumerate(zip(self.names, self.lines, strict=True)):
            mtu = MTU if line.rate < FAST_BYTES_PER_SECOND else MTU_FAST
            self.inside(name, "ip", "tuntap", "add", "dev", "wire", "mode", "tun")
            self.inside(name, "ip", "link", "set", "wire", "mtu", str(mtu), "multicast", "on")
            self.give(name, "wire", address(number))
            self.inside(name, "ip", "route", "add", "224.0.0.0/4", "dev", "wire")
            if line.buffer is not None:
                for kind in ("tcp_wmem", "tcp_rmem"):
                    sizes = f"echo '4096 16384 {line.buffer}' > /proc/sys/net/ipv4/{kind}"
                    self.inside(name, "sh", "-c", sizes)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                die_with_parent()
                self._pass_on_for_ever()
            finally:
                os._exit(1)

    def _remove(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None
        super()._remove()

    def _pass_on_for_ever(self) -> None:
        chance = random.Random(self._seed)
        ports: dict[int, _Port] = {}
        by_address: dict[bytes, _Port] = {}
        poll = select.epoll()
        for number, (name, line) in enumerate(zip(self.names, self.lines, strict=True)):
            enter(name)
            handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH", b"wire", IFF_TUN | IFF_NO_PI))
            port = ports[handle] = _Port(handle, line)
            by_address[bytes((10, 77, 0, number + 1))] = port
            poll.register(handle, select.EPOLLIN)
        waiting: list[tuple[float, int, int, _Port, bytes]] = []
        count = 0
        while True:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, stage, port, packet = heapq.heappop(waiting)
                if stage == 0:  # at the switch: down the other line
                    at = port.pass_on(1, len(packet), now, chance)
                    if at is not None:
                        count += 1
                        heapq.heappush(waiting, (at, count, 1, port, packet))
                else:
                    try:
                        os.write(port.handle, packet)
                    except OSError:
                        pass  # the device is down or full: lost
            pause = max(0.0, waiting[0][0] - now) if waiting else -1
            for handle, _ in poll.poll(pause):
                for _ in range(64):
                    try:
                        packet = os.read(handle, PACKET_MAX)
                    except OSError:
                        break
                    if packet[0] >> 4 != 4:
                        continue
                    arrived = ports[handle].pass_on(0, len(packet), time.monotonic(), chance)
                    if arrived is None:
                        continue
                    goal = packet[16:20]
                    if goal[0] & 0xF0 == 0xE0:
                        targets = [port for port in ports.values() if port.handle != handle]
                    else:
                        targets = [by_address[goal]] if goal in by_address else []
                    for port in targets:
                        count += 1
                        heapq.heappush(waiting, (arrived, count, 0, port, packet))


def missing() -> str | None:
    """Why there can be no lab here, or None."""
    if (reason := namespaces.missing()) is not None:
        return reason
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs /dev/net/tun"
    try:
        with Switch([Line()]):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"cannot make network namespaces with TUN devices: {error}"
