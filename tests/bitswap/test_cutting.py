"""Whole messages out of bytes, however these come, and memory that follows what came."""

from collections.abc import Iterable
from random import Random

import pytest

from stack.bitswap.cutting import FIRST_BYTES, GROWTH, LEAD_BYTES, Cutter
from stack.bitswap.messages import MESSAGE_BYTES_MAX
from stack.bitswap.shell.buffers import buffer_size
from stack.errors import RemoteProtocolError
from stack.multiformats import varint


def framed(*messages: bytes) -> bytes:
    return b"".join(varint.encode(len(message)) + message for message in messages)


def cut(
    data: bytes, splits: Iterable[int], *, cutter: Cutter | None = None, lent: list[int] | None = None
) -> list[bytes]:
    """All messages, when the bytes come in pieces that end at `splits`."""
    cutter = cutter or Cutter()
    found = []
    begin = 0
    for end in (*splits, len(data)):
        piece = data[begin:end]
        begin = end
        while piece:
            if needed := cutter.needs:
                size = buffer_size(needed)
                if lent is not None:
                    lent.append(size)
                cutter.lend(bytearray(b"\xff") * size)
            room = cutter.buffer()
            assert len(room) > 0
            count = min(len(room), len(piece))
            room[:count] = piece[:count]
            cutter.filled(count)
            piece = piece[count:]
            while (message := cutter.next_message()) is not None:
                found.append(bytes(message.data))
                assert (message.memory is None) == (len(framed(bytes(message.data))) <= LEAD_BYTES)
    assert begin == len(data)
    return found


SHORT = [b"", b"a", b"", bytes(127), bytes(range(128)), b"b" * 300, b"c" * 500, b""]
LONG = [b"d" * 1100, b"", bytes(range(256)) * 8, bytes(2000), b"e"]


@pytest.mark.parametrize("messages", [SHORT, LONG], ids=["short", "long"])
def test_every_split_gives_the_same_messages(messages: list[bytes]) -> None:
    data = framed(*messages)
    for split in range(len(data)):
        assert cut(data, [split]) == messages
    assert cut(data, range(1, len(data))) == messages  # byte by byte


def test_messages_around_every_bound_come_whole_in_any_pieces() -> None:
    random = Random(7)
    bounds = (LEAD_BYTES, FIRST_BYTES, buffer_size(FIRST_BYTES), buffer_size(GROWTH * FIRST_BYTES))
    sizes = [bound + change for bound in bounds for change in (-4, -3, -2, -1, 0, 1, 2)]
    messages = [random.randbytes(size) if size % 2 else bytes(size) for size in sizes]
    data = framed(*messages)
    for _ in range(20):
        splits = sorted(random.choices(range(len(data)), k=random.choice((3, 50))))
        assert cut(data, splits) == messages


def test_findings_4_and_5_memory_follows_the_bytes_that_came() -> None:
    lent: list[int] = []
    cutter = Cutter()
    data = framed(bytes(MESSAGE_BYTES_MAX))
    come = 0
    for split in range(1000, len(data), 10_000):
        cut(data[come:split], [], cutter=cutter, lent=lent)
        come = split
        assert lent == [] or lent[-1] <= max(FIRST_BYTES, 7 * come)  # the sizes of buffers are coarse
    assert lent[0] == FIRST_BYTES
    assert cut(data[come:], [], cutter=cutter, lent=lent) == [bytes(MESSAGE_BYTES_MAX)]
    assert lent[-1] == MESSAGE_BYTES_MAX and len(lent) <= 5


def test_who_has_shown_its_speed_is_lent_more_at_first() -> None:
    lent: list[int] = []
    cutter = Cutter()
    cutter.first = 1_000_000
    for size in (900_000, 2_000_000):
        assert cut(framed(bytes(size)), [5], cutter=cutter, lent=lent) == [bytes(size)]
    assert lent == [buffer_size(900_000), buffer_size(1_000_000), buffer_size(2_000_000)]


@pytest.mark.parametrize("length", [b"\x81\x80\x80\x02", b"\xff\xff\xff\xff", b"\xff" * 10])
def test_a_length_over_the_bound_is_an_error_after_what_came_before(length: bytes) -> None:
    for split in range(4):
        cutter = Cutter()
        assert cut(framed(b"x") + length[:split], [], cutter=cutter) == [b"x"]
        with pytest.raises(RemoteProtocolError):
            cut(length[split:], [], cutter=cutter)


def test_it_says_whether_a_message_has_begun() -> None:
    cutter = Cutter()
    assert not cutter.begun and repr(cutter) == "<Cutter 0 of a short message>"
    cut(b"\x80", [], cutter=cutter)
    assert cutter.begun
    cut(b"\x10" + bytes(2048), [], cutter=cutter)
    assert not cutter.begun
    cut(varint.encode(5000), [], cutter=cutter)
    assert cutter.begun and cutter.size == 5000 and len(cutter.buffer()) == 0
    assert repr(cutter) == "<Cutter 0 of 5000>"
