"""Small and read-only disks for tests: memory file systems that are gone afterwards."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.kit import MIB


@contextmanager
def small_disk(at: Path, size: int = 16 * MIB) -> Iterator[Path]:
    """A disk of `size` bytes mounted at `at`. The test is skipped, loudly, where none can be mounted."""
    at.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "stack-test", str(at)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a full or read-only disk; mounting a small one needs root")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def make_read_only(at: Path) -> None:
    """From now on nothing can be written there."""
    subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)


def fill(at: Path) -> Path:
    """Take all the space that is left; removing the file gives it back."""
    path = at / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(64 * 1024)):
                pass
        except OSError:
            pass  # full, as it should be
    return path
