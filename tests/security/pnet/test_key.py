"""The file `swarm.key`."""

import base64

import pytest

from stack.errors import DecodeError
from stack.security.pnet.key import FILE_BYTES_MAX, decode_swarm_key, encode_swarm_key

KEY = bytes(range(32))
HEADER = b"/key/swarm/psk/1.0.0/\n"


@pytest.mark.parametrize(
    "data",
    [
        encode_swarm_key(KEY),
        HEADER + b"/base16/\n" + KEY.hex().upper().encode(),
        HEADER.replace(b"\n", b"\r\n") + b"/base16/\r\n" + KEY.hex().encode() + b"\r\n",
        HEADER + b"/base64/\n" + base64.b64encode(KEY) + b"\n",
        HEADER + b"/bin/\n" + KEY,
        HEADER + b"/bin/\n" + KEY + b"\n",
    ],
)
def test_every_form_of_the_file_is_read(data: bytes) -> None:
    assert decode_swarm_key(data) == KEY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with"),
        (b"/key/swarm/psk/2.0.0/\n/base16/\n" + KEY.hex().encode(), "begins with"),
        (HEADER + b"/base32/\n" + KEY.hex().encode(), "second line"),
        (HEADER + b"/base16/\n" + KEY.hex().encode()[:-1], "third line"),
        (HEADER + b"/base16/\n" + KEY.hex().encode()[:-2], "32 bytes, this one has 31"),
        (HEADER + b"/base16/\nzz", "third line"),
        (HEADER + b"/base64/\n" + base64.b64encode(KEY)[:-2], "third line"),
        (HEADER + b"/bin/\n" + KEY[:-1], "32 bytes, this one has 31"),
        (HEADER + b"/bin/\n" + KEY + b"x", "32 bytes, this one has 33"),
        (HEADER + b"/base16/\n" + b"0" * FILE_BYTES_MAX, "swarm key of"),
    ],
)
def test_a_damaged_file_is_told_without_its_content(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message) as raised:
        decode_swarm_key(data)
    assert KEY.hex()[:8] not in str(raised.value)
    assert raised.value.__cause__ is None
