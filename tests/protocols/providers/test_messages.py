"""Messages of the providers protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import RemoteProtocolError
from stack.pb import providers_pb2 as pb
from stack.protocols.providers.messages import (
    MESSAGE_BYTES_MAX,
    RECORD_BYTES_MAX,
    RUNS_MAX,
    Member,
    RangesUpdate,
    Status,
    Update,
    apply_ranges,
    decode_update,
    encode_update,
)
from stack.protocols.providers.ranges import LEAVES_MAX, LeafRanges
from tests.bitswap.simulation import peer_named

ALICE = peer_named("alice")
runs = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(1, 50)).map(lambda run: (run[0], run[0] + run[1])), max_size=5
)
ranges = st.builds(
    RangesUpdate,
    leaves=st.integers(0, LEAVES_MAX),
    complete=st.booleans(),
    bitmap=st.none() | st.binary(min_size=1, max_size=20),
    runs=runs.map(tuple),
)
members = st.builds(
    Member, peer=st.just(ALICE), record=st.binary(max_size=20), ranges=st.none() | ranges, gone=st.booleans()
)
updates = st.builds(
    Update,
    key=st.sampled_from([b"", bytes(16), b"k" * 16]),
    status=st.sampled_from(Status),
    record=st.binary(max_size=20),
    ranges=st.none() | ranges,
    member=st.none() | members,
    resend=st.booleans(),
    name=st.text(max_size=60),
)


@given(updates)
def test_what_is_written_is_read(update: Update) -> None:
    assert decode_update(encode_update(update)) == update


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_our_error(data: bytes) -> None:
    try:
        decode_update(data)
    except RemoteProtocolError:
        pass


def test_the_wire_form_is_fixed() -> None:
    update = Update(key=b"k" * 16, record=b"r", ranges=RangesUpdate(leaves=300, runs=((5, 9), (20, 21))), resend=True)
    assert encode_update(update).hex() == "0a10" + "6b" * 16 + "1a0172" + "220908ac022204050414013001"
    assert encode_update(Update(ranges=RangesUpdate(leaves=9, bitmap=b"\x01\x01"))).hex() == "220608091a020101"
    assert encode_update(Update(status=Status.BUSY)).hex() == "1002"


@pytest.mark.parametrize(
    "message",
    [
        pb.Update(key=b"short"),
        pb.Update(record=bytes(RECORD_BYTES_MAX + 1)),
        pb.Update(member=pb.Member(peer=b"nobody")),
        pb.Update(member=pb.Member(peer=bytes(ALICE), record=bytes(RECORD_BYTES_MAX + 1))),
        pb.Update(ranges=pb.Ranges(leaves=10, runs=[1])),
        pb.Update(ranges=pb.Ranges(leaves=10, runs=[1] * (2 * RUNS_MAX + 2))),
    ],
)
def test_what_is_out_of_bounds_is_refused(message: pb.Update) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_update(message.SerializeToString())


def test_what_is_no_protobuf_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_update(b"\xff\xff\xff")


def test_an_unknown_status_is_no_consent() -> None:
    assert decode_update(b"\x10\x09").status is Status.UNKNOWN


def test_bounds_are_inclusive() -> None:
    assert decode_update(encode_update(Update(record=bytes(RECORD_BYTES_MAX)))).record == bytes(RECORD_BYTES_MAX)
    most = RangesUpdate(leaves=LEAVES_MAX, runs=tuple((2 * index, 2 * index + 1) for index in range(RUNS_MAX)))
    assert decode_update(encode_update(Update(ranges=most))).ranges == most
    largest = Update(
        key=bytes(16),
        record=bytes(RECORD_BYTES_MAX),
        ranges=RangesUpdate(leaves=LEAVES_MAX, bitmap=b"\x01" * (LEAVES_MAX // 8)),
        member=Member(peer=ALICE, record=bytes(RECORD_BYTES_MAX)),
    )
    assert len(encode_update(largest)) <= MESSAGE_BYTES_MAX


def test_an_update_is_applied_to_what_is_known() -> None:
    whole = apply_ranges(RangesUpdate(leaves=20, bitmap=b"\x03\x00\x00"), None)
    assert whole.runs() == [(0, 2)]
    assert apply_ranges(RangesUpdate(leaves=20, runs=((5, 7), (2, 3))), whole).runs() == [(0, 3), (5, 7)]
    assert apply_ranges(RangesUpdate(leaves=20, complete=True), whole).complete
    assert apply_ranges(RangesUpdate(leaves=10, runs=((1, 2),)), whole) == LeafRanges.decode(10, b"\x02\x00")
    assert apply_ranges(RangesUpdate(leaves=10), None) == LeafRanges(10)


@pytest.mark.parametrize(
    "update",
    [
        RangesUpdate(leaves=LEAVES_MAX + 1),
        RangesUpdate(leaves=10, bitmap=b"\x00"),
        RangesUpdate(leaves=10, runs=((5, 11),)),
        RangesUpdate(leaves=10, runs=((12, 13),)),
    ],
)
def test_updates_that_do_not_fit_are_refused(update: RangesUpdate) -> None:
    with pytest.raises(RemoteProtocolError):
        apply_ranges(update, None)


def test_the_wire_form_of_a_name_is_fixed_and_what_is_no_file_name_is_passed_over() -> None:
    assert encode_update(Update(name="ü.txt")).hex() == "4206c3bc2e747874"
    assert encode_update(Update(name="n" * 256)) == b"" == encode_update(Update(name="\udcff"))
    assert decode_update(pb.Update(name="n" * 256).SerializeToString()).name == ""
