"""When a session asks others than those it was told of who has its root. Pure."""

AGAIN_SECONDS = 4.0
"""How often, while nothing comes, connected peers are asked anew: one may have got it meanwhile."""


class Seeking:
    """Fact and decision in one: `look`. Getter: `active`."""

    __slots__ = ("_again_at", "_patience", "_quiet_since", "_received", "active")

    def __init__(self, patience: float | None, now: float) -> None:
        """Others are asked after `patience` seconds in which nothing came: at once with 0, never with None."""
        self._patience = patience
        self._received = 0
        self._quiet_since = now
        self._again_at = now + AGAIN_SECONDS
        self.active = patience == 0
        """They are asked, from now on to the end of the session."""

    def look(self, now: float, *, wanted: bool, hopeful: bool, received: int) -> bool:
        """Whether to ask all that are connected now. `hopeful`: one of those known may still bring something; `received`: how
        many blocks have come so far."""
        if not wanted or received != self._received:
            self._received, self._quiet_since = received, now
        if self._patience is None or not wanted:
            return False
        quiet = now - self._quiet_since
        if not self.active:
            due = not hopeful or quiet >= self._patience
        else:
            due = quiet >= AGAIN_SECONDS and now >= self._again_at
        if due:
            self.active = True
            self._again_at = now + AGAIN_SECONDS
        return due
