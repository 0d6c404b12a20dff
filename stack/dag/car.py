"""CAR archives: a header with root CIDs, then blocks, each behind its length and its CID.

Source: ipld/ipld, specs/transport/car/carv1 and carv2. Versions 1 and 2 are read, 1 is written. The reader takes the
file in pieces of any size and never holds more than one section and the last piece. The index of version 2 is skipped:
it says only where blocks lie, and they come by in order anyway.
"""

import struct
from collections.abc import Sequence
from enum import Enum, auto

from stack.dag import dag_cbor
from stack.errors import DecodeError, LocalProtocolError
from stack.multiformats import varint
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

HEADER_MAX = 2**20
"""Bytes of a header, some 25,000 roots. go-car allows 32 MiB, nobody writes more than a few roots."""

SECTION_MAX = 4 * 2**20
"""Bytes of CID and block from the network: a block of 2 MiB, and room for those of other makers (go-car: 8 MiB)."""

SECTION_MAX_IMPORT = 32 * 2**20
"""Bytes of CID and block where the user asks for a file to be imported (go-car's bound for version 1)."""

_UVARINT_MAX = 9
_PRAGMA = bytes.fromhex("a16776657273696f6e02")
"""What version 2 has in place of a header: the map {"version": 2}."""
_V2_HEADER = struct.Struct("<16xQQQ")
"""Characteristics, which say nothing about the blocks; data offset, data size, index offset."""
_V2_DATA_OFFSET_MIN = 1 + len(_PRAGMA) + _V2_HEADER.size
_OFFSET_MAX = 2**63 - 1


class WrongBlock(DecodeError):
    """A block of a CAR does not hash to the CID it is stored under."""

    def __init__(self, cid: Cid, index: int, offset: int) -> None:
        super().__init__(f"CAR: block {index} (at byte {offset}) does not hash to its CID {cid}")
        self.cid = cid
        self.index = index
        """How many blocks came before it."""
        self.offset = offset
        """Where its data begins, in bytes from the start of the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRead:
    """The first event of every archive."""

    version: int
    """1 or 2."""
    roots: tuple[Cid, ...]
    """As claimed; they need not be among the blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRead:
    """The next block, in the order of the file, duplicates kept."""

    cid: Cid
    data: bytes
    offset: int
    """Where `data` begins, in bytes from the start of the input."""


class _Phase(Enum):
    HEADER = auto()
    V2_HEADER = auto()
    PADDING = auto()
    INNER_HEADER = auto()
    SECTIONS = auto()
    REST = auto()
    """After the data of version 2: padding and index, which are dropped."""


class CarReader:
    """Reads one archive from pieces of it.

    Facts: `receive_data`. Outputs: `next_event`, to be called until it returns None before more data is given. Getters:
    `finished`. After an error the same error is raised again.
    """

    __slots__ = (
        "_blocks", "_buffer", "_data_end", "_data_start", "_ended", "_error", "_header_max", "_phase", "_position",
        "_section_max", "_start", "_verify", "_version",
    )  # fmt: skip

    def __init__(self, *, section_max: int = SECTION_MAX, header_max: int = HEADER_MAX, verify: bool = True) -> None:
        """`verify` hashes every block; without it the caller must (a store that does it anyway)."""
        self._section_max = section_max
        self._header_max = header_max
        self._verify = verify
        self._buffer = bytearray()
        self._start = 0  # of the buffer in the input
        self._position = 0  # in the buffer: what is before it is understood
        self._data_start = 0  # of the inner archive of version 2, in the input
        self._data_end: int | None = None  # of the same; None in version 1, where the data ends with the input
        self._ended = False
        self._blocks = 0
        self._version = 1
        self._phase = _Phase.HEADER
        self._error: DecodeError | None = None

    @property
    def finished(self) -> bool:
        """The input has ended where it may, and every event was fetched."""
        return self._ended and self._error is None and not self._buffer and self._phase in _LAST

    def receive_data(self, data: Buffer) -> None:
        """Take the next bytes of the file; `b""` means it ends here.

        Raises LocalProtocolError after the end, and when many bytes wait because events are not fetched.
        """
        if self._ended or len(self._buffer) > _UVARINT_MAX + max(self._section_max, self._header_max):
            raise LocalProtocolError("CAR: data after the end, or before the events of earlier data were fetched")
        self._ended = not len(data)
        self._buffer += data

    def next_event(self) -> HeaderRead | BlockRead | None:
        """The next event, or None when more data is needed or the archive is finished.

        Raises DecodeError on an archive that is none, is cut short or is over a limit; WrongBlock (when verifying).
        """
        if self._error is not None:
            raise self._error
        try:
            event = self._advance()
        except DecodeError as error:
            self._error = error
            self._buffer = bytearray()
            raise
        if event is None:
            self._discard()
        return event

    def _advance(self) -> HeaderRead | BlockRead | None:
        event: HeaderRead | BlockRead | None = None
        while event is None:
            before = self._phase
            match before:
                case _Phase.HEADER | _Phase.INNER_HEADER:
                    event = self._read_header()
                case _Phase.V2_HEADER:
                    self._read_v2_header()
                case _Phase.PADDING:
                    self._skip_padding()
                case _Phase.SECTIONS:
                    event = self._read_section()
                case _:  # REST
                    self._position = len(self._buffer)
            if event is None and self._phase is before:
                break
        return event

    def _read_header(self) -> HeaderRead | None:
        found = self._delimited(self._header_max, "header")
        if found is None:
            return None
        start, stop = found
        header = bytes(self._buffer[start:stop])
        self._position = stop
        if self._phase is _Phase.HEADER and header == _PRAGMA:
            self._version = 2
            self._phase = _Phase.V2_HEADER
            return None
        self._phase = _Phase.SECTIONS
        return HeaderRead(version=self._version, roots=_decode_roots(header))

    def _read_v2_header(self) -> None:
        stop = self._position + _V2_HEADER.size
        if self._missing(stop):
            return
        offset, size, index = _V2_HEADER.unpack_from(self._buffer, self._position)
        self._position = stop
        if offset < _V2_DATA_OFFSET_MIN or not size or offset + size > _OFFSET_MAX:
            raise DecodeError(f"CAR: version 2 with data of {size} bytes at byte {offset}")
        if index and not offset + size <= index <= _OFFSET_MAX:
            raise DecodeError(f"CAR: version 2 with an index at byte {index}, inside or before its data")
        self._data_start, self._data_end = offset, offset + size
        self._phase = _Phase.PADDING

    def _skip_padding(self) -> None:
        self._position = min(len(self._buffer), self._data_start - self._start)
        if not self._missing(self._data_start - self._start):
            self._phase = _Phase.INNER_HEADER

    def _read_section(self) -> BlockRead | None:
        if self._data_end == self._start + self._position:
            self._phase = _Phase.REST
            return None
        if self._data_end is None and self._position == len(self._buffer):
            return None  # version 1 may end here
        found = self._delimited(self._section_max, "section")
        if found is None:
            return None
        start, stop = found
        try:
            with memoryview(self._buffer) as view, view[start:stop] as section:
                cid, length = Cid.read(section, 0)
                data = bytes(section[length:])
        except DecodeError as error:
            raise DecodeError(f"CAR: section at byte {self._start + self._position}: {error}") from None
        offset = self._start + start + length
        if self._verify and not _matches(cid, data, offset):
            raise WrongBlock(cid, self._blocks, offset)
        self._position = stop
        self._blocks += 1
        return BlockRead(cid=cid, data=data, offset=offset)

    def _delimited(self, limit: int, what: str) -> tuple[int, int] | None:
        """Start and stop in the buffer of what lies behind the length at the position; None until all of it is here."""
        head = bytes(self._buffer[self._position : self._position + _UVARINT_MAX])
        length = next((count for count, byte in enumerate(head, 1) if byte < 0x80), None)
        if length is None and len(head) < _UVARINT_MAX:
            self._missing(self._position + len(head) + 1)
            return None
        try:
            size, length = varint.decode(head, 0)
        except DecodeError as error:
            raise DecodeError(f"CAR: length of the {what} at byte {self._start + self._position}: {error}") from None
        if not 0 < size <= limit:
            raise DecodeError(
                f"CAR: {what} of {size} bytes at byte {self._start + self._position}, allowed are 1 to {limit}"
            )
        start = self._position + length
        if self._missing(start + size):
            return None
        return start, start + size

    def _missing(self, stop: int) -> bool:
        """Whether the buffer does not reach to `stop` yet. Raises DecodeError when it never will."""
        if self._data_end is not None and self._start + stop > self._data_end:
            raise DecodeError("CAR: version 2 whose data size ends inside a header or a section")
        if stop <= len(self._buffer):
            return False
        if self._ended:
            raise DecodeError(f"CAR: cut short at byte {self._start + len(self._buffer)}")
        return True

    def _discard(self) -> None:
        """Forget what is understood; once for each piece, so that small sections in a large piece cost no moving."""
        del self._buffer[: self._position]
        self._start += self._position
        self._position = 0


_LAST = frozenset({_Phase.SECTIONS, _Phase.REST})


def _decode_roots(header: bytes) -> tuple[Cid, ...]:
    try:
        value = dag_cbor.decode(header)
    except DecodeError as error:
        raise DecodeError(f"CAR: header: {error}") from None
    if not isinstance(value, dict) or type(value.get("version")) is not int or value["version"] != 1:
        raise DecodeError("CAR: not an archive of version 1 or 2")
    roots = value.get("roots")
    if not isinstance(roots, list) or len(value) != 2:
        raise DecodeError("CAR: a header is a map of roots and version and nothing else")
    cids = tuple(root for root in roots if isinstance(root, Cid))
    if len(cids) != len(roots):
        raise DecodeError("CAR: a root that is no link")
    return cids


def _matches(cid: Cid, data: bytes, offset: int) -> bool:
    try:
        return Cid.from_prefix(cid.prefix, data) == cid
    except DecodeError as error:
        raise DecodeError(f"CAR: block {cid} at byte {offset} cannot be checked: {error}") from None


def header(roots: Sequence[Cid]) -> bytes:
    """The first bytes of an archive of version 1."""
    data = dag_cbor.encode({"roots": list(roots), "version": 1})
    return varint.encode(len(data)) + data


def section(cid: Cid, data: Buffer) -> bytes:
    """One block as it stands in an archive. Nothing is hashed."""
    name = bytes(cid)
    return b"".join((varint.encode(len(name) + len(data)), name, data))
