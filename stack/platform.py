"""What differs from one operating system to another."""

import errno
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from stack.values import dataclass

try:
    import fcntl
    import termios
except ImportError:  # Windows
    _OUT_QUEUE = None
else:
    # tcp(7): SIOCOUTQ has the number of this terminal's request on Linux; elsewhere it says something else.
    _OUT_QUEUE = termios.TIOCOUTQ if sys.platform == "linux" else None
_NOT_SENT = 0x894B
"""SIOCOUTQNSD (linux/sockios.h)."""
_TCP_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None) if sys.platform == "linux" else None

_IFADDRS = struct.Struct("@PPIPP")
"""`struct ifaddrs` as far as it is needed: next, name, flags, address, netmask."""
_FLAG_UP = 0x1
_FLAG_LOOPBACK = 0x8
_FLAG_POINT_TO_POINT = 0x10
_FLAG_MULTICAST = 0x1000 if sys.platform == "linux" else 0x8000

_IN_SOCKADDR = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}
"""Where in a socket address the IP address lies, and how long it is."""

_TCP_CONGESTION: int | None = getattr(socket, "TCP_CONGESTION", None)
_UNPACED = (b"cubic", b"reno")
"""Congestion controls that send when there is room. BBR, the default of many servers, sends by a timer: 0.5 CPU-seconds a GiB."""

_DONTCACHE = 0x80
"""RWF_DONTCACHE (linux/fs.h), since Linux 6.14: what is written goes to the disk at once, and leaves memory."""

_SYNCFS_TELLS = (5, 8)
"""Since this Linux syncfs(2) tells of data that could not be written; before, a caller learnt nothing."""
_SYNCED_WHOLE = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994})
"""ext4, XFS, btrfs, F2FS, tmpfs. On others (FUSE, overlays) syncfs may ask less of the disk than fsync does, or hide an error;
and when a file changed is what somebody else says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface that is up."""

    name: str
    index: int
    """0 when the system does not tell."""
    networks: tuple[str, ...]
    """Its IP addresses with the length of their network's prefix: `192.168.1.5/24`."""
    loopback: bool
    multicast: bool
    """Several machines share its link and can be spoken to at once; False for a tunnel to one other end."""


DESCRIPTORS_MAX = 65_536
"""So many are asked for at most: some systems say that there is no bound, and take none that is larger than their own."""


def raise_descriptor_limit() -> int:
    """Let this process open as many files and sockets as the system permits; returns how many that are. Most systems start
    programs with 1,024 and permit many more (for the sake of `select`, which is not used here)."""
    try:
        import resource
    except ImportError:  # Windows knows no such limit
        return DESCRIPTORS_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = DESCRIPTORS_MAX if hard == unlimited else min(hard, DESCRIPTORS_MAX)
    if soft != unlimited and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass  # the system knows a lower bound that it does not tell; what there is has to do
    return DESCRIPTORS_MAX if soft == unlimited else min(soft, DESCRIPTORS_MAX)


def descriptor_limit() -> int:
    """How many files and sockets this process may have open now, as far as that is bounded."""
    try:
        import resource
    except ImportError:
        return DESCRIPTORS_MAX
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else min(soft, DESCRIPTORS_MAX)


def umask() -> int:
    """The permissions that new files of this process do not get."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line[6:], 8)
    except OSError:
        pass
    # Elsewhere it can only be read by setting it; what another thread makes in this instant is its owner's alone.
    value = os.umask(0o077)
    os.umask(value)
    return value


def available_memory() -> int | None:
    """Bytes that the system could give to programs, or use to remember files; None where it does not tell."""
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


_takes_dontcache = sys.platform == "linux"


def write_uncached(fd: int, parts: Sequence[memoryview], offset: int) -> int:
    """`os.pwritev`, and the system need not remember what was written, where it knows how not to. Raises OSError."""
    global _takes_dontcache
    if _takes_dontcache:
        try:
            return os.pwritev(fd, parts, offset, _DONTCACHE)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            # This system or this file system has no such thing. What else can be wrong is told without the flag, too.
            _takes_dontcache = False
    return os.pwritev(fd, parts, offset)


def unacknowledged(connection: socket.socket) -> int:
    """Bytes written to a TCP socket that the other end's machine has not acknowledged; 0 where the system does not tell."""
    if _OUT_QUEUE is None:
        return 0
    return int.from_bytes(fcntl.ioctl(connection, _OUT_QUEUE, bytes(4)), sys.byteorder)


def end_pacing(connection: socket.socket) -> None:
    """Have a connected TCP socket send as fast as it is read, where both ends are on loopback: there is no line to be spared. Nothing
    changes elsewhere, nor where the system does not permit it."""
    if _TCP_CONGESTION is not None and _on_loopback(connection):
        for control in _UNPACED:
            try:
                connection.setsockopt(socket.IPPROTO_TCP, _TCP_CONGESTION, control)
                return
            except OSError:
                pass  # not there, or not for us


def limit_unsent(connection: socket.socket, size: int) -> bool:
    """Have a connected TCP socket take no more than `size` bytes beyond what the line has room for. False on loopback, which has always
    room, and where the system has no such bound or does not tell how far it is reached."""
    if _TCP_NOTSENT_LOWAT is None or _on_loopback(connection) is not False:
        return False
    try:
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)
    except OSError:  # it has gone
        return False
    return True


def unsent(connection: socket.socket) -> int:
    """Bytes written to a TCP socket that the line has had no room for yet. Linux only. Raises OSError."""
    return int.from_bytes(fcntl.ioctl(connection, _NOT_SENT, bytes(4)), sys.byteorder)


def _on_loopback(connection: socket.socket) -> bool | None:
    """Whether both ends are; None when it has gone."""
    try:
        names = connection.getsockname(), connection.getpeername()
    except OSError:
        return None
    return all(name[0] == "::1" or name[0].startswith("127.") for name in names)


def can_sync_file_system(fd: int) -> bool:
    """Whether `sync_file_system` does for all files there what fsync does for each."""
    return sys.platform == "linux" and _kernel() >= _SYNCFS_TELLS and _file_system(fd) in _SYNCED_WHOLE


def keeps_own_times(fd: int) -> bool:
    """Whether this kernel itself writes down when a file was last changed, as another machine or a FUSE program might not."""
    return sys.platform == "linux" and _file_system(fd) in _SYNCED_WHOLE


def _file_system(fd: int) -> int:
    import ctypes  # as in `_entries`

    figures = (ctypes.c_long * 32)()  # struct statfs is smaller, and begins with the type
    return figures[0] if ctypes.CDLL(None).fstatfs(fd, figures) == 0 else 0


def _kernel() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def sync_file_system(fd: int) -> None:
    """Return when all that was written to the file system of an open file would survive a power cut. Raises OSError.

    Also for data that could not be written since `fd` was opened.
    """
    import ctypes

    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_FALLOC_PUNCH_HOLE = 0x01 | 0x02
"""And keep the size."""


def punch_hole(fd: int, offset: int, size: int) -> bool:
    """Give the disk back what a part of a file takes; it reads as zeros then. False where the file system cannot."""
    import ctypes

    punch = getattr(ctypes.CDLL(None), "fallocate64", None) if sys.platform == "linux" else None
    return punch is not None and punch(fd, _FALLOC_PUNCH_HOLE, ctypes.c_int64(offset), ctypes.c_int64(size)) == 0


def trim_memory() -> None:
    """Give the system back what this process has freed. The GNU allocator keeps it: half of what a crowd made us hold was still
    ours minutes after it had left. Takes some 2 ms, for a worker thread; elsewhere nothing happens."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


_NO_ANSWER = frozenset({errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOSYS})
"""What getifaddrs(3) says where this process may never ask: Android, a sandbox without netlink sockets. All else is for now."""

_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


def interfaces() -> list[Interface]:
    """Every interface that is up, in the order the system names them; none where getifaddrs(3) is missing (Windows) or forbidden.

    Raises OSError when it cannot be known now, as without descriptors.
    """
    found: dict[str, tuple[int, list[str]]] = {}
    for name, flags, family, address, mask in _entries() or ():
        networks = found.setdefault(name, (flags, []))[1]
        if address:
            prefix = int.from_bytes(mask, "big").bit_count()
            networks.append(f"{socket.inet_ntop(family, address)}/{prefix}")
    return [
        Interface(
            name=name,
            index=_index(name),
            networks=tuple(dict.fromkeys(networks)),
            loopback=bool(flags & _FLAG_LOOPBACK),
            multicast=bool(flags & _FLAG_MULTICAST) and not flags & _FLAG_POINT_TO_POINT,
        )
        for name, (flags, networks) in found.items()
    ]


def interface_addresses() -> list[str]:
    """The IP addresses of all interfaces that are up, as text without zones, in the order the system names them.

    By getifaddrs(3); where that is missing (Windows) or forbidden, what the host name resolves to. Raises OSError when it cannot be
    known now, as without descriptors: who took the host name's addresses for ours then would think that we have moved.
    """
    entries = _entries()
    if entries is None:
        return _addresses_of_host_name()
    return list(dict.fromkeys(socket.inet_ntop(family, address) for _, _, family, address, _ in entries if address))


_ADDRESS_GROUPS = 0x10 | 0x100
"""rtnetlink(7): RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""


def address_news() -> socket.socket | None:
    """A socket that can be read when an address of this computer has come or gone; None where there is none (it is on Linux)."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        news = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    except OSError:
        return None
    try:
        news.bind((0, _ADDRESS_GROUPS))
    except OSError:
        news.close()
        return None
    return news


_ROUTE_GATEWAY = 0x2


def default_gateway() -> str | None:
    """The IPv4 address of the router to everywhere else; None without one, and where the system does not tell (it does on Linux).

    Raises OSError when it cannot be known now.
    """
    try:
        with open("/proc/net/route") as file:
            rows = [row for line in file if len(row := line.split()) >= 8 and row[0] != "Iface"]
    except (FileNotFoundError, PermissionError):
        return None
    ways = [
        (int(metric), socket.inet_ntoa(struct.pack("=I", int(gateway, 16))))
        for _, target, gateway, flags, _, _, metric, mask, *_ in rows
        if int(target, 16) == int(mask, 16) == 0 and int(flags, 16) & _ROUTE_GATEWAY
    ]
    return min(ways)[1] if ways else None


def _entries() -> list[tuple[str, int, int, bytes, bytes]] | None:
    """Name, flags, family, address and netmask (empty for families other than IP) of each entry; None where it can never be had.
    Raises OSError."""
    import ctypes  # costs milliseconds, and most commands never come here

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        ask = libc.getifaddrs
    except (AttributeError, OSError, TypeError):
        return None
    first = ctypes.c_void_p()
    if ask(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        if number in _NO_ANSWER:
            return None
        raise OSError(number, os.strerror(number))
    try:
        return list(_walk(first.value))
    finally:
        libc.freeifaddrs(first)


def _walk(entry: int | None) -> Iterator[tuple[str, int, int, bytes, bytes]]:
    import ctypes

    while entry:
        entry, name, flags, address, mask = _IFADDRS.unpack(ctypes.string_at(entry, _IFADDRS.size))
        if flags & _FLAG_UP:
            text = os.fsdecode(ctypes.string_at(name))
            family = _family(ctypes.string_at(address, 2)) if address else 0
            if family in _IN_SOCKADDR:
                offset, size = _IN_SOCKADDR[socket.AddressFamily(family)]
                ip = ctypes.string_at(address + offset, size)
                yield text, flags, family, ip, _mask(ctypes.string_at(mask, 2), mask, offset, size) if mask else b""
            else:
                yield text, flags, family, b"", b""


def _family(head: bytes) -> int:
    # BSD systems have a length byte before a one-byte family
    return int(struct.unpack("=H", head)[0]) if sys.platform == "linux" else head[1]


def _mask(head: bytes, mask: int, offset: int, size: int) -> bytes:
    import ctypes

    # BSD systems leave out the zero bytes at the end
    there = size if sys.platform == "linux" else max(0, min(size, head[0] - offset))
    return ctypes.string_at(mask + offset, there)


def no_such_characters(error: UnicodeEncodeError) -> str:
    """One sentence of text that the system cannot be given, because its characters are not in what this process takes for the system's."""
    lacking = error.object[error.start : error.end]
    return f"the locale of this process ({error.encoding}) has no {lacking!a}: set one of UTF-8, as LC_ALL=C.UTF-8"


def _index(name: str) -> int:
    import ctypes  # `socket.if_nametoindex` does not say what was wrong

    index: int = ctypes.CDLL(None, use_errno=True).if_nametoindex(os.fsencode(name))
    number = ctypes.get_errno()
    if not index and number in _SHORTAGE:
        raise OSError(number, os.strerror(number))
    return index  # 0: it has gone meanwhile


def _addresses_of_host_name() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return ["127.0.0.1"]
    return list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))
