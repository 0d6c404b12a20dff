"""Two computers on one cable that know nothing of each other. Needs root, for network namespaces."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.files.fetch import HEAD_START_SECONDS
from tests.acceptance import namespaces
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place

WHY_NOT = namespaces.missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"NOT TESTED: mDNS between computers; {WHY_NOT}")
ANYWHERE = "/ip4/0.0.0.0/tcp/0"
FIND_SECONDS = 2.0


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_place() as folder:
        yield folder


def test_a_cid_alone_is_enough_on_one_link_by_mdns(place: Path) -> None:
    with namespaces.Wire(1000) as wire:
        speaks = {"STACK_MDNS": "1", "STACK_REMEMBER_PEERS": "1"}
        sharer = Machine(place / "a", listen="/ip4/0.0.0.0/tcp/4101", prefix=wire.prefix(wire.left), settings=speaks)
        getter = Machine(place / "c", listen=ANYWHERE, prefix=wire.prefix(wire.right), settings=speaks)
        source = make_file(sharer.folder / "file.bin", MIB, 3)
        with sharer.sharing(source, "--open") as (_, shared):
            got = good(getter.run("get", shared["cid"], "-o", "got.bin"))
        assert sha256(getter.folder / "got.bin") == sha256(source)
        # It is not announced, so neighbours are asked when that is clear; and the start of the program.
        assert got.seconds < FIND_SECONDS + HEAD_START_SECONDS + 1.0

        # and again with mDNS off at either end: nothing is found now but by whom it is remembered
        with sharer.sharing(source, "--open", "--no-mdns") as (_, shared):
            again = good(getter.run("get", shared["cid"], "-o", "again.bin", "--no-mdns"))
        assert again.code == 0
