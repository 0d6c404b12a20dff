"""Duplicates at the end of a fetch: what an idle peer is asked for although another owes it. Pure."""

from collections.abc import Iterable
from math import inf

from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_want import SessionWant

SPREAD = 4
"""A want owed only by peers that have brought nothing is asked of so many times as many as have failed or let us wait: where most
lie, all that are known have been asked after a few rounds, and where the first one answers it comes once."""


def fastest_first(idle: Iterable[SessionPeer]) -> list[SessionPeer]:
    """In which order peers that have time are to be given something: who has brought nothing comes last."""
    return sorted(idle, key=lambda peer: (not peer.blocks, peer.misses, -(peer.rate or 0.0)))


def wants_to_duplicate(peer: SessionPeer, others: Iterable[SessionPeer], size: int, now: float) -> list[SessionWant]:
    """What others will bring much later than this peer could, the latest first, as long as anything is gained by it.

    `size` is what a block is reckoned with. Whoever is asked must be twice as fast as the best of those who owe it, so each want
    is asked for a few times at most, however slowly it drips.
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
    """Seconds until this want is reckoned to come if `peer` is not asked as well."""
    bringing = [asker for asker in want.askers if asker.blocks or asker.arriving]
    soonest = min((asker.time_left(want, now) for asker in bringing), default=inf)
    if bringing and peer.blocks:
        return soonest
    # Of those who have brought nothing so many are asked. Who creeps counts as one that has failed, and those who have failed
    # as those who have let us wait for longest.
    waiting = [asker for asker in want.told if asker in want.askers and asker not in bringing]
    failed = want.failures + len(bringing)
    place = 0 if peer.blocks else (failed + len(waiting)) // SPREAD - failed
    return min(soonest, waiting[place].time_left(want, now) if place >= 0 else inf)
