"""What differs from one operating system to another."""

import socket
import struct
import sys

_IFADDRS = struct.Struct("@PPIP")
"""`struct ifaddrs` as far as it is needed: next, name, flags, address."""
_FLAG_UP = 1


def interface_addresses() -> list[str]:
    """The IP addresses of all interfaces that are up, as text without zones, in the order the system names them.

    By getifaddrs(3); where that is missing (Windows), what the host name resolves to.
    """
    import ctypes  # costs milliseconds, and most commands never come here

    try:
        libc = ctypes.CDLL(None)
        first = ctypes.c_void_p()
        if libc.getifaddrs(ctypes.byref(first)) != 0:
            return _addresses_of_host_name()
    except (AttributeError, OSError, TypeError):
        return _addresses_of_host_name()
    try:
        found = []
        entry = first.value
        while entry:
            entry, _, flags, address = _IFADDRS.unpack(ctypes.string_at(entry, _IFADDRS.size))
            if flags & _FLAG_UP and address:
                head = ctypes.string_at(address, 2)
                # BSD systems have a length byte before a one-byte family
                family = struct.unpack("=H", head)[0] if sys.platform == "linux" else head[1]
                if family == socket.AF_INET:
                    found.append(socket.inet_ntop(family, ctypes.string_at(address + 4, 4)))
                elif family == socket.AF_INET6:
                    found.append(socket.inet_ntop(family, ctypes.string_at(address + 8, 16)))
        return list(dict.fromkeys(found))
    finally:
        libc.freeifaddrs(first)


def _addresses_of_host_name() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return ["127.0.0.1"]
    return list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))
