"""CAR archives: the machine in any pieces, damaged and hostile input. The vectors are in tests/vectors/test_car.py."""

import random
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag import dag_cbor
from stack.dag.car import (
    HEADER_MAX,
    SECTION_MAX,
    SECTION_MAX_IMPORT,
    BlockRead,
    CarReader,
    HeaderRead,
    WrongBlock,
    header,
    section,
)
from stack.dag.model import Value
from stack.errors import DecodeError, LocalProtocolError
from stack.multiformats import varint
from stack.multiformats.cid import Cid
from tests.dag.strategies import cids

Event = HeaderRead | BlockRead
VECTORS = Path(__file__).parent.parent / "vectors" / "car"
PRAGMA = bytes.fromhex("0aa16776657273696f6e02")
LEAF = Cid.of(b"leaf")
HUGE = 2**62


def drain(reader: CarReader) -> list[Event]:
    events: list[Event] = []
    while (event := reader.next_event()) is not None:
        events.append(event)
    return events


def read(pieces: Iterable[bytes], reader: CarReader | None = None) -> list[Event | str]:
    """All events of an archive; the message of the error last, where there is one."""
    reader = reader or CarReader()
    events: list[Event | str] = []
    try:
        for piece in (*pieces, b""):
            reader.receive_data(piece)
            while (event := reader.next_event()) is not None:
                events.append(event)
        assert reader.finished
    except DecodeError as error:
        assert not reader.finished
        events.append(str(error))
    return events


def delimited(data: bytes) -> bytes:
    return varint.encode(len(data)) + data


def header_of(value: Value) -> bytes:
    return delimited(dag_cbor.encode(value))


def version_2(
    inner: bytes,
    *,
    offset: int = 51,
    size: int | None = None,
    index_offset: int = 0,
    padding: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    fields = struct.pack("<QQQ", offset, len(inner) if size is None else size, index_offset)
    return PRAGMA + bytes(16) + fields + padding + inner + rest


def archive_of(*blocks: bytes) -> bytes:
    return header([LEAF]) + b"".join(section(Cid.of(block), block) for block in blocks)


@given(st.lists(cids(), max_size=3), st.lists(st.binary(max_size=300), max_size=5), st.booleans())
@settings(deadline=None)
def test_what_was_written_is_read_back(roots: list[Cid], data: list[bytes], wrapped: bool) -> None:
    blocks = [(Cid.of(block), block) for block in data]
    archive = header(roots) + b"".join(section(cid, block) for cid, block in blocks)
    head, *found = read([version_2(archive, padding=bytes(9), offset=60, rest=b"index") if wrapped else archive])
    assert head == HeaderRead(version=2 if wrapped else 1, roots=tuple(roots))
    assert [(event.cid, event.data) for event in found if isinstance(event, BlockRead)] == blocks


SPLIT_FILES = ["v1-basic", "v1-cidv0", "v2-padded", "v2-no-index", "bad-wrong-hash", "bad-truncated-cid", "bad-v2-data-size",
               "bad-zero-section", "bad-section-varint-oversized", "bad-trailing-garbage"]  # fmt: skip


@pytest.mark.parametrize("name", SPLIT_FILES)
def test_every_split_of_the_bytes_gives_the_same_events(name: str) -> None:
    archive = (VECTORS / f"{name}.car").read_bytes()
    whole = read([archive])
    for cut in range(1, len(archive)):
        assert read([archive[:cut], archive[cut:]]) == whole
    assert read([bytes((byte,)) for byte in archive]) == whole


@given(st.data())
@settings(deadline=None)
def test_any_pieces_of_any_changed_archive_give_the_same_events(data: st.DataObject) -> None:
    archive = bytearray((VECTORS / f"{data.draw(st.sampled_from(SPLIT_FILES))}.car").read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(archive) - 1), max_size=6)))
    pieces = [bytes(archive[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(archive)], strict=True)]
    assert read(pieces) == read([bytes(archive)])


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_an_archive_or_a_decode_error(data: bytes) -> None:
    read([data])


@pytest.mark.parametrize("name", ["v1-basic", "v2-padded"])
def test_every_truncation_is_an_error_or_ends_between_two_sections(name: str) -> None:
    archive = (VECTORS / f"{name}.car").read_bytes()
    whole = read([archive])
    complete = 0
    for stop in range(len(archive)):
        events = read([archive[:stop]])
        if not isinstance(events[-1], str):
            complete += 1
            assert events == whole[: len(events)]
            assert name == "v2-padded" or events != whole
    # Version 1 cannot tell that sections are missing at its end; version 2 says how long its data is.
    assert complete == 3 if name == "v1-basic" else len(read([archive])) == 4


def test_a_wrong_block_says_which_it_is() -> None:
    archive = archive_of(b"first", b"second", b"third")
    damaged = archive.replace(b"second", b"sekond")
    reader = CarReader()
    reader.receive_data(damaged)
    first = [reader.next_event(), reader.next_event()]
    assert isinstance(first[1], BlockRead)
    with pytest.raises(WrongBlock) as caught:
        reader.next_event()
    assert caught.value.cid == Cid.of(b"second")
    assert caught.value.index == 1
    assert damaged[caught.value.offset :].startswith(b"sekond")
    assert str(caught.value.cid) in str(caught.value)
    with pytest.raises(WrongBlock):
        reader.next_event()


def test_without_verification_wrong_blocks_pass() -> None:
    archive = header([]) + section(LEAF, b"other")
    assert len(read([archive], CarReader(verify=False))) == 2
    assert isinstance(read([archive])[-1], str)


def test_a_block_whose_hash_cannot_be_computed_is_refused_when_verifying() -> None:
    odd = Cid.decode(b"\x01\x55\xff\x7f\x14" + bytes(20))
    archive = header([]) + section(odd, b"data")
    last = read([archive])[-1]
    assert isinstance(last, str)
    assert "cannot be checked" in last
    assert len(read([archive], CarReader(verify=False))) == 2


@pytest.mark.parametrize(
    "value",
    [
        {"roots": [], "version": 0},
        {"roots": [], "version": 2},
        {"roots": [], "version": True},
        {"roots": [], "version": 1.0},
        {"roots": [], "version": None},
        {"version": 1},
        {"version": 2, "x": 1},
        {"roots": [], "version": 1, "x": 1},
        {"roots": None, "version": 1},
        {"roots": [LEAF, 1], "version": 1},
        {"roots": []},
        [],
        1,
    ],
)
def test_a_header_of_another_shape_is_refused(value: Value) -> None:
    assert isinstance(read([header_of(value)])[0], str)


@pytest.mark.parametrize(
    "archive",
    [
        version_2(archive_of(), offset=50),
        version_2(archive_of(), offset=2**64 - 1),
        version_2(archive_of(), offset=HUGE, size=HUGE),
        version_2(archive_of(), size=0),
        version_2(archive_of(), size=len(archive_of()) + 1),
        version_2(archive_of(), size=len(archive_of()) - 1),
        version_2(archive_of(b"leaf"), size=len(archive_of(b"leaf")) - 1),
        version_2(archive_of() + b"\x80", rest=b"\x01" * 200),
        version_2(archive_of(b"leaf"), size=len(archive_of()) + 1),
        version_2(archive_of(), index_offset=51),
        version_2(archive_of(), index_offset=2**64 - 1),
        version_2(version_2(archive_of())),
        version_2(header_of({"version": 2})),
    ],
)
def test_version_2_with_offsets_that_lie_is_refused(archive: bytes) -> None:
    events = read([archive])
    assert isinstance(events[-1], str)
    assert not any(isinstance(event, BlockRead) for event in events)


def test_bytes_after_the_data_of_version_2_are_dropped_as_they_come() -> None:
    inner = archive_of(b"leaf")
    reader = CarReader()
    reader.receive_data(version_2(inner, index_offset=51 + len(inner)))
    assert len(drain(reader)) == 2
    assert not reader.finished
    for _ in range(64):
        reader.receive_data(bytes(2**20))
        assert drain(reader) == []
    reader.receive_data(b"")
    assert drain(reader) == []
    assert reader.finished


def test_a_section_up_to_the_limit_is_read_and_one_byte_more_is_not() -> None:
    size = SECTION_MAX - len(bytes(LEAF))
    for extra in (0, 1):
        data = bytes(size + extra)
        archive = header([]) + section(Cid.of(data), data)
        assert isinstance(read([archive])[-1], str) == bool(extra)
        assert len(read([archive], CarReader(section_max=SECTION_MAX_IMPORT))) == 2


def test_a_header_over_the_limit_is_refused() -> None:
    archive = header([LEAF] * 30)
    assert len(read([archive], CarReader(header_max=len(archive)))) == 1
    assert isinstance(read([archive], CarReader(header_max=len(archive) - 3))[0], str)


def hostile_archives() -> list[bytes]:
    """Headers, sections, CIDs and offsets that claim too much, then as many bytes as anyone likes to send."""
    flood = bytes(2**21)
    head = header([LEAF])
    lengths = [HEADER_MAX + 1, SECTION_MAX + 1, 2**30, 2**32, HUGE, 2**63 - 1]
    archives = [varint.encode(length) + flood for length in lengths]
    archives += [head + varint.encode(length) + flood for length in lengths[1:]]
    archives += [prefix + b"\xff" * count + b"\x01" + flood for prefix in (b"", head) for count in (8, 9, 10, 1000)]
    digests = [b"\x01\x55\x12" + varint.encode(length) for length in (2**20, 2**32, HUGE)]
    names = [
        b"\x01\x55\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x01\x55\x12\x00",
        b"\x12\x20",
        b"\x01",
        b"\x01\x55",
        b"",
    ]
    names += [b"\x00", b"\x02\x55\x12\x20", b"\x01" * 9, b"\xff" * 20, b"\x01\x55\x00\x81\x01" + bytes(129)]
    archives += [head + delimited(name + bytes(20)) + flood for name in (*digests, *names)]
    archives += [head + delimited(name) for name in (*digests, *names)]
    archives += [delimited(b"\x9b" + b"\xff" * 8) + flood, delimited(b"\x81" * 2000) + flood, delimited(b"") + flood]
    archives += [header_of({"roots": [LEAF] * 30_000, "version": 1})]
    archives += [version_2(flood, size=size, offset=offset) for size in (0, HUGE) for offset in (0, 51, HUGE)]
    return archives


def test_A54_malformed_archives_are_errors_in_bounded_memory() -> None:
    archives = hostile_archives()
    assert len(archives) >= 50
    for archive in archives:
        pieces = [archive[start : start + 65536] for start in range(0, len(archive), 65536)]
        tracemalloc.start()
        try:
            events = read(pieces)
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()
        assert isinstance(events[-1], str)


def test_A54_an_endless_archive_is_read_in_the_memory_of_one_section() -> None:
    data = random.Random(54).randbytes(2**20)
    block = section(Cid.of(data), data)
    reader = CarReader()
    reader.receive_data(header([]))
    drain(reader)
    tracemalloc.start()
    try:
        for _ in range(40):
            for start in range(0, len(block), 2**16):
                reader.receive_data(block[start : start + 2**16])
                while reader.next_event():
                    pass
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()


def test_data_that_is_given_without_fetching_events_is_refused() -> None:
    reader = CarReader()
    reader.receive_data(archive_of(b"leaf"))
    reader.receive_data(bytes(SECTION_MAX + 10))
    with pytest.raises(LocalProtocolError):
        reader.receive_data(b"x")


def test_data_after_the_end_is_refused() -> None:
    reader = CarReader()
    reader.receive_data(b"")
    with pytest.raises(LocalProtocolError):
        reader.receive_data(b"x")


def test_an_archive_is_finished_only_when_its_end_was_told_and_all_was_fetched() -> None:
    reader = CarReader()
    reader.receive_data(archive_of(b"leaf"))
    assert len(drain(reader)) == 2
    assert not reader.finished
    reader.receive_data(b"")
    assert drain(reader) == []
    assert reader.finished
