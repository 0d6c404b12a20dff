"""Reading and writing messages, good and bad ones."""

import gc
import sys
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.bitswap import messages
from stack.bitswap.messages import (
    BLOCKS_PER_MESSAGE_MAX,
    ENTRIES_AT_ONCE,
    FIELDS_MAX,
    MESSAGE_BYTES_MAX,
    PROTOCOL_1_0,
    PROTOCOL_1_1,
    PROTOCOL_UNVERSIONED,
    WANTS_PER_MESSAGE_MAX,
    Message,
    OutgoingMessage,
    Presence,
    Want,
    WantKind,
    decode_by_and_by,
    decode_message,
    decode_prefix,
    encode_message,
    in_parts,
)
from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.errors import DecodeError, RemoteProtocolError
from stack.multiformats import varint
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.pb import bitswap_pb2 as pb
from tests.bitswap.simulation import cid_of

CIDS = [cid_of(index) for index in range(10)]
wants = st.builds(
    Want,
    st.sampled_from(CIDS),
    st.sampled_from(WantKind),
    st.integers(-(2**31), 2**31 - 1),
    st.booleans(),
    st.booleans(),
)
presences = st.builds(Presence, st.sampled_from(CIDS), st.booleans())


def body(buffers: list[bytes | bytearray | memoryview]) -> bytes:
    """A message without its length."""
    data = b"".join(buffers)
    size, start = varint.decode(data)
    assert size == len(data) - start
    return data[start:]


def decode(data: bytes) -> Message:
    return decode_message(memoryview(data))


@given(
    st.lists(wants, max_size=5),
    st.booleans(),
    st.lists(st.binary(min_size=1, max_size=300), max_size=4),
    st.lists(presences, max_size=5),
    st.integers(0, 2**31 - 1),
)
def test_what_is_written_is_read_and_protobuf_reads_the_same(
    entries: list[Want], full: bool, datas: list[bytes], have: list[Presence], pending: int
) -> None:
    blocks = [(Cid.of(data), data) for data in datas]
    data = body(
        encode_message(OutgoingMessage(wants=entries, full=full, blocks=blocks, presences=have, pending_bytes=pending))
    )
    message = decode(data)
    assert (message.wants, message.full) == (tuple(entries), full)
    assert (message.presences, message.pending_bytes) == (tuple(have), pending)
    assert [bytes(block.data) for block in message.blocks] == datas
    assert [block.prefix.multihash_of(block.data) for block in message.blocks] == [cid.multihash for cid, _ in blocks]
    oracle = pb.Message.FromString(data)
    assert oracle.SerializeToString() == data
    assert [block.data for block in oracle.payload] == datas


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_our_error(data: bytes) -> None:
    try:
        decode(data)
    except RemoteProtocolError:
        pass


@given(st.lists(wants, min_size=1, max_size=3), st.data())
def test_a_cut_message_is_our_error_or_a_shorter_message(entries: list[Want], data: st.DataObject) -> None:
    whole = body(encode_message(OutgoingMessage(wants=entries)))
    cut = data.draw(st.integers(0, len(whole) - 1))
    if cut:
        with pytest.raises(RemoteProtocolError):
            decode(whole[:cut])
    else:
        assert decode(b"") == Message()


def test_block_bytes_are_neither_copied_out_nor_in() -> None:
    data = bytearray(b"payload" * 100)
    buffers = encode_message(OutgoingMessage(blocks=[(Cid.of(data), data)]))
    assert any(buffer is data for buffer in buffers)
    received = memoryview(bytearray(body(buffers)))
    block = decode_message(received).blocks[0]
    received[-1] ^= 1
    assert bytes(block.data) != bytes(data)


@pytest.mark.parametrize("protocol", [PROTOCOL_1_0, PROTOCOL_UNVERSIONED])
def test_version_one_has_bare_blocks_and_no_presences(protocol: str) -> None:
    message = OutgoingMessage(
        wants=[Want(CIDS[0])],
        blocks=[(Cid.of(b"x", codec=DAG_PB, version=0), b"x")],
        presences=[Presence(CIDS[1], True)],
    )
    decoded = decode(body(encode_message(message, protocol=protocol)))
    assert decoded.presences == ()
    assert bytes(decoded.blocks[0].data) == b"x"
    assert decoded.blocks[0].prefix == decode_prefix(b"\x00\x70\x12\x20")
    prefixed = decode(body(encode_message(message, protocol=PROTOCOL_1_1)))
    assert prefixed.presences == (Presence(CIDS[1], True),)


def test_pending_bytes_stay_within_an_int32() -> None:
    assert decode(body(encode_message(OutgoingMessage(pending_bytes=2**40)))).pending_bytes == 2**31 - 1
    assert decode(b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").pending_bytes == 0


def test_a_message_that_would_be_too_long_is_not_made() -> None:
    data = bytes(MESSAGE_BYTES_MAX)
    with pytest.raises(ValueError, match="bytes"):
        encode_message(OutgoingMessage(blocks=[(CIDS[0], data)]))


def test_a_message_of_exactly_the_bound_is_made_and_read() -> None:
    half = bytes(BLOCK_SIZE_MAX)
    cid = Cid.of(half)
    overhead = (
        len(body(encode_message(OutgoingMessage(blocks=[(cid, half), (cid, b"x" * 2_000_000)])))) - BLOCK_SIZE_MAX
    )
    rest = bytes(MESSAGE_BYTES_MAX - BLOCK_SIZE_MAX - (overhead - 2_000_000))
    whole = body(encode_message(OutgoingMessage(blocks=[(cid, half), (cid, rest)])))
    assert len(whole) == MESSAGE_BYTES_MAX
    assert len(decode(whole).blocks) == 2
    with pytest.raises(RemoteProtocolError):
        decode(whole + b"\x28\x00")
    with pytest.raises(ValueError, match="bytes"):
        encode_message(OutgoingMessage(blocks=[(cid, half), (cid, rest + b"x")]))


def test_a_block_over_two_mebibytes_is_refused() -> None:
    data = bytes(BLOCK_SIZE_MAX + 1)
    with pytest.raises(RemoteProtocolError, match="block of"):
        decode(body(encode_message(OutgoingMessage(blocks=[(CIDS[0], data)]))))


def test_fields_that_are_not_known_are_skipped() -> None:
    unknown = b"\x98\x06\x05" + b"\x9a\x06\x01A" + b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4)
    inner = b"\x0a\x04\x01\x55\x12\x20" + unknown + b"\x12\x01x"
    data = unknown + b"\x1a" + bytes([len(inner)]) + inner + b"\x0a\x02\x10\x01" + unknown
    message = decode(data)
    assert message.full
    assert bytes(message.blocks[0].data) == b"x"


def test_known_fields_of_another_wire_type_are_skipped() -> None:
    wrong = b"\x08\x01\x10\x01\x18\x01\x20\x01\x2a\x01x"
    assert decode(wrong) == Message()
    wantlist = b"\x08\x01\x12\x01x"
    payload = b"\x08\x01\x10\x01" + b"\x0a\x04\x01\x55\x12\x20"
    data = b"\x0a" + bytes([len(wantlist)]) + wantlist + b"\x1a" + bytes([len(payload)]) + payload
    message = decode(data)
    assert (message.wants, message.full) == ((), False)
    assert bytes(message.blocks[0].data) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b\x0c",  # a group
        b"\x0e",  # wire type 6
        b"\x99\x06" + bytes(7),  # a fixed number cut short
        b"\x9d\x06" + bytes(3),
        b"\x0a",  # no length
        b"\x0a\x05ab",  # longer than the message
        b"\x28",  # no number
        b"\xff" * 11,  # endless key
        b"\x28" + b"\xff" * 10 + b"\x01",  # endless number
        b"\x80",
        b"\x22\x00",  # a presence of nothing
        b"\x0a\x02\x0a\x00",  # a want of nothing
        b"\x1a\x02\x12\x00",  # a block without prefix
        b"\x0a\x04\x0a\x02\x0b\x0c",  # an entry that is no message
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


def test_numbers_need_not_be_minimal() -> None:
    assert decode(b"\x28\x85\x00").pending_bytes == 5
    assert decode(b"\x0a\x84\x00\x10\x81\x80\x00").full


@pytest.mark.parametrize(
    "prefix",
    [b"", b"\x01", b"\x01\x55", b"\x01\x55\x12", b"\x02\x55\x12\x20", b"\x01\x55\x12\x20\x00", b"\x01\x55\x12\x13"],
)
def test_prefixes_that_are_none_are_refused(prefix: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_prefix(prefix)


def test_A42_wants_beyond_the_bound_are_not_looked_at() -> None:
    entry = pb.Message.Wantlist.Entry(block=bytes(CIDS[0])).SerializeToString()
    wantlist = (b"\x0a" + bytes([len(entry)]) + entry) * WANTS_PER_MESSAGE_MAX + b"\x0a\x01\xff" * 10 + b"\x10\x01"
    message = decode(b"\x0a" + varint.encode(len(wantlist)) + wantlist)
    assert len(message.wants) == WANTS_PER_MESSAGE_MAX
    assert message.full


def test_A42_presences_beyond_the_bound_are_not_looked_at() -> None:
    presence = pb.Message.BlockPresence(cid=bytes(CIDS[0])).SerializeToString()
    field = b"\x22" + bytes([len(presence)]) + presence
    assert len(decode(field * WANTS_PER_MESSAGE_MAX + b"\x22\x01\xff" * 5).presences) == WANTS_PER_MESSAGE_MAX


def test_A42_a_message_of_too_many_fields_is_refused() -> None:
    assert decode(b"\x98\x06\x00" * FIELDS_MAX) == Message()
    with pytest.raises(RemoteProtocolError, match="fields"):
        decode(b"\x98\x06\x00" * (FIELDS_MAX + 1))
    nested = b"\x98\x06\x00" * (FIELDS_MAX - 10)
    with pytest.raises(RemoteProtocolError, match="fields"):
        decode(b"\x0a" + varint.encode(len(nested)) + nested + b"\x28\x01" * 20)


@pytest.mark.parametrize("block", [b"\x12\x00", b"\x1a\x06\x0a\x04\x01\x55\x12\x20"], ids=["bare", "with a prefix"])
def test_attack_a_message_of_too_many_blocks_is_refused(block: bytes) -> None:
    """Small ones take fifty times the memory that was lent for their message."""
    assert len(decode(block * BLOCKS_PER_MESSAGE_MAX).blocks) == BLOCKS_PER_MESSAGE_MAX
    with pytest.raises(RemoteProtocolError, match="blocks"):
        decode(block * (BLOCKS_PER_MESSAGE_MAX + 1))


def test_entries_of_several_wantlists_are_joined() -> None:
    one = body(encode_message(OutgoingMessage(wants=[Want(CIDS[0])])))
    two = body(encode_message(OutgoingMessage(wants=[Want(CIDS[1])], full=True)))
    message = decode(one + two + one)
    assert [want.cid for want in message.wants] == [CIDS[0], CIDS[1], CIDS[0]]
    assert message.full


def test_an_unknown_kind_of_want_is_taken_for_a_block() -> None:
    entry = b"\x0a\x24" + bytes(CIDS[0]) + b"\x20\x07"
    wantlist = b"\x0a" + bytes([len(entry)]) + entry
    assert decode(b"\x0a" + bytes([len(wantlist)]) + wantlist).wants == (Want(CIDS[0], WantKind.BLOCK, 0),)


def test_protocols_are_in_order_of_preference() -> None:
    assert messages.PROTOCOLS == ("/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0", "/ipfs/bitswap/1.0.0", "/ipfs/bitswap")


def test_a_long_message_is_read_and_acted_upon_in_parts() -> None:
    wants = [Want(Cid.of(index.to_bytes(8, "big"))) for index in range(200)]
    presences = [Presence(want.cid, False) for want in wants[:130]]
    block = (Cid.of(b"x"), b"x")
    data = b"".join(encode_message(OutgoingMessage(wants=wants, full=True, presences=presences, blocks=[block])))
    view = memoryview(data)[2:] if data[1] < 0x80 else memoryview(data)[3:]
    steps = 0
    decoding = decode_by_and_by(view)
    with pytest.raises(StopIteration) as end:
        while True:
            next(decoding)
            steps += 1
    message = end.value.value
    assert steps == 200 // ENTRIES_AT_ONCE + 130 // ENTRIES_AT_ONCE
    assert message == decode_message(view)
    parts = list(in_parts(message))
    assert [len(part.wants) for part in parts] == [64, 64, 64, 8]
    assert [part.full for part in parts] == [True, False, False, False]
    assert [len(part.blocks) for part in parts] == [0, 0, 0, 1]
    assert tuple(want for part in parts for want in part.wants) == message.wants
    assert tuple(presence for part in parts for presence in part.presences) == message.presences
    assert list(in_parts(Message())) == [Message()]


CROWDED = {
    "unknown numbers": b"\x9a\x06\x00" * 60_000,
    "unknown words": b"\x9d\x06abcd" * 60_000,
    "blocks": b"\x1a\x08\x0a\x04\x01\x55\x12\x20\x12\x00" * 20_000,
    "empty blocks": b"\x12\x00" * 60_000,
    "a wantlist of nothing": b"\x0a\xe0\xd4\x03" + b"\x10\x01" * 30_000,
    "too many wants": b"\x0a\xe0\xd4\x03" + b"\x0a\x00" * 30_000,
}


@pytest.mark.parametrize("kind", CROWDED)
def test_attack_5_no_step_of_reading_a_message_is_long_whatever_it_is_full_of(kind: str) -> None:
    """Fields that say nothing, and blocks without a byte, took 80 ms of the loop."""
    data = memoryview(CROWDED[kind])
    longest = []
    gc.disable()  # a collection looks at all that other tests have left
    for _ in range(5):
        longest.append(0.0)
        decoding = decode_by_and_by(data)
        while True:
            began = thread_time()
            try:
                next(decoding)
            except (StopIteration, RemoteProtocolError):
                break
            longest[-1] = max(longest[-1], thread_time() - began)
    gc.enable()
    assert min(longest) < (0.02 if sys.gettrace() is None else 0.05)


def test_a_block_with_many_fields_is_an_offence() -> None:
    for count, field in ((8, b"\x18\x01"), (8, b"\x1d\x00\x00\x00\x00")):
        inner = b"\x0a\x04\x01\x55\x12\x20\x12\x01x" + field * count
        assert len(decode_message(memoryview(b"\x1a" + bytes([len(inner)]) + inner)).blocks) == 1
        inner += field * 8
        with pytest.raises(RemoteProtocolError, match="fields of a block"):
            decode_message(memoryview(b"\x1a" + bytes([len(inner)]) + inner))
