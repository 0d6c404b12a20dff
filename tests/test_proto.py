"""The generated code is what `proto/` gives, its names are ours alone, and its readers stand up to hostile bytes."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from tests.flooding import quickest

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "proto").glob("*.proto"))
MODULES = sorted(path.stem.removesuffix("_pb2") for path in (ROOT / "stack" / "pb").glob("*_pb2.py"))


def descriptor(name: str) -> FileDescriptor:
    """What the module of a schema registered."""
    found = importlib.import_module(f"stack.pb.{name}_pb2").DESCRIPTOR
    assert isinstance(found, FileDescriptor)
    return found


def messages() -> list[type[Message]]:
    """The top-level messages of all schemas."""
    return [GetMessageClass(message) for name in MODULES for message in descriptor(name).message_types_by_name.values()]


def test_the_generated_code_is_what_the_schemas_give() -> None:
    pytest.importorskip(
        "grpc_tools", reason="NOT TESTED here: generated code, which `tox -e proto` checks; grpc_tools is missing"
    )
    command = [sys.executable, str(ROOT / "proto" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_schema_has_its_module_and_says_where_it_comes_from() -> None:
    assert NAMES == MODULES
    for name in NAMES:
        header = (ROOT / "proto" / f"{name}.proto").read_text().split("syntax")[0]
        assert "Source:" in header or "Ours" in header, f"{name}.proto does not tell its origin"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_registers_names_that_are_ours_alone(name: str) -> None:
    file = descriptor(name)
    assert (file.name, file.package) == (f"stack/pb/{name}.proto", f"stack.pb.{name}")


def test_all_modules_load_beside_files_of_the_names_that_other_packages_use() -> None:
    pool = descriptor_pool.Default()
    for name in MODULES:
        descriptor(name)
    for taken in ("crypto.pb", "bitswap.pb", "identify.pb", "unixfs.pb", "pb", "record.pb", "dag_pb"):
        with pytest.raises(KeyError):
            pool.FindFileByName(f"{taken}.proto")
        with pytest.raises(KeyError):
            pool.FindMessageTypeByName(f"{taken}.Message")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_does_not_ask_for_the_newest_protobuf(name: str) -> None:
    assert "runtime_version" not in (ROOT / "stack" / "pb" / f"{name}_pb2.py").read_text()


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.DESCRIPTOR.full_name)
@pytest.mark.parametrize(
    "data",
    [
        b"\xf3\x03" * 100_000,
        b"\xf3\x03" * 100_000 + b"\xf4\x03" * 100_000,
        b"\xfa\x03\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xfa\x03" + b"\xff" * 9 + b"\x01",
        b"\xf8\x03" + b"\x80" * 11,
    ],
    ids=["open groups", "nested groups", "length 2**63 - 1", "length 2**64 - 1", "endless varint"],
)
def test_A34_hostile_unknown_fields_are_refused_quickly(message: type[Message], data: bytes) -> None:
    def work() -> None:
        with pytest.raises(DecodeError):
            message.FromString(data)

    assert quickest(work) < 0.05
