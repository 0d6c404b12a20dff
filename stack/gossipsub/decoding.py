"""gossipsub RPCs: bytes -> frozen values. Read by hand, because a parser that builds objects first turns a small RPC into a
large one in memory (A42), and because what is over a limit must not even be looked at (A39).

Malformed protobuf raises; what merely means nothing to us (no topic, a topic that is not UTF-8 or too long, a message
without data and signature, a peer id that is too short to be one) is left out, so that it costs a peer nothing to be newer
than we are.
"""

from collections.abc import Iterator

from stack.errors import DecodeError, RemoteProtocolError
from stack.gossipsub.messages import RPC_BYTES_MAX, TOPIC_BYTES_MAX, Control, IHave, Message, PeerInfo, Prune, Rpc

FIELDS_QUICK = 2000
"""Of these RPCs one millisecond is enough."""
FIELDS_MAX = 40_000
"""Protobuf fields of one RPC, nested ones too: 25 ms of work. 5,000 signed messages have 35,000."""
SUBSCRIPTIONS_MAX = 5000
"""Of one RPC; js and py refuse more as well."""
CONTROL_BYTES_MAX = 256 * 1024
"""Control of one RPC: 5,000 ids are about 240 kB. More is skipped, not refused: go packs several topics into one RPC."""
MESSAGE_ID_BYTES_MAX = 256
"""Longer ids are left out: what is told or asked by id is kept for seconds. The default is 46 bytes, a hash 32."""
PX_PEERS_MAX = 128
"""Peers of one PRUNE that are kept; 16 of them are used."""
PEER_ID_BYTES_MIN = 34
"""A SHA-256 multihash, the shortest peer id there is."""
BACKOFF_VALUE_MAX = 1 << 63
"""Back-offs are clamped to an hour later on; here they are only kept from being huge numbers."""

_VARINT, _LENGTH = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_UINT64_MASK = (1 << 64) - 1

Field = tuple[int, int, int, int]
"""(number, wire type, start, end); for numbers, `start` is the value."""


class TooManyFields(DecodeError):
    """More fields than were to be looked at."""


def decode_rpc(data: bytes) -> Rpc:
    """Read one RPC, without its length. Raises RemoteProtocolError on malformed protobuf and on more fields than allowed."""
    if len(data) > RPC_BYTES_MAX:
        raise RemoteProtocolError(f"gossipsub RPC of {len(data)} bytes, at most {RPC_BYTES_MAX} are allowed")
    try:
        return _Reader(data).rpc()
    except DecodeError as error:
        raise RemoteProtocolError(f"gossipsub RPC: {error}") from error


def decode_quickly(data: bytes) -> Rpc | None:
    """The same, for RPCs of which the work is little; None: this is not one of them."""
    try:
        return _Reader(data, FIELDS_QUICK).rpc()
    except TooManyFields:
        return None
    except DecodeError as error:
        raise RemoteProtocolError(f"gossipsub RPC: {error}") from error


class _Control:
    """A control message while it is read; protobuf allows it to come in several parts."""

    __slots__ = ("graft", "idontwant", "ihave", "iwant", "prune")

    def __init__(self) -> None:
        self.ihave: list[IHave] = []
        self.iwant: list[bytes] = []
        self.graft: list[str] = []
        self.prune: list[Prune] = []
        self.idontwant: list[bytes] = []

    def frozen(self) -> Control:
        return Control(
            ihave=tuple(self.ihave),
            iwant=tuple(self.iwant),
            graft=tuple(self.graft),
            prune=tuple(self.prune),
            idontwant=tuple(self.idontwant),
        )


class _Reader:
    """The fields of one RPC; `_left` bounds how many are looked at in all."""

    __slots__ = ("_data", "_left")

    def __init__(self, data: bytes, fields_max: int = FIELDS_MAX) -> None:
        self._data = data
        self._left = fields_max

    def rpc(self) -> Rpc:
        subscriptions: list[tuple[bool, str]] = []
        count = 0
        publish: list[Message] = []
        control: _Control | None = None
        control_bytes = 0
        for number, kind, start, end in self.fields(0, len(self._data)):
            if kind != _LENGTH:
                continue
            if number == 2:
                message = self.message(start, end)
                if message is not None:
                    publish.append(message)
            elif number == 1:
                count += 1
                if count > SUBSCRIPTIONS_MAX:
                    raise DecodeError(f"more than {SUBSCRIPTIONS_MAX} subscriptions")
                joined, topic = self.subscription(start, end)
                if topic:
                    subscriptions.append((joined, topic))
            elif number == 3:
                control = control or _Control()
                control_bytes += end - start
                if control_bytes <= CONTROL_BYTES_MAX:
                    self.control(control, start, end)
        if control_bytes > CONTROL_BYTES_MAX:
            return Rpc(subscriptions=tuple(subscriptions), publish=tuple(publish), skipped_bytes=control_bytes)
        return Rpc(
            subscriptions=tuple(subscriptions),
            publish=tuple(publish),
            control=control.frozen() if control is not None else None,
        )

    def message(self, start: int, end: int) -> Message | None:
        data = self._data
        values: list[bytes | None] = [None] * 7
        unknown = bytearray()
        before = start
        for number, kind, first, last in self.fields(start, end):
            if 1 <= number <= 6:
                if kind != _LENGTH:
                    raise DecodeError(f"field {number} of a message has wire type {kind}")
                values[number] = data[first:last]
                before = last
            else:
                unknown += data[before:last]
                before = last
        topic = _topic(values[4])
        if not topic or (values[2] is None and values[5] is None):
            return None
        return Message(topic, values[2], values[1], values[3], values[5], values[6], bytes(unknown))

    def subscription(self, start: int, end: int) -> tuple[bool, str]:
        joined = False
        topic: bytes | None = None
        for number, kind, first, last in self.fields(start, end):
            if number == 1 and kind == _VARINT:
                joined = first != 0
            elif number == 2 and kind == _LENGTH:
                topic = self._data[first:last]
        return joined, _topic(topic)

    def control(self, into: "_Control", begin: int, finish: int) -> None:
        for number, kind, start, end in self.fields(begin, finish):
            if kind != _LENGTH:
                continue
            if number == 1:
                topic, ids = self.entry(start, end, 2)
                if topic and ids:
                    into.ihave.append(IHave(topic, tuple(ids)))
            elif number == 2:
                into.iwant += self.entry(start, end, 1)[1]
            elif number == 3:
                topic = self.entry(start, end, 0)[0]
                if topic:
                    into.graft.append(topic)
            elif number == 4:
                pruned = self.prune(start, end)
                if pruned.topic:
                    into.prune.append(pruned)
            elif number == 5:
                into.idontwant += self.entry(start, end, 1)[1]

    def entry(self, start: int, end: int, ids_field: int) -> tuple[str, list[bytes]]:
        """The topic (field 1, unless that holds ids) and the ids of a control entry."""
        data = self._data
        topic: bytes | None = None
        ids: list[bytes] = []
        for number, kind, first, last in self.fields(start, end):
            if kind != _LENGTH:
                continue
            if number == ids_field:
                if last - first <= MESSAGE_ID_BYTES_MAX:
                    ids.append(data[first:last])
            elif number == 1:
                topic = data[first:last]
        return _topic(topic), ids

    def prune(self, start: int, end: int) -> Prune:
        topic: bytes | None = None
        peers: list[PeerInfo] = []
        backoff: int | None = None
        for number, kind, first, last in self.fields(start, end):
            if number == 1 and kind == _LENGTH:
                topic = self._data[first:last]
            elif number == 2 and kind == _LENGTH:
                info = self.peer_info(first, last)
                if len(info.peer_id) >= PEER_ID_BYTES_MIN and len(peers) < PX_PEERS_MAX:
                    peers.append(info)
            elif number == 3 and kind == _VARINT:
                backoff = min(first, BACKOFF_VALUE_MAX)
        return Prune(_topic(topic), tuple(peers), backoff)

    def peer_info(self, start: int, end: int) -> PeerInfo:
        peer_id = b""
        record: bytes | None = None
        for number, kind, first, last in self.fields(start, end):
            if number == 1 and kind == _LENGTH:
                peer_id = self._data[first:last]
            elif number == 2 and kind == _LENGTH:
                record = self._data[first:last]
        return PeerInfo(peer_id, record)

    def fields(self, offset: int, end: int) -> Iterator[Field]:
        """Each field from `offset` on. Raises DecodeError when one is cut short, or a group, or one too many."""
        data = self._data
        while offset < end:
            self._left -= 1
            if self._left < 0:
                raise TooManyFields(f"more than {FIELDS_MAX} fields")
            key = data[offset]
            offset += 1
            if key >= 0x80:
                key, offset = self._varint(offset - 1, end)
            kind = key & 7
            if kind == _LENGTH:
                # The common case, a length of one byte, without a call: this line is passed for every field.
                if offset < end and (size := data[offset]) < 0x80:
                    offset += 1
                else:
                    size, offset = self._varint(offset, end)
                if size > end - offset:
                    raise DecodeError("field is cut short")
                yield key >> 3, kind, offset, offset + size
                offset += size
            elif kind == _VARINT:
                value, offset = self._varint(offset, end)
                yield key >> 3, kind, value, offset
            elif kind in _FIXED_BYTES:
                offset += _FIXED_BYTES[kind]
                if offset > end:
                    raise DecodeError("field is cut short")
                yield key >> 3, kind, 0, offset
            else:
                raise DecodeError(f"wire type {kind}")

    def _varint(self, offset: int, end: int) -> tuple[int, int]:
        """A protobuf varint: at most ten bytes, need not be minimal."""
        data = self._data
        value = shift = 0
        for index in range(offset, min(offset + 10, end)):
            byte = data[index]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & _UINT64_MASK, index + 1
            shift += 7
        raise DecodeError("varint is cut short or too long")


def _topic(name: bytes | None) -> str:
    """The topic, empty when there is none, when it is too long or not UTF-8."""
    if name is None or len(name) > TOPIC_BYTES_MAX:
        return ""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return ""
