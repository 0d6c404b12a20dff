"""Records of ours on their way to members that keep their shards. Source: docs/announce.md, "Handing in"."""

import math
from functools import partial

from stack.announce.contacts import Candidate
from stack.announce.events import AskId, RecordHandedIn
from stack.announce.keyspace import covers
from stack.announce.messages import Kind, Request, Response
from stack.announce.own import NewRecord
from stack.announce.state import State
from stack.announce.walk import Walk


class _Job:
    """One record, and the places where it is still to be known."""

    __slots__ = ("places", "record", "retry_after", "retry_at", "walk")

    def __init__(self, record: NewRecord, retry_after: float) -> None:
        self.record = record
        self.places = list(record.places)
        self.walk: Walk | None = None
        self.retry_at = 0.0
        self.retry_after = retry_after


class Handing:
    """Commands: `hand_in`. Facts: `members_changed`, `answered`, `handle_timeout`. Getters: `deadline`, `waiting`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._jobs: dict[int, _Job] = {}
        """By shard: a newer record takes the place of one that is under way."""
        self._asked: dict[AskId, _Job] = {}

    @property
    def waiting(self) -> int:
        """Records that nobody has taken yet."""
        return len(self._jobs)

    @property
    def deadline(self) -> float:
        """When `handle_timeout` wants to be called."""
        running = [job.walk.deadline for job in self._jobs.values() if job.walk is not None]
        if len(running) < self._state.params.jobs:
            running += [job.retry_at for job in self._jobs.values() if job.walk is None]
        return min(running, default=math.inf)

    def hand_in(self, record: NewRecord, now: float) -> None:
        """See to it that members have a record."""
        old = self._jobs.pop(record.shard, None)
        if old is not None:
            self._drop(old)
        job = self._jobs[record.shard] = _Job(record, self._state.params.retry_first)
        job.retry_at = now

    def members_changed(self, now: float) -> None:
        """Somebody has come who can be asked: what found nobody tries again."""
        for job in self._jobs.values():
            job.retry_at = min(job.retry_at, now)
            job.retry_after = self._state.params.retry_first

    def answered(self, id: AskId, response: Response | None, now: float, wall: float) -> None:
        """See Asker."""
        job = self._asked.pop(id, None)
        if job is None or job.walk is None:
            return
        candidate, _ = job.walk.waiting[id]
        if response is None:
            job.walk.failed(id, now, wall)
        elif job.walk.answered(id, response, now, wall) and response.shard is not None:
            if self._state.trace is not None:
                self._state.trace(RecordHandedIn(peer=candidate.peer, shard=response.shard))
            here = job.walk.place
            shard = response.shard
            job.places = [place for place in job.places if place == here or not covers(shard, place)]
        self._go_on(job, now, wall)

    def handle_timeout(self, now: float, wall: float) -> None:
        """Begin what is due, ask others where members are slow."""
        for job in list(self._jobs.values()):
            if job.walk is not None and job.walk.deadline <= now:
                for id in job.walk.handle_timeout(now, wall):
                    self._asked.pop(id, None)
                    self._state.stop_asking(id)
                self._go_on(job, now, wall)
        running = sum(job.walk is not None for job in self._jobs.values())
        for job in list(self._jobs.values()):
            if running >= self._state.params.jobs:
                return
            if job.walk is None and job.retry_at <= now:
                running += 1
                self._begin(job, now, wall)

    def _begin(self, job: _Job, now: float, wall: float) -> None:
        params = self._state.params
        job.walk = Walk(job.places[0], params.copies, self._state.contacts, params, partial(self._send, job))
        job.walk.start(now, wall)
        self._go_on(job, now, wall)

    def _send(self, job: _Job, candidate: Candidate) -> AskId:
        id = self._state.ask_candidate(candidate, Request(kind=Kind.PUT, record=job.record.data), self)
        self._asked[id] = job
        return id

    def _go_on(self, job: _Job, now: float, wall: float) -> None:
        walk = job.walk
        if walk is None or not walk.done:
            return
        for id in walk.waiting:
            self._asked.pop(id, None)
        job.walk = None
        if walk.answers:
            job.places.remove(walk.place)
            job.retry_after = self._state.params.retry_first
            job.retry_at = now
            if not job.places:
                del self._jobs[job.record.shard]
        else:
            job.retry_at = now + job.retry_after * (0.5 + self._state.random.random())
            job.retry_after = min(2 * job.retry_after, self._state.params.retry_max)

    def _drop(self, job: _Job) -> None:
        if job.walk is not None:
            for id in job.walk.waiting:
                self._asked.pop(id, None)
                self._state.stop_asking(id)
