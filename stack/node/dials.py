"""What became of the last dial of each peer, for whoever waits for one. Learnt from the trace."""

from collections import OrderedDict

from stack.identity.peer_id import PeerId
from stack.net.addresses import Reach, host_and_port, reach_of
from stack.net.events import DialAttempted, DialOutcome
from stack.trace import TraceEvent
from stack.values import dataclass

PEERS_MAX = 1024
"""The newest are remembered: more than a fetch asks."""


@dataclass(frozen=True, slots=True)
class LastDial:
    """See `stack.files.watch.Dialled`."""

    address: str
    failure: str
    is_loopback: bool = False


class Dials:
    """A trace sink. Getter: `last`."""

    def __init__(self) -> None:
        self._last: OrderedDict[PeerId, LastDial] = OrderedDict()

    def __call__(self, event: TraceEvent) -> None:
        """An attempt has ended, perhaps."""
        if not isinstance(event, DialAttempted) or event.peer is None:
            return
        failure = "" if event.outcome is DialOutcome.CONNECTED else event.reason
        known, is_loopback = self._last.get(event.peer), reach_of(event.address) is Reach.LOOPBACK
        if failure and is_loopback and known is not None and not known.is_loopback:
            return  # what another computer calls itself: that nobody listens there on this one says nothing
        self._last[event.peer] = LastDial(host_and_port(event.address), failure, is_loopback)
        self._last.move_to_end(event.peer)
        while len(self._last) > PEERS_MAX:
            self._last.popitem(last=False)

    def last(self, peer: PeerId) -> LastDial | None:
        """The newest, if there was one."""
        return self._last.get(peer)
