"""Messages of `/stack/providers/1.0.0`: bytes <-> frozen values. Source: docs/providers.md."""

from enum import IntEnum

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stack.errors import DecodeError, RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.pb import providers_pb2 as pb
from stack.protocols.providers.interfaces import KEY_BYTES
from stack.protocols.providers.ranges import LEAVES_MAX, LeafRanges, merge_runs
from stack.values import dataclass

PROTOCOL = "/stack/providers/1.0.0"

RECORD_BYTES_MAX = 8 * 1024
"""A signed peer record: what identify takes."""

NAME_BYTES_MAX = 255
"""The longest name a file can have; of a longer one nothing is told, and nothing is taken."""

MESSAGE_BYTES_MAX = LEAVES_MAX // 8 + 2 * RECORD_BYTES_MAX + 1024
"""The largest bitmap, two records, and the rest. One message has one member, so that a parser makes no more of it than this."""

RUNS_MAX = 1024
"""Runs in one message; who has more to say sends the bitmap. To read so many takes a turn of the event loop."""


class Status(IntEnum):
    """The first word of whoever was asked; the values are those on the wire."""

    OK = 0
    UNKNOWN = 1
    """We neither share nor fetch what has this key."""
    BUSY = 2
    """Too many ask for it; ask others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangesUpdate:
    """What somebody has of a root: all, or a bitmap, or what has been added since the last update."""

    leaves: int
    complete: bool = False
    bitmap: bytes | None = None
    runs: tuple[tuple[int, int], ...] = ()
    """(start, end) each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Another peer of the swarm."""

    peer: PeerId
    record: bytes = b""
    """Its signed peer record, when it is told for the first time or has changed."""
    ranges: RangesUpdate | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One message, in either direction."""

    key: bytes = b""
    """In the first message of whoever opened the stream."""
    status: Status = Status.OK
    record: bytes = b""
    """The sender's own signed peer record."""
    ranges: RangesUpdate | None = None
    """What the sender has."""
    member: Member | None = None
    resend: bool = False
    """Send all ranges whole once more: they came before it was known how many leaves there are."""
    name: str = ""
    """What the sender calls it: hostile text like any other, at most `NAME_BYTES_MAX` in UTF-8. Told by the teller, in its answer."""
    finished: bool = False
    """The sender has all that it wanted of the root, which is not all of it."""


def encode_update(update: Update) -> bytes:
    """The message without its length."""
    message = pb.Update(
        key=update.key,
        status=pb.Status.Value(update.status.name),
        record=update.record,
        resend=update.resend,
        finished=update.finished,
        name=update.name if _fits(update.name) else "",
    )
    if update.ranges is not None:
        _encode_ranges(update.ranges, message.ranges)
    if update.member is not None:
        message.member.peer = bytes(update.member.peer)
        message.member.record = update.member.record
        message.member.gone = update.member.gone
        if update.member.ranges is not None:
            _encode_ranges(update.member.ranges, message.member.ranges)
    return message.SerializeToString()


def decode_update(data: bytes) -> Update:
    """Raises RemoteProtocolError on what is no message, or is out of bounds."""
    message = pb.Update()
    try:
        message.ParseFromString(data)
        member = None
        if message.HasField("member"):
            member = Member(
                peer=PeerId.decode(message.member.peer),
                record=_record(message.member.record),
                ranges=_decode_ranges(message.member.ranges) if message.member.HasField("ranges") else None,
                gone=message.member.gone,
            )
        if len(message.key) not in (0, KEY_BYTES):
            raise DecodeError(f"key of {len(message.key)} bytes")
        return Update(
            key=message.key,
            status=Status(message.status) if message.status in (0, 1, 2) else Status.UNKNOWN,
            record=_record(message.record),
            ranges=_decode_ranges(message.ranges) if message.HasField("ranges") else None,
            member=member,
            resend=message.resend,
            finished=message.finished,
            name=message.name if _fits(message.name) else "",
        )
    except (DecodeError, ProtobufDecodeError) as error:
        raise RemoteProtocolError(f"providers message: {error}") from error


def apply_ranges(update: RangesUpdate, known: LeafRanges | None) -> LeafRanges:
    """What somebody has after this update, `known` being what it had before; changes `known` where it can.

    Raises RemoteProtocolError when the update does not fit what is known.
    """
    try:
        if update.bitmap is not None:
            return LeafRanges.decode(update.leaves, update.bitmap)
        if known is None or known.count != update.leaves:
            known = LeafRanges(update.leaves)
        if update.complete:
            known.add(0, update.leaves)
        for start, end in merge_runs(update.runs):  # the same leaves again and again cost as much as once
            known.add(start, end)
    except (DecodeError, ValueError) as error:
        raise RemoteProtocolError(f"ranges: {error}") from error
    return known


def _encode_ranges(ranges: RangesUpdate, message: pb.Ranges) -> None:
    message.leaves = ranges.leaves
    message.complete = ranges.complete
    if ranges.bitmap is not None:
        message.bitmap = ranges.bitmap
    for start, end in ranges.runs:
        message.runs.extend((start, end - start))


def _decode_ranges(message: pb.Ranges) -> RangesUpdate:
    numbers = message.runs
    if len(numbers) % 2 or len(numbers) > 2 * RUNS_MAX:
        raise DecodeError(f"{len(numbers)} numbers of runs")
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return RangesUpdate(
        leaves=message.leaves,
        complete=message.complete,
        bitmap=message.bitmap or None,
        runs=tuple((start, start + length) for start, length in pairs),
    )


def _fits(name: str) -> bool:
    try:
        return len(name.encode()) <= NAME_BYTES_MAX
    except UnicodeEncodeError:
        return False  # bytes that are no text: the ticket's hint must do


def _record(data: bytes) -> bytes:
    if len(data) > RECORD_BYTES_MAX:
        raise DecodeError(f"peer record of {len(data)} bytes")
    return data
