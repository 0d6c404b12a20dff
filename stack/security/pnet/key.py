"""The file `swarm.key`: a path-like header, a base, 32 bytes. Pure. As Kubo and go-libp2p read it."""

import base64
import binascii

from stack.errors import DecodeError

KEY_BYTES = 32
FILE_BYTES_MAX = 4096
"""Header, base and 64 digits are 97 bytes."""

_HEADER = b"/key/swarm/psk/1.0.0/"


def decode_swarm_key(data: bytes) -> bytes:
    """The key in a file. Raises DecodeError, which never repeats what it has read."""
    if len(data) > FILE_BYTES_MAX:
        raise DecodeError(f"a swarm key of {len(data)} bytes")
    header, _, rest = data.partition(b"\n")
    base, _, body = rest.partition(b"\n")
    if header.rstrip(b"\r") != _HEADER:
        raise DecodeError(f"a swarm key begins with {_HEADER.decode()}")
    try:
        match base.rstrip(b"\r"):
            case b"/base16/":
                key = binascii.unhexlify(body.strip())
            case b"/base64/":
                key = base64.b64decode(body.strip(), validate=True)
            case b"/bin/":
                key = body if len(body) <= KEY_BYTES else body[:KEY_BYTES] + body[KEY_BYTES:].rstrip(b"\r\n")
            case _:
                raise DecodeError("the second line of a swarm key is /base16/, /base64/ or /bin/")
    except ValueError:  # from None: its message repeats digits of the key
        raise DecodeError("the third line of a swarm key is not what the second one says") from None
    if len(key) != KEY_BYTES:
        raise DecodeError(f"a swarm key has {KEY_BYTES} bytes, this one has {len(key)}")
    return key


def encode_swarm_key(key: bytes) -> bytes:
    """The file for a key."""
    return _HEADER + b"\n/base16/\n" + key.hex().encode() + b"\n"
