"""UDP on a computer with several addresses: which of them a datagram was sent to, and answering from that one.

Of a socket that is bound to all addresses the system would answer from the one that its routes prefer, and who has asked another hears
from somebody it does not know: its router lets nothing of that in, and QUIC forbids it (RFC 9000, 9).
"""

import socket
import struct
import sys
from collections.abc import Sequence

from stack.transports.quic.address import Address

_IP_PKTINFO = 8
"""Of Linux; the module `socket` has no name for it."""
_FOUR = struct.Struct("=I4s4s")
"""`in_pktinfo`: the interface; our address, as sender of an answer; where the datagram was sent to, which may be everybody's."""
_SIX = struct.Struct("=16sI")
"""`in6_pktinfo`: our address, the interface."""
_ANCILLARY_BYTES = 256

Ancillary = tuple[int, int, bytes]


def tells_destination(line: socket.socket) -> bool:
    """Have a socket that is bound to all addresses say where each datagram was sent to. False where the system has no such thing."""
    if sys.platform != "linux":
        return False
    if line.family == socket.AF_INET:
        line.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return True


def receive(line: socket.socket, size: int) -> tuple[bytes, Address, str | None]:
    """A datagram, who has sent it, and which of our addresses it came to. Raises OSError."""
    data, ancillary, _, sender = line.recvmsg(size, _ANCILLARY_BYTES)
    return data, sender, _destination(ancillary)


def send(line: socket.socket, data: bytes, target: Address, source: str) -> None:
    """Send a datagram from one of our addresses. Raises OSError."""
    line.sendmsg([data], [_from(line.family, target, source)], 0, target)


def _destination(ancillary: Sequence[Ancillary]) -> str | None:
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return socket.inet_ntop(socket.AF_INET, _FOUR.unpack(value)[1])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, _SIX.unpack(value)[0])
    return None


def _from(family: int, target: Address, source: str) -> Ancillary:
    address = socket.inet_pton(family, source)
    if family == socket.AF_INET:
        return socket.IPPROTO_IP, _IP_PKTINFO, _FOUR.pack(0, address, b"\0\0\0\0")
    # A link-local address is only of its link.
    zone = target[3] if len(target) == 4 else 0
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _SIX.pack(address, zone)
