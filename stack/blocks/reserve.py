"""A piece of the disk, kept for the day on which it is full: then a home can still be opened, read, and collected."""

from contextlib import suppress
from pathlib import Path

from stack.blocks import disk

NAME = "reserve"
BYTES = 1 << 20
"""The log of the index, and the small databases of a node, grow by less when something is deleted."""
FULL_BYTES = 256 << 10
"""With less than this left a disk is full."""
AMPLE_BYTES = 64 << 20
"""With less than this left nothing is set aside."""


class Reserve:
    """Commands: `give_up`, `set_aside`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def give_up(self) -> None:
        """Where the disk is full, the index may have it now."""
        with suppress(OSError):
            if disk.free_bytes(self._path.parent) < FULL_BYTES:
                self._path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Have it, if there is room enough; without it a store does as well."""
        with suppress(OSError):
            if not self._path.exists() and disk.free_bytes(self._path.parent) >= AMPLE_BYTES:
                self._path.touch(mode=0o600, exist_ok=False)
                self._path.write_bytes(bytes(BYTES))
