"""Whether anything has come that was not there before. Pure."""

from collections.abc import Collection

from stack.bitswap.interfaces import PeerReport
from stack.identity.peer_id import PeerId


class Arrivals:
    """What is kept is progress, and so are bytes of what may still be kept: of each peer more than had ever come of it since something was
    kept last. Who brings the beginning of a block again and again brings nothing, and hides nothing of what others bring."""

    def __init__(self) -> None:
        self._kept: tuple[int, ...] = ()
        self._whole = 0
        self._most: dict[PeerId, int] = {}

    def look(self, reports: Collection[PeerReport], *kept: int) -> bool:
        """Whether there was progress since the last look; `kept`: figures that change with what is kept, besides the blocks."""
        arriving = {report.peer: report.arriving for report in reports}
        whole = sum(report.bytes for report in reports)
        before, self._kept = self._kept or (0,) * len(kept), kept
        if kept != before or whole > self._whole:
            self._whole, self._most = whole, arriving
            return True
        more = {peer: size for peer, size in arriving.items() if size > self._most.get(peer, 0)}
        self._most.update(more)
        return bool(more)
