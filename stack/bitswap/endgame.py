"""Duplicates at the end of a fetch: what an idle peer is asked for although another owes it. Pure."""

from collections.abc import Iterable

from stack.bitswap.session_peer import SessionPeer, SessionWant


def wants_to_duplicate(peer: SessionPeer, others: Iterable[SessionPeer], size: int, now: float) -> list[SessionWant]:
    """What others will bring much later than this peer could, the latest first, as long as anything is gained by it.

    `size` is what a block is reckoned with. Each want is asked for twice at most, unless nobody who owes it has brought anything yet.
    """
    late: list[tuple[float, int, SessionWant]] = []
    for other in others:
        for want in other.outstanding:
            if other is _last(want) and peer not in want.told and peer.may_have(want):
                late.append((other.time_left(want, now), len(late), want))
    late.sort(key=lambda entry: entry[:2], reverse=True)
    room, count = peer.room(now)
    chosen: list[SessionWant] = []
    for left, _, want in late[: min(count, max(room // size, 1))]:
        if left < peer.parameters.endgame_least or left < 2 * peer.time_for((len(chosen) + 1) * size):
            break
        chosen.append(want)
    return chosen


def _last(want: SessionWant) -> SessionPeer | None:
    """Who was asked for it last, when it may be asked for once more."""
    unproven = not any(asker.blocks or asker.arriving for asker in want.askers)
    if not unproven and len(want.askers) > 1:
        return None
    return next((peer for peer in reversed(want.told) if peer in want.askers), None)
