"""The upload of one simulated node: messages of blocks go a piece at a time, a piece for each receiver in turn, as the node's own
throttle does it (`sansio.pace`)."""

from collections import deque
from collections.abc import Callable

from stack.sansio.pace import PIECE_MAX, PIECE_MIN, PIECE_SECONDS
from tests.sim.simnet import SimNet

Piece = Callable[[int, int, bool], None]
"""Receiver, bytes, whether it is the last of a message."""


class Line:
    """Commands: `send`, `forget`."""

    def __init__(self, net: SimNet[int], rate: float, piece: Piece) -> None:
        self._net = net
        self._rate = rate
        self._piece_size = max(PIECE_MIN, min(PIECE_MAX, int(rate * PIECE_SECONDS)))
        self._send_piece = piece
        self._queues: dict[int, deque[int]] = {}
        """Bytes left of each message for each receiver; who has had its turn goes to the end."""
        self._busy = False

    def send(self, receiver: int, size: int) -> None:
        """One more message."""
        self._queues.setdefault(receiver, deque()).append(size)
        if not self._busy:
            self._busy = True
            self._turn()

    def forget(self, receiver: int) -> None:
        """Nothing more goes there."""
        self._queues.pop(receiver, None)

    def _turn(self) -> None:
        if not self._queues:
            self._busy = False
            return
        receiver = next(iter(self._queues))
        queue = self._queues.pop(receiver)
        size = min(queue[0], self._piece_size)
        queue[0] -= size
        last = queue[0] == 0
        if last:
            queue.popleft()
        if queue:
            self._queues[receiver] = queue
        self._net.call_later(size / self._rate, self._gone, receiver, size, last)

    def _gone(self, receiver: int, size: int, last: bool) -> None:
        self._send_piece(receiver, size, last)
        self._turn()
