"""The protocols an address is made of: codes, sizes, and how each value is written as text and as bytes.

Source: multiformats/multiaddr, protocols.csv and the rules per protocol; where those are silent, go-multiaddr.
"""

import base64
import re
from collections.abc import Callable
from ipaddress import IPv6Address

from stack.errors import DecodeError
from stack.multiformats import multibase, multihash, peer_text
from stack.values import dataclass

VARIABLE = -1
"""The size of a value that is written behind its length."""

GARLIC64_BYTES_MIN = 386
"""An I2P destination is never shorter (go-multiaddr)."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_IP4_PART = r"(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
_IP4 = re.compile(rf"{_IP4_PART}\.{_IP4_PART}\.{_IP4_PART}\.{_IP4_PART}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A row of the table. `encode` and `decode` raise DecodeError or ValueError; without a value they are not called."""

    name: str
    code: int
    size: int
    """Bytes of the value; 0 for none, `VARIABLE` behind a length."""
    is_path: bool = False
    """The value is all the rest of the text, slashes included."""
    encode: Callable[[str], bytes] = str.encode
    decode: Callable[[bytes], str] = bytes.decode


def _encode_number(size: int) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 8 * size:
            raise DecodeError(f"{text!r} is no number of {8 * size} bits")
        return int(text).to_bytes(size)

    return encode


def _decode_number(value: bytes) -> str:
    return str(int.from_bytes(value))


_encode_port = _encode_number(2)


def _encode_ip4(text: str) -> bytes:
    match = _IP4.fullmatch(text)
    if match is None:
        raise DecodeError(f"{text!r} is no IPv4 address")
    return bytes(map(int, match.groups()))


def _decode_ip4(value: bytes) -> str:
    return ".".join(map(str, value))


def _encode_ip6(text: str) -> bytes:
    if "%" in text:
        raise DecodeError("a zone is written /ip6zone/ZONE/ip6/ADDRESS")
    return IPv6Address(text).packed


def _decode_ip6(value: bytes) -> str:
    address = IPv6Address(value)
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def _named(pattern: "re.Pattern[str]", what: str) -> tuple[Callable[[str], bytes], Callable[[bytes], str]]:
    """Encoder and decoder of a name that must be of this form: it is a stranger's, and is looked up and shown."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise DecodeError(f"{text[:80]!r} is no {what}")
        return text

    return lambda text: check(text).encode(), lambda value: check(value.decode())


_HOST_NAME = re.compile(r"(?=.{1,254}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?", re.ASCII)
"""RFC 1123, section 2.1: letters, digits, hyphens; with the underscore of `_dnsaddr` and its like. Names in other letters are written
in their `xn--` form."""
_ZONE = re.compile(r"[!-.0-~]{1,64}", re.ASCII)
"""The name of a network interface: whatever can be seen, but for the slash."""


def _encode_path(text: str) -> bytes:
    return _check_path(b"/" + text.encode())


def _decode_path(value: bytes) -> str:
    return _check_path(value).decode()[1:]


def _check_path(value: bytes) -> bytes:
    if len(value) < 2 or value[:1] != b"/" or value[-1:] == b"/":
        raise DecodeError("a socket's path begins with a slash and ends without")
    return value


def _encode_http_path(text: str) -> bytes:
    from urllib.parse import unquote_to_bytes

    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise DecodeError("a percent sign is followed by two hexadecimal digits")
    return _check_not_empty(unquote_to_bytes(text.replace("+", " ")))


def _decode_http_path(value: bytes) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_check_not_empty(value))


def _check_not_empty(value: bytes) -> bytes:
    if not value:
        raise DecodeError("the value is empty")
    return value


def _encode_peer(text: str) -> bytes:
    return peer_text.decode_peer_text(text)


def _decode_peer(value: bytes) -> str:
    peer_text.check_peer_multihash(value)
    return peer_text.encode_peer_text(value)


def _encode_certhash(text: str) -> bytes:
    value = multibase.decode(text)[1]
    multihash.decode(value)
    return value


def _decode_certhash(value: bytes) -> str:
    multihash.decode(value)
    return multibase.encode("base64url", value)


def _encode_onion(size: int) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        host, _, port = text.partition(":")
        value = base64.b32decode(host.upper())
        if len(value) != size or port == "0":
            raise DecodeError(f"{text[:80]!r} is no onion address with a port")
        return value + _encode_port(port)

    return encode


def _decode_onion(value: bytes) -> str:
    if value[-2:] == b"\0\0":
        raise DecodeError("an onion address has a port other than 0")
    return f"{base64.b32encode(value[:-2]).decode().lower()}:{int.from_bytes(value[-2:])}"


def _encode_garlic64(text: str) -> bytes:
    return _check_garlic64(base64.b64decode(text, altchars=b"-~", validate=True))


def _decode_garlic64(value: bytes) -> str:
    return base64.b64encode(_check_garlic64(value), altchars=b"-~").decode()


def _check_garlic64(value: bytes) -> bytes:
    if len(value) < GARLIC64_BYTES_MIN:
        raise DecodeError(f"an I2P destination has at least {GARLIC64_BYTES_MIN} bytes")
    return value


def _encode_garlic32(text: str) -> bytes:
    return _check_garlic32(base64.b32decode(text.upper() + "=" * (-len(text) % 8)))


def _decode_garlic32(value: bytes) -> str:
    return base64.b32encode(_check_garlic32(value)).decode().rstrip("=").lower()


def _check_garlic32(value: bytes) -> bytes:
    if len(value) != 32 and len(value) < 35:
        raise DecodeError("an I2P name has 32 bytes, or 35 and more when encrypted")
    return value


def _port(name: str, code: int) -> Protocol:
    return Protocol(name=name, code=code, size=2, encode=_encode_port, decode=_decode_number)


def _host(name: str, code: int) -> Protocol:
    encode, decode = _named(_HOST_NAME, "name of a computer")
    return Protocol(name=name, code=code, size=VARIABLE, encode=encode, decode=decode)


def _zone(name: str, code: int) -> Protocol:
    encode, decode = _named(_ZONE, "name of a network interface")
    return Protocol(name=name, code=code, size=VARIABLE, encode=encode, decode=decode)


def _flag(name: str, code: int) -> Protocol:
    return Protocol(name=name, code=code, size=0)


PROTOCOLS = (
    Protocol(name="ip4", code=4, size=4, encode=_encode_ip4, decode=_decode_ip4),
    _port("tcp", 6),
    _port("dccp", 33),
    Protocol(name="ip6", code=41, size=16, encode=_encode_ip6, decode=_decode_ip6),
    _zone("ip6zone", 42),
    Protocol(name="ipcidr", code=43, size=1, encode=_encode_number(1), decode=_decode_number),
    _host("dns", 53),
    _host("dns4", 54),
    _host("dns6", 55),
    _host("dnsaddr", 56),
    _port("sctp", 132),
    _port("udp", 273),
    _flag("p2p-webrtc-direct", 276),
    _flag("webrtc-direct", 280),
    _flag("webrtc", 281),
    _flag("p2p-circuit", 290),
    _flag("udt", 301),
    _flag("utp", 302),
    Protocol(name="unix", code=400, size=VARIABLE, is_path=True, encode=_encode_path, decode=_decode_path),
    Protocol(name="p2p", code=421, size=VARIABLE, encode=_encode_peer, decode=_decode_peer),
    _flag("https", 443),
    Protocol(name="onion", code=444, size=12, encode=_encode_onion(10), decode=_decode_onion),
    Protocol(name="onion3", code=445, size=37, encode=_encode_onion(35), decode=_decode_onion),
    Protocol(name="garlic64", code=446, size=VARIABLE, encode=_encode_garlic64, decode=_decode_garlic64),
    Protocol(name="garlic32", code=447, size=VARIABLE, encode=_encode_garlic32, decode=_decode_garlic32),
    _flag("tls", 448),
    _host("sni", 449),
    _flag("noise", 454),
    _flag("quic", 460),
    _flag("quic-v1", 461),
    _flag("webtransport", 465),
    Protocol(name="certhash", code=466, size=VARIABLE, encode=_encode_certhash, decode=_decode_certhash),
    _flag("ws", 477),
    _flag("wss", 478),
    _flag("http", 480),
    Protocol(name="http-path", code=481, size=VARIABLE, encode=_encode_http_path, decode=_decode_http_path),
    Protocol(name="memory", code=777, size=8, encode=_encode_number(8), decode=_decode_number),
    _flag("plaintextv2", 7367777),
)
"""All protocols that are understood; an address with any other is refused, as the specification says."""

BY_NAME = {protocol.name: protocol for protocol in PROTOCOLS} | {
    # protocols.csv: 421 "p2p", "preferred over /ipfs"; the old name is read and never written.
    "ipfs": next(protocol for protocol in PROTOCOLS if protocol.name == "p2p")
}
BY_CODE = {protocol.code: protocol for protocol in PROTOCOLS}


def encode_value(protocol: Protocol, text: str) -> bytes:
    """The bytes of a value. Raises DecodeError."""
    try:
        return protocol.encode(text)
    except ValueError as error:
        raise DecodeError(f"{text[:80]!r} is no value of {protocol.name}: {error}") from error


def decode_value(protocol: Protocol, value: bytes) -> str:
    """The text of a value. Raises DecodeError."""
    try:
        return protocol.decode(value)
    except ValueError as error:
        raise DecodeError(f"{value[:80].hex()} is no value of {protocol.name}: {error}") from error
