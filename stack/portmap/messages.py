"""The packets of NAT-PMP and PCP, as far as a port is opened with them. Pure. Sources: RFC 6886, RFC 6887.

Both go to UDP port 5351 of the router. Numbers are big-endian; a response's operation is the request's with the highest bit set.
"""

import struct
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from stack.errors import DecodeError
from stack.values import dataclass

SERVER_PORT = 5351
PACKET_MAX = 1100
"""The longest packet of PCP."""
NONCE_SIZE = 12

PMP_VERSION, PCP_VERSION = 0, 2
_RESPONSE = 0x80
_ADDRESS_OPERATION, _PCP_MAP = 0, 1
_PMP_REQUEST = struct.Struct("!BBHHHI")
"""Version, operation, reserved, internal port, wanted external port, seconds."""
_PMP_RESPONSE = struct.Struct("!BBHIHHI")
"""Version, operation, result, seconds since the router began, internal port, external port, seconds."""
_PMP_ADDRESS = struct.Struct("!BBHI4s")
_PMP_ERROR = struct.Struct("!BBH")
_PCP_REQUEST = struct.Struct("!BBHI16s")
"""Version, operation, reserved, seconds, our address."""
_PCP_RESPONSE = struct.Struct("!BBBBII12x")
"""Version, operation, reserved, result, seconds, seconds since the router began."""
_PCP_MAPPING = struct.Struct("!12sB3xHH16s")
"""Nonce, IP protocol, internal port, external port, external address."""

PMP_RESULTS = {
    1: "it does not speak this version",
    2: "its owner has switched that off",
    3: "it has no connection itself",
    4: "it has no room for more",
    5: "it does not know the request",
}
PCP_RESULTS = {
    1: "it does not speak this version",
    2: "its owner does not permit it",
    3: "it cannot read the request",
    4: "it does not know the request",
    8: "it has no room for more",
    11: "this computer has as many ports as it may",
    12: "that address cannot be had",
    13: "it thinks that this computer is behind another router",
}
UNSUPPORTED = 1
"""The result of either for a version that is not spoken."""


class Transport(Enum):
    """What the port belongs to; the value is the IP protocol's number, for NAT-PMP the operation is beside it."""

    TCP = 6
    UDP = 17


_PMP_OPERATION = {Transport.UDP: 1, Transport.TCP: 2}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a router says."""

    version: int
    result: int
    """0: it is done."""
    port: int = 0
    """Outside; 0 when nothing is said of one."""
    address: IPv4Address | IPv6Address | None = None
    """The router's own, outside; None when nothing is said of it."""
    seconds: int = 0
    """For how long."""

    @property
    def reason(self) -> str:
        """Why it is not done, in words."""
        table = PMP_RESULTS if self.version == PMP_VERSION else PCP_RESULTS
        return table.get(self.result, f"error {self.result}")


def pmp_request(transport: Transport, port: int, external: int, seconds: int) -> bytes:
    """Open `port` of this computer, if possible as `external`; 0 seconds closes it."""
    return _PMP_REQUEST.pack(PMP_VERSION, _PMP_OPERATION[transport], 0, port, external, seconds)


def pmp_address_request() -> bytes:
    """What is your address outside?"""
    return bytes([PMP_VERSION, _ADDRESS_OPERATION])


def pcp_request(
    transport: Transport, port: int, external: int, seconds: int, ours: IPv4Address | IPv6Address, nonce: bytes
) -> bytes:
    """The same of PCP; `nonce` is 12 random bytes, the same for as long as the port is open."""
    anywhere = IPv4Address(0) if ours.version == 4 else IPv6Address(0)
    head = _PCP_REQUEST.pack(PCP_VERSION, _PCP_MAP, 0, seconds, _sixteen(ours))
    return head + _PCP_MAPPING.pack(nonce, transport.value, port, external, _sixteen(anywhere))


def decode(data: bytes, transport: Transport, port: int, nonce: bytes) -> Answer:
    """An answer to one of these requests for this port. Raises DecodeError for anything else."""
    if len(data) < _PMP_ERROR.size or not data[1] & _RESPONSE:
        raise DecodeError("this is no answer of a router")
    operation = data[1] & ~_RESPONSE
    if data[0] == PMP_VERSION:
        return _decode_pmp(data, operation, transport, port)
    if data[0] != PCP_VERSION or len(data) < _PCP_RESPONSE.size or operation != _PCP_MAP:
        raise DecodeError("this is no answer of a router")
    _, _, _, result, seconds, _ = _PCP_RESPONSE.unpack_from(data)
    if len(data) < _PCP_RESPONSE.size + _PCP_MAPPING.size:
        raise DecodeError("an answer of PCP was cut short")
    told, number, internal, external, raw = _PCP_MAPPING.unpack_from(data, _PCP_RESPONSE.size)
    if (told, number, internal) != (nonce, transport.value, port):
        raise DecodeError("this answers another request")
    if result:
        return Answer(PCP_VERSION, result)
    address = IPv6Address(raw)
    return Answer(PCP_VERSION, 0, external, address.ipv4_mapped or address, seconds)


def _decode_pmp(data: bytes, operation: int, transport: Transport, port: int) -> Answer:
    _, _, result = _PMP_ERROR.unpack_from(data)
    if result == UNSUPPORTED:
        return Answer(PMP_VERSION, result)  # of PCP, whose operations have other numbers
    if operation not in (_ADDRESS_OPERATION, _PMP_OPERATION[transport]):
        raise DecodeError("this answers another request")
    if result:
        return Answer(PMP_VERSION, result)
    if operation == _ADDRESS_OPERATION:
        if len(data) < _PMP_ADDRESS.size:
            raise DecodeError("an answer of NAT-PMP was cut short")
        address = ip_address(_PMP_ADDRESS.unpack_from(data)[4])
        return Answer(PMP_VERSION, 0, address=address)
    if len(data) < _PMP_RESPONSE.size:
        raise DecodeError("an answer of NAT-PMP was cut short")
    _, _, _, _, internal, external, seconds = _PMP_RESPONSE.unpack_from(data)
    if internal != port:
        raise DecodeError("this answers another request")
    return Answer(PMP_VERSION, 0, external, None, seconds)


def _sixteen(address: IPv4Address | IPv6Address) -> bytes:
    return bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed
