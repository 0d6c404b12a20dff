"""Every row of STORES does what a store must do."""

from importlib import import_module

import pytest

from stack.blocks import STORES
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.testing.conformance.stores import DirectReadsSuite, PinSuite, ReadsManySuite, StoreSuite
from stack.testing.conformance.stores_in_place import InPlaceSuite


@pytest.mark.anyio
class TestMemoryStore(StoreSuite, DirectReadsSuite, ReadsManySuite, PinSuite):
    store = MemoryStore
    survives = False


@pytest.mark.anyio
class TestDiskStore(StoreSuite, DirectReadsSuite, ReadsManySuite, PinSuite, InPlaceSuite):
    store = DiskStore


def test_every_row_runs_the_suite() -> None:
    rows = {getattr(import_module(row.partition(":")[0]), row.partition(":")[2]) for row in STORES.values()}
    assert rows == {suite.store for suite in (TestMemoryStore, TestDiskStore)}
