"""What differs by system."""

import ctypes
import errno
import io
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stack import platform
from stack.platform import interface_addresses, raise_descriptor_limit


def test_the_interfaces_of_this_machine_are_named() -> None:
    addresses = interface_addresses()
    assert "127.0.0.1" in addresses
    assert len(addresses) == len(set(addresses))
    for address in addresses:
        socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)


class Failing:
    """A C library whose getifaddrs says no."""

    def __init__(self, number: int) -> None:
        self.number = number

    def getifaddrs(self, first: object) -> int:
        ctypes.set_errno(self.number)
        return -1

    def if_nametoindex(self, name: bytes) -> int:
        ctypes.set_errno(self.number)
        return 0


def test_a_system_without_getifaddrs_asks_for_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one that never lets this process ask: Android, a sandbox."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **options: Failing(errno.EAFNOSUPPORT))
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert "127.0.0.1" in interface_addresses()
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **options: object())
    assert "127.0.0.1" in interface_addresses()


@pytest.mark.parametrize("look", [interface_addresses, platform.interfaces, lambda: platform._index("lo")])
def test_who_has_no_descriptor_left_does_not_know_the_interfaces(
    look: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host name's addresses were taken for ours, and all connections that do not stand on loopback closed."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **options: Failing(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        look()


def test_a_machine_that_does_not_know_its_name_has_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **options: object) -> object:
        raise OSError("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert platform._addresses_of_host_name() == ["127.0.0.1"]


def test_interfaces_have_networks_and_an_index() -> None:
    loopback = next(each for each in platform.interfaces() if each.loopback)
    assert "127.0.0.1/8" in loopback.networks
    assert loopback.index == socket.if_nametoindex(loopback.name)
    addresses = [network.partition("/")[0] for each in platform.interfaces() for network in each.networks]
    assert set(addresses) == set(interface_addresses())


def test_an_interface_that_has_gone_meanwhile_has_no_index() -> None:
    assert platform._index("no such interface") == 0


def test_a_system_without_getifaddrs_has_no_interfaces_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name, **options: object())
    assert platform.interfaces() == []


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [(256, 4096, 4096), (1024, resource.RLIM_INFINITY, 65_536), (65_536, 1 << 20, 65_536), (512, 512, 512)],
)
def test_attack_3_as_many_files_may_be_open_as_the_system_permits(
    soft: int, hard: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: limits.append(new))
    assert raise_descriptor_limit() == wanted
    assert limits[-1] == (wanted, hard)


def test_attack_3_a_system_that_takes_no_higher_limit_leaves_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: int, new: tuple[int, int]) -> None:
        raise ValueError("more than this system allows")

    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 256


def test_a_file_system_is_synced_at_once_where_that_does_for_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        if platform.can_sync_file_system(fd):
            platform.sync_file_system(fd)
            monkeypatch.setattr(platform, "_kernel", lambda: (5, 7))
            assert not platform.can_sync_file_system(fd)
            monkeypatch.undo()
        monkeypatch.setattr(platform, "_SYNCED_WHOLE", frozenset())
        assert not platform.can_sync_file_system(fd)
    finally:
        os.close(fd)


@pytest.mark.skipif(
    sys.platform != "linux", reason="NOT TESTED: one sync of a whole file system; syncfs(2) is of Linux"
)
def test_a_sync_of_what_is_not_open_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        platform.sync_file_system(-1)


def test_memory_is_given_back_where_the_allocator_can_and_elsewhere_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    platform.trim_memory()
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    platform.trim_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    platform.trim_memory()


class Named:
    """A socket with two addresses that knows one congestion control."""

    def __init__(self, here: str, there: str, *known: bytes) -> None:
        self.here, self.there, self.known = here, there, known
        self.set: list[bytes] = []

    def getsockname(self) -> tuple[str, int]:
        return self.here, 4001

    def getpeername(self) -> tuple[str, int]:
        if not self.there:
            raise OSError("not connected")
        return self.there, 4001

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if value not in self.known:
            raise PermissionError("not permitted")
        self.set.append(value)


@pytest.mark.parametrize(
    ("here", "there", "known", "unpaced"),
    [
        ("127.0.0.1", "127.0.0.2", (b"cubic", b"reno"), [b"cubic"]),
        ("::1", "::1", (b"reno",), [b"reno"]),
        ("::1", "::1", (), []),
        ("192.0.2.1", "127.0.0.1", (b"cubic",), []),
        ("127.0.0.1", "192.0.2.1", (b"cubic",), []),
        ("127.0.0.1", "", (b"cubic",), []),
    ],
)
def test_only_what_stays_on_loopback_is_sent_without_a_timer(
    here: str, there: str, known: tuple[bytes, ...], unpaced: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "_TCP_CONGESTION", 13)
    connection = Named(here, there, *known)
    platform.end_pacing(connection)  # type: ignore[arg-type] # as much of a socket as it looks at
    assert connection.set == unpaced


def test_a_system_that_knows_one_congestion_control_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_TCP_CONGESTION", None)
    connection = Named("::1", "::1", b"cubic")
    platform.end_pacing(connection)  # type: ignore[arg-type] # as above
    assert not connection.set


ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


@pytest.mark.skipif(
    sys.byteorder != "little", reason="NOT TESTED: the table of routes; it is of a little-endian machine"
)
@pytest.mark.parametrize(
    ("table", "router"), [(ROUTES, "192.168.2.1"), (ROUTES.splitlines()[0], None), ("a table\nof something else", None)]
)
def test_the_router_is_the_default_route_that_the_system_prefers(
    table: str, router: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.open", lambda *arguments: io.StringIO(table))
    assert platform.default_gateway() == router


def test_where_the_system_tells_no_routes_there_is_no_router(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*arguments: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", none)
    assert platform.default_gateway() is None


def test_a_router_that_cannot_be_looked_for_is_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("builtins.open", short)
    with pytest.raises(OSError, match="Too many open files"):
        platform.default_gateway()


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: holes in files; fallocate(2) is of Linux")
def test_a_hole_is_punched_where_the_system_can_and_elsewhere_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 65536)
    with path.open("r+b") as file:
        if platform.punch_hole(file.fileno(), 100, 40_000):
            assert path.read_bytes() == b"x" * 100 + bytes(40_000) + b"x" * (65536 - 40_100)
        monkeypatch.setattr(sys, "platform", "darwin")
        assert not platform.punch_hole(file.fileno(), 50_000, 1000)
        assert path.read_bytes()[-20_000:] == b"x" * 20_000
