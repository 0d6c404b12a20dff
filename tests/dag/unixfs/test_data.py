"""The UnixFS message: both ways, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.dag.unixfs.data import Data, NodeKind, UnixTime, decode_data, encode_data, encode_uvarint, uvarint_size
from stack.errors import ConfigError, DecodeError

UINT64 = st.integers(0, 2**64 - 1)
TIMES = st.builds(UnixTime, st.integers(-(2**63), 2**63 - 1), st.integers(0, 999_999_999))


@given(
    st.sampled_from(NodeKind),
    st.binary(max_size=300),
    UINT64,
    st.lists(UINT64, max_size=5),
    UINT64,
    UINT64,
    st.integers(1, 0o7777) | st.none(),
    TIMES | st.none(),
)
def test_what_is_written_is_read(
    kind: NodeKind,
    payload: bytes,
    file_size: int,
    block_sizes: list[int],
    hash_type: int,
    fanout: int,
    mode: int | None,
    mtime: UnixTime | None,
) -> None:
    message = encode_data(
        kind,
        payload=payload,
        file_size=file_size,
        block_sizes=block_sizes,
        hash_type=hash_type,
        fanout=fanout,
        mode=mode,
        mtime=mtime,
    )
    data = decode_data(message)
    assert message[data.payload] == payload
    assert data == Data(
        kind=kind,
        payload=data.payload,
        file_size=file_size,
        block_sizes=tuple(block_sizes),
        hash_type=hash_type,
        fanout=fanout,
        mode=mode,
        mtime=mtime,
    )


@given(UINT64)
def test_the_size_of_a_number_is_known_before_it_is_written(value: int) -> None:
    assert uvarint_size(value) == len(encode_uvarint(value))


@given(st.binary(max_size=60))
def test_any_bytes_give_a_message_or_a_decode_error(data: bytes) -> None:
    try:
        decode_data(data)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("hexadecimal", "block_sizes"),
    [
        ("0802", ()),
        ("20030802", (3,)),
        ("0802200320ac02", (3, 300)),
        ("08022203" + "03ac02", (3, 300)),
        ("08022200", ()),
        ("0802" + "4803" + "5100000000000000005d000000006200", ()),
    ],
    ids=["least", "other order", "unpacked", "packed", "packed, none", "unknown fields"],
)
def test_every_form_that_protobuf_allows_is_read(hexadecimal: str, block_sizes: tuple[int, ...]) -> None:
    data = decode_data(bytes.fromhex(hexadecimal))
    assert data.kind is NodeKind.FILE
    assert data.block_sizes == block_sizes


def test_of_a_field_that_occurs_twice_the_last_counts() -> None:
    message = bytes.fromhex("0801 1802 1201aa 1202bbcc 0802 1803".replace(" ", ""))
    data = decode_data(message)
    assert (data.kind, data.file_size, message[data.payload]) == (NodeKind.FILE, 3, b"\xbb\xcc")


def test_mode_bits_without_a_meaning_are_masked_off() -> None:
    assert decode_data(bytes.fromhex("0802") + b"\x38" + encode_uvarint(0o100644)).mode == 0o644


def test_a_time_skips_fields_it_does_not_know() -> None:
    assert decode_data(bytes.fromhex("0802" + "4206" + "080718051a00")).mtime == UnixTime(7)


def test_a_mode_of_nothing_is_not_written() -> None:
    assert encode_data(NodeKind.DIRECTORY, mode=0) == b"\x08\x01"


@pytest.mark.parametrize(
    "hexadecimal",
    [
        "",
        "1803",
        "0806",
        "0a0102",
        "0802" + "1201",
        "0802" + "12ffffffffffffffffff01",
        "0802" + "18",
        "0802" + "1880",
        "0802" + "18" + "80" * 9 + "02",
        "0802" + "18" + "80" * 10 + "01",
        "0802" + "220180",
        "0802" + "1d00000000",
        "0802" + "5b",
        "0802" + "5100",
        "0802" + "4200",
        "0802" + "42051500000000",
        "0802" + "420708011500000000",
        "0802" + "4207080115" + (10**9).to_bytes(4, "little").hex(),
    ],
    ids=[
        "nothing",
        "no type",
        "unknown type",
        "type of wrong wire type",
        "cut payload",
        "payload longer than memory",
        "no number",
        "cut number",
        "number over 64 bits",
        "number over 10 bytes",
        "packed number past its end",
        "size of wrong wire type",
        "group",
        "cut fixed",
        "time without seconds",
        "time with a fraction only",
        "fraction of zero",
        "fraction of a second",
    ],
)
def test_what_is_malformed_is_refused(hexadecimal: str) -> None:
    with pytest.raises(DecodeError):
        decode_data(bytes.fromhex(hexadecimal))


@given(TIMES)
def test_a_time_is_the_same_in_nanoseconds(time: UnixTime) -> None:
    assert UnixTime.of_nanoseconds(time.in_nanoseconds) == time


def test_a_time_before_1970_counts_its_fraction_forward() -> None:
    assert UnixTime.of_nanoseconds(-1) == UnixTime(-1, 999_999_999)


@pytest.mark.parametrize("time", [(0, -1), (0, 10**9), (2**63, 0), (-(2**63) - 1, 0)])
def test_what_is_no_time_is_refused(time: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        UnixTime(*time)
