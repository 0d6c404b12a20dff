"""Bytes that wait to be read."""

from hypothesis import given
from hypothesis import strategies as st

from stack.muxers.yamux.inbox import SEGMENT_BYTES, Inbox


def filled(*pieces: bytes) -> Inbox:
    inbox = Inbox()
    for piece in pieces:
        inbox.append(memoryview(piece))
    return inbox


def taken(inbox: Inbox, size: int) -> bytes:
    out = bytearray(size)
    return bytes(out[: inbox.read_into(memoryview(out))])


def test_an_empty_inbox_gives_nothing() -> None:
    assert taken(Inbox(), 10) == b""
    assert len(Inbox()) == 0


def test_bytes_come_out_in_order_however_they_are_taken() -> None:
    inbox = filled(b"one", b"two", b"three")
    assert len(inbox) == 11
    assert [taken(inbox, 2), taken(inbox, 5), taken(inbox, 100), taken(inbox, 1)] == [b"on", b"etwot", b"hree", b""]


def test_the_borrowed_bytes_are_copied() -> None:
    data = bytearray(b"hello")
    inbox = filled(data)
    data[:] = b"xxxxx"
    assert taken(inbox, 5) == b"hello"


def test_A02_small_pieces_are_joined_and_large_ones_are_not() -> None:
    inbox = filled(*[b"x"] * (SEGMENT_BYTES + 1))
    assert inbox._segments is not None
    assert [len(segment) for segment in inbox._segments] == [SEGMENT_BYTES, 1]
    large = filled(bytes(SEGMENT_BYTES), bytes(SEGMENT_BYTES), b"x")
    assert large._segments is not None
    assert [len(segment) for segment in large._segments] == [SEGMENT_BYTES, SEGMENT_BYTES, 1]


def test_what_is_put_back_comes_first_again() -> None:
    inbox = filled(b"onetwo", b"three")
    assert taken(inbox, 3) == b"one"
    inbox.put_back(b"ONE")
    assert len(inbox) == 11
    assert taken(inbox, 100) == b"ONEtwothree"
    inbox.put_back(b"")
    assert taken(inbox, 1) == b""
    inbox.put_back(b"again")
    assert taken(inbox, 9) == b"again"


def test_putting_back_before_anything_was_taken_keeps_the_order() -> None:
    inbox = filled(b"two")
    inbox.put_back(b"one")
    assert taken(inbox, 9) == b"onetwo"


def test_a_cleared_inbox_is_empty_and_goes_on() -> None:
    inbox = filled(b"onetwo")
    taken(inbox, 3)
    inbox.clear()
    assert len(inbox) == 0
    inbox.append(memoryview(b"three"))
    assert taken(inbox, 9) == b"three"


@given(st.lists(st.one_of(st.binary(max_size=40000), st.integers(0, 40000)), max_size=30))
def test_any_order_of_appending_and_taking_keeps_all_bytes(steps: list[bytes | int]) -> None:
    inbox, sent, got = Inbox(), b"", b""
    for step in steps:
        if isinstance(step, int):
            got += taken(inbox, step)
        else:
            inbox.append(memoryview(step))
            sent += step
        assert len(inbox) == len(sent) - len(got)
    assert got + taken(inbox, len(inbox)) == sent
