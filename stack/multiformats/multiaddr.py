"""Addresses that say every protocol on the way. Source: multiformats/multiaddr."""

from collections.abc import Iterator
from typing import Final

from stack.errors import DecodeError
from stack.multiformats import varint
from stack.multiformats.multiaddr_protocols import BY_CODE, BY_NAME, VARIABLE, decode_value, encode_value
from stack.multiformats.peer_text import decode_peer_text, encode_peer_text
from stack.multiformats.varint import Buffer

TEXT_MAX: Final = 4096
"""Longest text taken for an address; the longest sensible ones (a relay, certificate hashes) have about 500 characters."""

BYTES_MAX: Final = 4096
"""Longest binary address taken, for the same reason: peers send them by the hundred."""


class Multiaddr:
    """An immutable address; hashable, ordered by its bytes, iterable over `(protocol name, value text)`.

    Made by `parse` and `decode`. A protocol without value has the value `""`. Every address read from outside has at
    least one protocol; `split_peer` and `decapsulate` can give one that has none, which is false.
    """

    __slots__ = ("_bytes", "_parts", "_text")

    _bytes: bytes
    _parts: tuple[tuple[str, str], ...]
    _text: str

    def __init__(self) -> None:
        raise TypeError("make a Multiaddr with parse or decode")

    @staticmethod
    def parse(text: str) -> "Multiaddr":
        """The address this text is. Raises DecodeError."""
        if len(text) > TEXT_MAX:
            raise DecodeError(f"an address has at most {TEXT_MAX} characters, this text has {len(text)}")
        if not text.startswith("/"):
            raise DecodeError("it does not begin with a slash, as /ip4/192.0.2.1/tcp/4001 does")
        words = text.rstrip("/").split("/")[1:]
        if not words:
            raise DecodeError("the address is empty")
        out = bytearray()
        parts = []
        position = 0
        while position < len(words):
            name = words[position]
            protocol = BY_NAME.get(name)
            if protocol is None:
                raise DecodeError(f"there is no protocol {name[:80]!r}")
            position += 1
            out += varint.encode(protocol.code)
            if protocol.size == 0:
                parts.append((protocol.name, ""))
                continue
            if position == len(words):
                raise DecodeError(f"it ends after {name}, which needs a value")
            end = len(words) if protocol.is_path else position + 1
            value = encode_value(protocol, "/".join(words[position:end]))
            position = end
            if protocol.size == VARIABLE:
                out += varint.encode(len(value))
            out += value
            parts.append((protocol.name, decode_value(protocol, value)))
        if len(out) > BYTES_MAX:
            raise DecodeError(f"an address has at most {BYTES_MAX} bytes, this one has {len(out)}")
        return _make(bytes(out), tuple(parts))

    @staticmethod
    def decode(data: Buffer) -> "Multiaddr":
        """The address these bytes are, all of them. Raises DecodeError."""
        if len(data) > BYTES_MAX:
            raise DecodeError(f"an address has at most {BYTES_MAX} bytes, this one has {len(data)}")
        data = bytes(data)
        if not data:
            raise DecodeError("the address is empty")
        parts = []
        position = 0
        while position < len(data):
            code, position = varint.decode(data, position)
            protocol = BY_CODE.get(code)
            if protocol is None:
                raise DecodeError(f"there is no protocol of code {code}")
            if protocol.size == 0:
                parts.append((protocol.name, ""))
                continue
            size = protocol.size
            if size == VARIABLE:
                size, position = varint.decode(data, position)
            end = position + size
            if end > len(data):
                raise DecodeError(f"the value of {protocol.name} is cut short")
            parts.append((protocol.name, decode_value(protocol, data[position:end])))
            position = end
        return _make(data, tuple(parts))

    @property
    def protocols(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(name for name, _ in self._parts)

    def get(self, name: str) -> str | None:
        """The value of the first protocol of that name (`""` for one without value), or None when it is not there."""
        for part, value in self._parts:
            if part == name:
                return value
        return None

    def encapsulate(self, other: "Multiaddr") -> "Multiaddr":
        """This address, then the other."""
        return _make(self._bytes + other._bytes, self._parts + other._parts)

    def decapsulate(self, name: str) -> "Multiaddr":
        """What stands before the last protocol of that name; the address itself when there is none."""
        for index in reversed(range(len(self._parts))):
            if self._parts[index][0] == name:
                return _of_parts(self._parts[:index])
        return self

    def with_peer(self, peer: str) -> "Multiaddr":
        """This address ending in `/p2p/peer`, in place of the peer it ends in now. Raises DecodeError for no peer id."""
        text = encode_peer_text(decode_peer_text(peer))
        return self.split_peer()[0].encapsulate(_of_parts((("p2p", text),)))

    def split_peer(self) -> tuple["Multiaddr", str | None]:
        """The address without the `/p2p/` at its end, and that peer's id in base58 (None when it does not end so)."""
        if self._parts and self._parts[-1][0] == "p2p":
            return _of_parts(self._parts[:-1]), self._parts[-1][1]
        return self, None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __bytes__(self) -> bytes:
        return self._bytes

    def __str__(self) -> str:
        try:
            return self._text
        except AttributeError:
            self._text = "".join([f"/{name}/{value}" if value else f"/{name}" for name, value in self._parts])
            return self._text

    def __repr__(self) -> str:
        return f"<Multiaddr {self}>"

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Multiaddr) and self._bytes == other._bytes

    def __lt__(self, other: "Multiaddr") -> bool:
        return self._bytes < other._bytes

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        return Multiaddr.decode, (self._bytes,)


def _make(data: bytes, parts: tuple[tuple[str, str], ...]) -> Multiaddr:
    address: Multiaddr = object.__new__(Multiaddr)
    address._bytes = data
    address._parts = parts
    return address


def _of_parts(parts: tuple[tuple[str, str], ...]) -> Multiaddr:
    out = bytearray()
    for name, text in parts:
        protocol = BY_NAME[name]
        out += varint.encode(protocol.code)
        if protocol.size:
            value = encode_value(protocol, text)
            if protocol.size == VARIABLE:
                out += varint.encode(len(value))
            out += value
    return _make(bytes(out), parts)
