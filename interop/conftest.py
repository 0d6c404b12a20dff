"""Peers are built from their registries; where a machine lacks the language of one, its tests say so and are skipped."""

import os
import shutil
from pathlib import Path

import pytest

NEEDS = {"test_kubo": ("STACK_KUBO", "go")}
"""How the name of a file of tests begins, the variable that names a finished peer, and what builds one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for begin, (variable, program) in NEEDS.items():
            if (
                Path(item.path).name.startswith(begin)
                and not os.environ.get(variable)
                and shutil.which(program) is None
            ):
                item.add_marker(
                    pytest.mark.skip(
                        f"NOT TESTED: {Path(item.path).name}; there is no {program} on this machine to build the peer with"
                    )
                )
