"""Duplicates at the end of a fetch: what an idle peer is asked for although another owes it. Pure."""

from collections.abc import Iterable
from math import inf

from stack.bitswap.session_peer import SessionPeer, SessionWant

SPREAD = 4
"""A want owed only by peers that have brought nothing is asked of so many times as many as have failed or let us wait: where most
lie, all that are known have been asked after a few rounds, and where the first one answers it comes once."""


def wants_to_duplicate(peer: SessionPeer, others: Iterable[SessionPeer], size: int, now: float) -> list[SessionWant]:
    """What others will bring much later than this peer could, the latest first, as long as anything is gained by it.

    `size` is what a block is reckoned with. Each want is asked for twice at most, unless nobody who owes it has brought anything yet.
    """
    late: list[tuple[float, int, SessionWant]] = []
    for want in {want: None for other in others for want in other.outstanding}:
        if peer not in want.told and peer.may_have(want):
            late.append((_time_to_wait(want, peer, now), len(late), want))
    late.sort(key=lambda entry: entry[:2], reverse=True)
    room, count = peer.room(now)
    chosen: list[SessionWant] = []
    for left, _, want in late[: min(count, max(room // size, 1))]:
        if left < peer.parameters.endgame_least or left < 2 * peer.time_for((len(chosen) + 1) * size):
            break
        chosen.append(want)
    return chosen


def _time_to_wait(want: SessionWant, peer: SessionPeer, now: float) -> float:
    """Seconds until this want is reckoned to come if `peer` is not asked as well; 0 when it is not to be asked for again."""
    if any(asker.blocks or asker.arriving for asker in want.askers):
        [asker, *more] = want.askers
        return 0.0 if more else asker.time_left(want, now)
    askers = [asker for asker in want.told if asker in want.askers]
    # Those who have failed count as those who have let us wait for longest.
    place = 0 if peer.blocks else (want.failures + len(askers)) // SPREAD - want.failures
    return askers[place].time_left(want, now) if place >= 0 else inf
