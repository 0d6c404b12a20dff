"""Whole nodes do random things over bad lines: STACK_LAB_SEEDS seeds here, a thousand by `tox -e lab`."""

import os
import subprocess
import sys

import pytest

from tests.lab import switch

SEEDS = int(os.environ.get("STACK_LAB_SEEDS", "0"))


@pytest.mark.timeout(1200)
def test_nodes_hold_over_bad_lines() -> None:
    if not SEEDS:
        pytest.skip("NOT TESTED: whole nodes over bad lines; STACK_LAB_SEEDS says how many seeds to run")
    if (reason := switch.missing()) is not None:
        pytest.skip(f"NOT TESTED: whole nodes over bad lines; it {reason}")
    command = [sys.executable, "-m", "tests.lab.scenario", f"0-{SEEDS - 1}", "--jobs", str(2 * (os.cpu_count() or 1))]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
