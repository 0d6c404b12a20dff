"""One walk to the members that keep a place: who is asked next, and when it is enough. Source: docs/announce.md, "Lookups"."""

from collections.abc import Callable

from stack.announce.contacts import Candidate, Contacts
from stack.announce.events import AskId
from stack.announce.keyspace import Home
from stack.announce.messages import Response, Status
from stack.announce.params import AnnounceParams
from stack.identity.peer_id import PeerId

Send = Callable[[Candidate], AskId]
"""Asks a member; the id comes back with its answer."""


class Walk:
    """Asks members near a place, two at a time and another when they are slow, until enough of them have answered for it.

    Facts: `answered`, `failed`, `handle_timeout`. Commands: `start`. Getters: `done`, `deadline`, `answers`, `waiting`.
    Times are monotonic but for `wall`.
    """

    __slots__ = (
        "_asked",
        "_contacts",
        "_groups",
        "_params",
        "_send",
        "answers",
        "begun",
        "deadline",
        "done",
        "place",
        "waiting",
        "wanted",
    )

    def __init__(self, place: Home, wanted: int, contacts: Contacts, params: AnnounceParams, send: Send) -> None:
        self.place = place
        self.wanted = wanted
        self.answers = 0
        """Members that have answered for the place."""
        self.waiting: dict[AskId, tuple[Candidate, float]] = {}
        """Asked, and until when they may answer."""
        self.done = False
        self.deadline = 0.0
        """When to look whether another is to be asked."""
        self.begun = 0.0
        self._asked: set[PeerId] = set()
        self._groups: set[str] = set()
        self._contacts = contacts
        self._params = params
        self._send = send

    def start(self, now: float, wall: float) -> None:
        """Ask the first."""
        self.begun = now
        self._ask(self.wanted, now, wall)

    def answered(self, id: AskId, response: Response, now: float, wall: float) -> bool:
        """An answer has come; members it names have been made contacts. True when it was for the place."""
        candidate, _ = self.waiting.pop(id)
        counts = response.status is Status.OK
        if counts:
            self.answers += 1
            if candidate.group is not None:
                self._groups.add(candidate.group)
        self._ask(self.wanted - self.answers - len(self.waiting), now, wall)
        return counts

    def failed(self, id: AskId, now: float, wall: float) -> None:
        """A member did not answer."""
        del self.waiting[id]
        self._ask(self.wanted - self.answers - len(self.waiting), now, wall)

    def handle_timeout(self, now: float, wall: float) -> list[AskId]:
        """Ask another in place of who is slow; returns whose time is over."""
        late = [id for id, (_, until) in self.waiting.items() if until <= now]
        for id in late:
            del self.waiting[id]
        self._ask(max(1, self.wanted - self.answers - len(self.waiting)), now, wall)
        return late

    def _ask(self, count: int, now: float, wall: float) -> None:
        """Ask so many more, in address groups that have not answered as far as there are any."""
        if self.answers >= self.wanted:
            self.done = True
            return
        count = min(count, self._params.asked_max - len(self._asked))
        if count > 0:
            candidates = self._contacts.nearest(self.place, self._asked.__contains__, wall)
            fresh = [c for c in candidates[: 4 * count] if c.group is None or c.group not in self._groups]
            for candidate in (fresh or candidates)[:count]:
                self._asked.add(candidate.peer)
                self.waiting[self._send(candidate)] = (candidate, now + self._params.ask_timeout)
        self.done = not self.waiting
        self.deadline = min([now + self._params.hedge, *(until for _, until in self.waiting.values())])
