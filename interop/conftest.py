"""Peers are built from their registries; where a machine lacks the language of one, its tests say so and are skipped.

In CI (CI=true) nothing that needs Go is skipped for want of it: without Go, or finished peers, nothing begins.
"""

import os
import shutil
from pathlib import Path

import pytest

NEEDS = {"test_kubo": ("STACK_KUBO", "go")}
"""How the name of a file of tests begins, the variable that names a finished peer, and what builds one."""


IN_CI = ("STACK_KUBO", "STACK_PEER_GO")
"""Finished peers that stand in for Go."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI") == "true" and shutil.which("go") is None and not all(map(os.environ.get, IN_CI)):
        raise pytest.UsageError(
            f"there is no go on this machine, and no {' and '.join(IN_CI)}: CI must run Kubo and go-libp2p"
        )
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
