"""Who holds which number at a meeting point: all that it ever learns of a code. Pure."""

from collections import Counter, OrderedDict
from typing import Final

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import group_of
from stack.net.limits import TokenBucket
from stack.protocols.code.messages import Holder, MeetStatus
from stack.protocols.code.words import NUMBER_MAX
from stack.values import dataclass

PLATES_MAX: Final = 1024
"""Numbers that are held, in all: 2 KiB each with the addresses."""
OF_PEER_MAX: Final = 8
OF_GROUP_MAX: Final = 32
"""Of one peer, and of one IPv4 address or IPv6 /56: peer ids cost nothing."""
QUESTION_RATE, QUESTION_BURST = 2.0, 32
"""Questions of one group: somebody who gets a file asks once a second, for some seconds."""
GROUPS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class _Plate:
    holder: Holder
    group: str


class Plates:
    """Requests: `may_ask`, `hold`, `seek`. Fact: `left`. What this node holds itself is in it too, by `hold_own` and `leave_own`."""

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._ours: set[int] = set()
        self._plates: dict[int, _Plate] = {}
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Plates: {len(self._plates)} numbers>"

    def __len__(self) -> int:
        return len(self._plates)

    def may_ask(self, peer: PeerId, address: Multiaddr, now: float) -> bool:
        """One more question of a peer that is connected from this address."""
        group = _group(peer, address)
        bucket = self._buckets.setdefault(group, TokenBucket(QUESTION_RATE, QUESTION_BURST, now))
        self._buckets.move_to_end(group)
        if len(self._buckets) > GROUPS_MAX:
            self._buckets.popitem(last=False)
        return bucket.take(now)

    def hold(self, peer: PeerId, address: Multiaddr, number: int, reached: tuple[Multiaddr, ...]) -> MeetStatus:
        """Tell those who seek it of this peer, until it has `left`."""
        if not 0 < number <= NUMBER_MAX or number in self._plates or number in self._ours:
            return MeetStatus.TAKEN
        group = _group(peer, address)
        groups = Counter(plate.group for plate in self._plates.values())
        of_peer = sum(plate.holder.peer == peer for plate in self._plates.values())
        if len(self._plates) >= PLATES_MAX or of_peer >= OF_PEER_MAX or groups[group] >= OF_GROUP_MAX:
            return MeetStatus.BUSY
        self._plates[number] = _Plate(Holder(peer, reached), group)
        return MeetStatus.OK

    def left(self, number: int) -> None:
        """Who held it does so no longer."""
        self._plates.pop(number, None)

    def hold_own(self, number: int) -> bool:
        """This node gives a code with this number; False where the number is taken here."""
        if number in self._ours or number in self._plates:
            return False
        self._ours.add(number)
        return True

    def leave_own(self, number: int) -> None:
        """It gives it no longer."""
        self._ours.discard(number)

    def seek(self, number: int) -> Holder | None:
        """Who holds it: nobody, this node, or a peer."""
        if number in self._ours:
            return Holder(self._own)
        plate = self._plates.get(number)
        return None if plate is None else plate.holder


def _group(peer: PeerId, address: Multiaddr) -> str:
    """On loopback each peer for itself; all who come through one relay together."""
    return group_of(address) or str(peer)
