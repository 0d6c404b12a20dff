"""What happened in a run, as bytes: two runs of one seed are compared by it."""

import hashlib
import struct

_HEAD = struct.Struct(">dIII")


class RunTrace:
    """A line for everything that is sent: when, who, to whom, how long, what. Kept as a hash, or whole.

    Commands: `note`. Getters: `digest`, `lines`, `len`.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._hash = hashlib.sha256()
        self._count = 0
        self.lines: list[bytes] | None = [] if whole else None
        """All lines, for finding where two runs part; None: only their hash is kept."""

    def __len__(self) -> int:
        return self._count

    def note(self, now: float, sender: int, receiver: int, data: bytes) -> None:
        """Something has been sent, or happened to `receiver`."""
        line = _HEAD.pack(now, sender, receiver, len(data)) + data
        self._hash.update(line)
        self._count += 1
        if self.lines is not None:
            self.lines.append(line)

    def digest(self) -> str:
        """Of all lines so far."""
        return self._hash.hexdigest()
