"""A short fuzz of the block formats: recorded blocks, mutated at random; only DecodeError may come out."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.dag import dag_cbor, dag_json, dag_pb
from stack.dag.car import CarReader
from stack.errors import DecodeError

VECTORS = Path(__file__).parent.parent / "vectors"
SECONDS = 0.5
"""For each format; more when somebody looks for trouble."""


def recorded_forms(codec: str) -> list[bytes]:
    fixtures = json.loads((VECTORS / "ipld-codec-fixtures.json").read_text())["fixtures"]
    return [bytes.fromhex(record["forms"][codec]["hex"]) for record in fixtures if codec in record["forms"]]


def mutated(source: random.Random, seeds: list[bytes]) -> bytes:
    """One seed with a few bytes changed, cut out, doubled, or replaced by a part of another."""
    data = bytearray(source.choice(seeds)[:4096])
    for _ in range(source.randrange(1, 5)):
        start = source.randrange(len(data) + 1)
        stop = min(len(data), start + source.randrange(1, 9))
        other = source.choice(seeds)
        match source.randrange(5):
            case 0:
                data[start:stop] = source.randbytes(stop - start)
            case 1:
                del data[start:stop]
            case 2:
                data[start:start] = data[start:stop]
            case 3:
                data[start:stop] = other[start : start + 64]
            case 4:
                data[start:stop] = source.choice((b"\xff" * 9, b"\x80" * 4, b"\x00", b"\x7f\xff\xff\xff"))
    return bytes(data)


def read_archive(data: bytes) -> None:
    reader = CarReader()
    for piece in (data[:100], data[100:], b"") if len(data) > 100 else (data, b""):
        reader.receive_data(piece)
        while reader.next_event() is not None:
            pass


def dag_pb_there_and_back(data: bytes) -> None:
    canonical = dag_pb.encode(dag_pb.decode(data))
    assert dag_pb.encode(dag_pb.decode(canonical)) == canonical


def dag_cbor_there_and_back(data: bytes) -> None:
    assert dag_cbor.encode(dag_cbor.decode(data)) == data


def dag_json_there_and_back(data: bytes) -> None:
    canonical = dag_json.encode(dag_json.decode(data))
    assert dag_json.encode(dag_json.decode(canonical)) == canonical


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("dag-pb", dag_pb_there_and_back),
        ("dag-cbor", dag_cbor_there_and_back),
        ("dag-json", dag_json_there_and_back),
        ("car", read_archive),
    ],
)
def test_mutated_vectors_are_read_or_refused(name: str, target: Callable[[bytes], None]) -> None:
    if name == "car":
        seeds = [path.read_bytes() for path in sorted((VECTORS / "car").glob("*.car"))]
    else:
        seeds = recorded_forms(name)
    deadline = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < deadline:
        data = mutated(random.Random(number), seeds)
        try:
            target(data)
        except DecodeError:
            pass
        except Exception as error:  # whatever it is: said with the bytes that caused it
            raise AssertionError(f"{name}, mutation {number}: {data.hex()}") from error
        number += 1
    assert number > 10
