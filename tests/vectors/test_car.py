"""CAR archives of go-car and Kubo, good and damaged (car/index.json)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from stack.dag.car import BlockRead, CarReader, HeaderRead, header, section
from stack.errors import DecodeError

HERE = Path(__file__).parent / "car"
RECORDS = json.loads((HERE / "index.json").read_text())["files"]
GOOD = [record for record in RECORDS if record["must"] == "ok"]
BAD = [record for record in RECORDS if record["must"] == "error"]
Record = dict[str, Any]


def label(record: Record) -> str:
    return str(record["file"])


def read(archive: bytes, piece: int) -> tuple[HeaderRead, list[BlockRead], CarReader]:
    """Everything in an archive, given in pieces of `piece` bytes."""
    reader = CarReader()
    events: list[HeaderRead | BlockRead] = []
    for data in (*(archive[start : start + piece] for start in range(0, len(archive), piece)), b""):
        reader.receive_data(data)
        while (event := reader.next_event()) is not None:
            events.append(event)
    head, *rest = events
    assert isinstance(head, HeaderRead)
    return head, [event for event in rest if isinstance(event, BlockRead)], reader


def test_all_records_are_here() -> None:
    assert (len(GOOD), len(BAD)) == (22, 29)
    assert {record["file"] for record in RECORDS} == {path.name for path in HERE.glob("*.car")}


@pytest.mark.parametrize("piece", [1, 37, 1 << 20])
@pytest.mark.parametrize("record", GOOD, ids=label)
def test_a_good_archive_gives_its_roots_and_blocks_in_order(record: Record, piece: int) -> None:
    archive = (HERE / record["file"]).read_bytes()
    assert hashlib.sha256(archive).hexdigest() == record["sha256"]
    head, blocks, reader = read(archive, piece)
    assert reader.finished
    assert head.version == record["version"]
    assert [str(root) for root in head.roots] == record["roots"]
    found = [(str(b.cid), len(b.data), hashlib.sha256(b.data).hexdigest()) for b in blocks]
    assert found == [(b["cid"], b["size"], b["sha256"]) for b in record["blocks"]]
    assert all(archive[b.offset : b.offset + len(b.data)] == b.data for b in blocks)


@pytest.mark.parametrize("record", [record for record in GOOD if record["version"] == 1], ids=label)
def test_what_we_write_is_byte_for_byte_what_was_written(record: Record) -> None:
    archive = (HERE / record["file"]).read_bytes()
    head, blocks, _ = read(archive, 1 << 20)
    assert header(head.roots) + b"".join(section(block.cid, block.data) for block in blocks) == archive


@pytest.mark.parametrize("piece", [1, 1 << 20])
@pytest.mark.parametrize("record", BAD, ids=label)
def test_a_bad_archive_is_refused_before_its_end(record: Record, piece: int) -> None:
    with pytest.raises(DecodeError):
        read((HERE / record["file"]).read_bytes(), piece)


@pytest.mark.parametrize("record", BAD, ids=label)
def test_blocks_before_the_damage_are_still_given(record: Record) -> None:
    reader = CarReader()
    blocks = 0
    reader.receive_data((HERE / record["file"]).read_bytes())
    with pytest.raises(DecodeError):
        while event := reader.next_event():
            blocks += isinstance(event, BlockRead)
        reader.receive_data(b"")
        reader.next_event()
    assert blocks == record["blocks_before_the_error"]
    with pytest.raises(DecodeError):
        reader.next_event()  # the same error again
