"""Duplicates at the end of a fetch: what an idle peer is asked for although another owes it. Pure."""

from collections.abc import Iterable

from stack.bitswap.session_peer import SessionPeer, SessionWant


def wants_to_duplicate(peer: SessionPeer, others: Iterable[SessionPeer], size: int, now: float) -> list[SessionWant]:
    """What others will bring much later than this peer could, the latest first, as long as anything is gained by it.

    `size` is what a block is reckoned with. Each want is asked for twice at most.
    """
    late: list[tuple[float, int, SessionWant]] = []
    for other in others:
        for want in other.outstanding:
            if len(want.askers) == 1 and peer not in want.told and peer.may_have(want):
                late.append((other.time_left(want, now), len(late), want))
    late.sort(key=lambda entry: entry[:2], reverse=True)
    room, count = peer.room(now)
    chosen: list[SessionWant] = []
    for left, _, want in late[: min(count, max(room // size, 1))]:
        if left < peer.parameters.endgame_least or left < 2 * peer.time_for((len(chosen) + 1) * size):
            break
        chosen.append(want)
    return chosen
