"""Names of codes that say what bytes are; hash functions are named in `multihash`.

Source: the table of multiformats/multicodec, the rows this package meets.
"""

from stack.errors import DecodeError
from stack.multiformats import varint

IDENTITY = 0x00
RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71
LIBP2P_KEY = 0x72
DAG_JSON = 0x0129

_NAMES = {
    IDENTITY: "identity",
    0x51: "cbor",
    RAW: "raw",
    DAG_PB: "dag-pb",
    DAG_CBOR: "dag-cbor",
    LIBP2P_KEY: "libp2p-key",
    0x78: "git-raw",
    DAG_JSON: "dag-json",
    0x0200: "json",
    0x0202: "car",
    0x0300: "ipns-record",
    0x0301: "libp2p-peer-record",
    0x0302: "libp2p-relay-rsvp",
}
_CODES = {name: code for code, name in _NAMES.items()}


def name_of(code: int) -> str:
    """The name of a code; `0x...` for one that is not in the table (an unknown code is legal)."""
    return _NAMES.get(code) or hex(code)


def code_of(name: str) -> int:
    """The code of a name, or of the `0x...` that `name_of` gives. Raises DecodeError when it is neither."""
    code = _CODES.get(name)
    if code is not None:
        return code
    try:
        code = int(name, 16)
    except ValueError:
        code = -1
    if 0 <= code <= varint.VALUE_MAX and hex(code) == name:
        return code
    raise DecodeError(f"no codec is called {name[:40]!r}")
