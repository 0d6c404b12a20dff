"""What a session tells of a peer, for tests of those who go by it."""

from stack.bitswap.interfaces import PeerReport
from tests.net.identities import peer


def report(number: int = 1, *, whole: int = 0, arriving: int = 0) -> PeerReport:
    return PeerReport(
        peer=peer(number),
        blocks=whole // 100,
        bytes=whole,
        arriving=arriving,
        duplicate_bytes=0,
        wrong_blocks=0,
        rate=0.0,
        stalled=False,
        dropped=None,
    )
