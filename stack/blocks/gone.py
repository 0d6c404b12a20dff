"""Files in place that were found to be no longer what was shared while the index could not be written: full, busy, or read-only. What
reads need not wait for is noted here, and goes into the index when that can be had. Pure."""

from enum import Enum

from stack.blocks.interfaces import Segment, SegmentId

NOTED_MAX = 4096
"""The oldest note goes: such a file is found out once more."""

AGAIN_SECONDS = 10.0
"""Between two attempts to write down what is noted."""


class Fault(Enum):
    """Why a place where a block was said to lie did not give it."""

    GONE = "gone"
    """There is no readable file of that name."""
    CHANGED = "changed"
    """The file is not the one that was indexed, by its size or mtime."""
    WRONG_BYTES = "wrong bytes"
    """The bytes do not hash to the block's name."""


class Gone:
    """Facts: `found`, `recorded`. Getters: `covers`, `due`. From worker threads, as `Locations`."""

    def __init__(self) -> None:
        self._noted: dict[SegmentId, tuple[Segment, Fault]] = {}
        self._again_at = 0.0

    def found(self, segment: Segment, fault: Fault, now: float) -> bool:
        """It counts as absent from now on; whether that is news."""
        if segment.id in self._noted:
            return False
        if len(self._noted) >= NOTED_MAX:
            self._noted.pop(next(iter(self._noted)), None)
        self._noted[segment.id] = segment, fault
        self._again_at = now + AGAIN_SECONDS
        return True

    def recorded(self, segment: SegmentId) -> None:
        """The index says it, or has had it replaced."""
        self._noted.pop(segment, None)

    def covers(self, segment: SegmentId) -> bool:
        """Whether it counts as absent, whatever the index says."""
        return segment in self._noted

    def due(self, now: float) -> list[tuple[Segment, Fault]]:
        """What is to be written down now."""
        if not self._noted or now < self._again_at:
            return []
        self._again_at = now + AGAIN_SECONDS
        return list(self._noted.values())
