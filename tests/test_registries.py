"""Every row of every table resolves; the conformance suite of its kind runs on it where that suite is (tests/<room>)."""

from importlib import import_module

import pytest

TABLES = {
    "stack.transports": "TRANSPORTS",
    "stack.security": "SECURITY",
    "stack.muxers": "MUXERS",
    "stack.blocks": "STORES",
    "stack.protocols": "SERVICES",
    "stack.dag": "CODECS",
    "stack.dag.unixfs.chunkers": "CHUNKERS",
    "stack.cli": "COMMANDS",
}


@pytest.mark.parametrize("module", sorted(TABLES))
def test_every_row_names_something_that_exists(module: str) -> None:
    table = getattr(import_module(module), TABLES[module])
    assert table
    for name, row in table.items():
        if isinstance(row, str):
            home, _, attribute = row.partition(":")
            assert getattr(import_module(home), attribute) is not None, f"{module}: {name}"
        else:
            assert row is not None, f"{module}: {name}"
