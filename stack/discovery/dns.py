"""DNS messages, as far as mDNS and TXT look-ups need them: questions, and records of type PTR, TXT, SRV, A and AAAA. Pure.

Sources: RFC 1035 (format), RFC 2782 (SRV), RFC 6762 (the top bits of classes), RFC 6891 (EDNS).
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from stack.errors import DecodeError
from stack.values import dataclass

MESSAGE_BYTES_MAX = 9000
"""RFC 6762, section 17: the largest mDNS message; TXT look-ups do not take more either."""
RECORDS_MAX = 128
"""Questions and records in one message; each may name something by a pointer of two bytes, so that the size alone is no bound."""
NAME_BYTES_MAX = 255
LABEL_BYTES_MAX = 63
LABELS_MAX = 40
"""The longest names in use are reverse names of IPv6 addresses with 34 labels."""
JUMPS_MAX = 16
"""Pointers in one name. Who writes messages needs one; a chain of them costs its reader a step for each two bytes."""
STEPS_MAX = 2048
"""Labels and pointers of all names of one message, each as often as it is read: 1.5 ms. 128 records with two names of six
labels have 1,800."""
STEPS_FREE = 256
"""So many steps any message may take, and one for each of its bytes: who counts bytes counts work."""
TXT_STRING_BYTES_MAX = 255

A, PTR, TXT, AAAA, SRV, OPT = 1, 12, 16, 28, 33, 41
CLASS_IN = 1
ANY = 255

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RECORD = struct.Struct("!2HIH")
_SERVICE = struct.Struct("!3H")

_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION = 0x8000, 0x0400, 0x0200, 0x0100
_CODE = 0x000F
_TOP_BIT = 0x8000
"""Of a class: in a question "answer me alone", in a record "forget what you knew" (RFC 6762, sections 5.4 and 10.2)."""
_POINTER = 0xC0

Name = tuple[bytes, ...]
"""The labels of a domain name, in lower case: names are the same whatever their case."""


@dataclass(frozen=True, slots=True)
class Service:
    """The value of an SRV record."""

    port: int
    target: Name


Value = Name | tuple[bytes, ...] | Service | IPv4Address | IPv6Address
"""PTR has a name, TXT a tuple of strings, SRV a service, A and AAAA an address."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for. `unicast`: the answer may come to the asker alone."""

    name: Name
    kind: int
    unicast: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a name, good for `ttl` seconds. `flush`: it replaces what was known of that name and type."""

    name: Name
    kind: int
    ttl: int
    value: Value
    flush: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A question or an answer. Records of other types are left out when it is read; `additionals` holds those of authority too."""

    id: int = 0
    response: bool = False
    truncated: bool = False
    recursion: bool = False
    code: int = 0
    """0 is success; 3 says that the name does not exist."""
    questions: tuple[Question, ...] = ()
    answers: tuple[Record, ...] = ()
    additionals: tuple[Record, ...] = ()


def name_of(text: str) -> Name:
    """The labels of a domain name as text. Raises DecodeError when it is none."""
    try:
        labels = tuple(label.encode("ascii").lower() for label in text.rstrip(".").split("."))
    except UnicodeEncodeError as error:
        raise DecodeError(f"{text[:80]!r} is no domain name: write it in ASCII (punycode)") from error
    if not all(0 < len(label) <= LABEL_BYTES_MAX for label in labels) or len(labels) > LABELS_MAX:
        raise DecodeError(f"{text[:80]!r} is no domain name")
    if sum(len(label) + 1 for label in labels) >= NAME_BYTES_MAX:
        raise DecodeError(f"{text[:80]!r} is longer than a domain name may be")
    return labels


def encode(message: Message, *, udp_size: int | None = None) -> bytes:
    """The bytes of a message; names that repeat are written as pointers. `udp_size` tells a server how much we can take
    (EDNS). The caller keeps to the bounds of labels and strings."""
    flags = _RESPONSE | _AUTHORITATIVE if message.response else _RECURSION if message.recursion else 0
    flags |= _TRUNCATED if message.truncated else 0
    writer = _Writer()
    writer.out += _HEADER.pack(
        message.id,
        flags | message.code,
        len(message.questions),
        len(message.answers),
        0,
        len(message.additionals) + (udp_size is not None),
    )
    for question in message.questions:
        writer.name(question.name)
        writer.out += _QUESTION.pack(question.kind, CLASS_IN | (_TOP_BIT if question.unicast else 0))
    for record in (*message.answers, *message.additionals):
        writer.record(record)
    if udp_size is not None:
        writer.out += b"\0" + _RECORD.pack(OPT, udp_size, 0, 0)
    return bytes(writer.out)


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self._places: dict[Name, int] = {}

    def name(self, name: Name) -> None:
        for start in range(len(name)):
            place = self._places.get(name[start:])
            if place is not None:
                self.out += (place | _POINTER << 8).to_bytes(2, "big")
                return
            self._places[name[start:]] = len(self.out)  # what we write is far shorter than a pointer can reach
            self.out += bytes((len(name[start]),)) + name[start]
        self.out.append(0)

    def record(self, record: Record) -> None:
        self.name(record.name)
        head = len(self.out)
        self.out += bytes(_RECORD.size)
        value = record.value
        if isinstance(value, Service):
            self.out += _SERVICE.pack(0, 0, value.port)
            self.name(value.target)
        elif isinstance(value, (IPv4Address, IPv6Address)):
            self.out += value.packed
        elif record.kind == PTR:
            self.name(value)
        else:
            # RFC 6763, section 6.1: a TXT record without a string has one of zero bytes
            for text in value or (b"",):
                self.out += bytes((len(text),)) + text
        size = len(self.out) - head - _RECORD.size
        _RECORD.pack_into(self.out, head, record.kind, CLASS_IN | (_TOP_BIT if record.flush else 0), record.ttl, size)


def decode(data: bytes) -> Message:
    """Read a message. Raises DecodeError when it is damaged, larger than `MESSAGE_BYTES_MAX`, or has more than `RECORDS_MAX` parts or
    names that cost more than their bounds."""
    if not _HEADER.size <= len(data) <= MESSAGE_BYTES_MAX:
        raise DecodeError(f"a DNS message of {len(data)} bytes")
    identifier, flags, *counts = _HEADER.unpack_from(data)
    if sum(counts) > RECORDS_MAX:
        raise DecodeError(f"a DNS message with {sum(counts)} parts")
    reader = _Reader(data)
    questions = tuple(reader.question() for _ in range(counts[0]))
    sections = [tuple(filter(None, (reader.record() for _ in range(count)))) for count in counts[1:]]
    return Message(
        id=identifier,
        response=bool(flags & _RESPONSE),
        truncated=bool(flags & _TRUNCATED),
        recursion=bool(flags & _RECURSION),
        code=flags & _CODE,
        questions=questions,
        answers=sections[0],
        additionals=(*sections[1], *sections[2]),
    )


class _Reader:
    """The parts of one message, one behind the other; `_steps` bounds what its names cost in all."""

    __slots__ = ("_data", "_offset", "_steps")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = _HEADER.size
        self._steps = min(STEPS_MAX, STEPS_FREE + len(data))

    def question(self) -> Question:
        name = self._next_name()
        kind, cls = self._unpack(_QUESTION, self._offset)
        self._offset += _QUESTION.size
        return Question(name, kind, bool(cls & _TOP_BIT))

    def record(self) -> Record | None:
        """The next record; None when nobody here reads its type or class."""
        name = self._next_name()
        kind, cls, ttl, size = self._unpack(_RECORD, self._offset)
        start = self._offset + _RECORD.size
        self._offset = end = start + size
        if end > len(self._data):
            raise DecodeError("a DNS record is cut short")
        value = self._value(kind, start, end) if cls & ~_TOP_BIT == CLASS_IN else None
        return None if value is None else Record(name, kind, ttl, value, bool(cls & _TOP_BIT))

    def _value(self, kind: int, offset: int, end: int) -> Value | None:
        data = self._data
        if kind == PTR:
            return self._name(offset)[0]
        if kind == TXT:
            strings = []
            while offset < end:
                size = data[offset]
                if offset + 1 + size > end:
                    raise DecodeError("a string of a TXT record is cut short")
                strings.append(data[offset + 1 : offset + 1 + size])
                offset += 1 + size
            return tuple(strings)
        if kind == SRV:
            port = self._unpack(_SERVICE, offset)[2]
            return Service(port, self._name(offset + _SERVICE.size)[0])
        if kind == A and end - offset == 4:
            return IPv4Address(data[offset:end])
        if kind == AAAA and end - offset == 16:
            return IPv6Address(data[offset:end])
        return None

    def _next_name(self) -> Name:
        name, self._offset = self._name(self._offset)
        return name

    def _name(self, offset: int) -> tuple[Name, int]:
        """The name at `offset`, and where what follows it begins. Each pointer must lead further back than the last, so that
        there are no loops."""
        data = self._data
        labels: list[bytes] = []
        size = jumps = 0
        end: int | None = None
        limit = offset
        while True:
            self._steps -= 1
            if self._steps < 0:
                raise DecodeError("the names of a DNS message lead to and fro")
            if offset >= len(data):
                raise DecodeError("a domain name is cut short")
            length = data[offset]
            if length & _POINTER == _POINTER:
                if offset + 1 >= len(data):
                    raise DecodeError("a domain name is cut short")
                target = (length & ~_POINTER) << 8 | data[offset + 1]
                jumps += 1
                if target >= limit or jumps > JUMPS_MAX:
                    raise DecodeError("a pointer in a domain name does not lead back, or is one of too many")
                end = offset + 2 if end is None else end
                offset = limit = target
                continue
            if length > LABEL_BYTES_MAX:
                raise DecodeError("a label of an unknown type in a domain name")
            offset += 1
            if not length:
                return tuple(labels), offset if end is None else end
            if offset + length > len(data):
                raise DecodeError("a domain name is cut short")
            size += length + 1
            labels.append(data[offset : offset + length].lower())
            if size >= NAME_BYTES_MAX or len(labels) > LABELS_MAX:
                raise DecodeError("a domain name is too long")
            offset += length

    def _unpack(self, form: struct.Struct, offset: int) -> tuple[int, ...]:
        if offset + form.size > len(self._data):
            raise DecodeError("a DNS message is cut short")
        return form.unpack_from(self._data, offset)


def dnsaddr_texts(strings: Sequence[bytes]) -> list[str]:
    """What stands behind `dnsaddr=` in the strings of a TXT record; others are left out."""
    prefix = b"dnsaddr="
    return [text[len(prefix) :].decode("utf-8", "replace") for text in strings if text.startswith(prefix)]
