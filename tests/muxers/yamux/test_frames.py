"""Frame headers: one table, used both ways."""

import pytest

from stack.errors import ConfigError, RemoteProtocolError
from stack.muxers.yamux import frames
from stack.muxers.yamux.parameters import YamuxParameters

HEADERS = [
    ((frames.DATA, 0, 1, 5), "000000000000000100000005"),
    ((frames.DATA, frames.SYN, 3, 0), "000000010000000300000000"),
    ((frames.WINDOW_UPDATE, frames.SYN, 1, 0), "000100010000000100000000"),
    ((frames.WINDOW_UPDATE, frames.ACK, 2, 262144), "000100020000000200040000"),
    ((frames.WINDOW_UPDATE, frames.FIN, 2**32 - 1, 2**32 - 1), "00010004ffffffffffffffff"),
    ((frames.WINDOW_UPDATE, frames.RST, 7, 0), "000100080000000700000000"),
    ((frames.PING, frames.SYN, 0, 0xDEADBEEF), "0002000100000000deadbeef"),
    ((frames.PING, frames.ACK, 0, 1), "000200020000000000000001"),
    ((frames.GO_AWAY, 0, 0, 2), "000300000000000000000002"),
]


@pytest.mark.parametrize(("header", "hexadecimal"), HEADERS)
def test_a_header_is_written_and_read(header: tuple[int, int, int, int], hexadecimal: str) -> None:
    data = bytes.fromhex(hexadecimal)
    assert frames.encode_header(*header) == data
    out = bytearray(20)
    frames.write_header(memoryview(out), 5, *header)
    assert out == bytes(5) + data + bytes(3)
    assert frames.decode_header(b"xx" + data + b"trailing", 2) == header


@pytest.mark.parametrize(
    "hexadecimal",
    [
        "010000000000000100000005",  # version 1
        "000400000000000100000005",  # type 4
        "00ff00000000000100000005",
        "000000000000000000000005",  # data on the connection
        "000100000000000000000005",  # a window update on the connection
        "000200010000000100000005",  # a ping on a stream
        "000300000000000100000000",  # a go-away on a stream
        "000000000000000101000001",  # data of 16 MiB + 1
        "0000000000000001ffffffff",
    ],
)
def test_a_header_that_is_none_is_refused_with_the_code_of_a_protocol_error(hexadecimal: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        frames.decode_header(bytes.fromhex(hexadecimal))
    assert caught.value.code == 1


def test_data_of_exactly_16_MiB_is_read_and_unknown_flags_mean_nothing() -> None:
    assert frames.decode_header(bytes.fromhex("0000fff00000000101000000")) == (0, 0xFFF0, 1, 16 << 20)


def test_the_longest_data_frame_fills_a_noise_frame() -> None:
    assert frames.HEADER_BYTES + frames.PAYLOAD_BYTES_MAX == 65519


@pytest.mark.parametrize(
    "change",
    [
        {"window_max": 262143},
        {"window_max": (16 << 20) + 1},
        {"memory_max": 0},
        {"streams_max": 0},
        {"backlog_max": 0},
        {"keep_alive": 0},
        {"silence_max": 0},
    ],
)
def test_figures_without_meaning_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        YamuxParameters(**change)  # type: ignore[arg-type] # one dictionary for integers and floats


def test_the_bounds_themselves_are_allowed() -> None:
    YamuxParameters(window_max=262144, memory_max=1, streams_max=1, backlog_max=1, keep_alive=0.1, silence_max=0.1)
    YamuxParameters(window_max=16 << 20)
