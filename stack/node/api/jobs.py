"""Fetches as jobs: what runs, what waits to go on, how the others ended."""

from pathlib import Path

from stack.files.events import WaitingForProvider
from stack.multiformats.cid import Cid
from stack.node.api.interfaces import Ask
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A fetch, now or of the last weeks."""

    id: int
    cid: Cid
    name: str
    target: str
    bytes_done: int
    bytes_total: int
    state: str
    """`running`, `paused`, `interrupted`, `failed`, `done`."""
    error: str | None
    command: str
    """What resumes it; empty where it failed, and would fail again."""
    since: float = 0.0
    """When it was first asked for, in Unix seconds."""
    ended: float | None = None
    """When it last stopped, in Unix seconds; None while it runs."""
    rate: float = 0.0
    """Bytes a second that came from peers: of the last seconds while it runs, else on the average of its last run."""
    waiting: WaitingForProvider | None = None
    """Why nothing comes, where it runs and nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListJobs(Ask[tuple[JobInfo, ...]]):
    """`stack jobs ls`: oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseJobs(Ask[tuple[JobInfo, ...]]):
    """`stack jobs pause ID`: stop it, and do not go on with it until it is resumed, also after a restart. Without ids: all that run, and
    that a daemon would go on with. Answers those that were paused. An id that is none, or of a job that has ended, is an error."""

    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeJobs(Ask[tuple[JobInfo, ...]]):
    """`stack jobs resume ID`: the daemon goes on with it, or will when it starts; one that was interrupted or has failed too. Without
    ids: all that are paused. Answers as they are then: `running`, or `interrupted` where no daemon runs."""

    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRemoved:
    """A job is forgotten; `count` 0 when there was none."""

    count: int = 0
    job: JobInfo | None = None
    """As it was."""
    kept: Path | None = None
    """What an unfinished fetch leaves: the part file, or the folder that was being filled. The same fetch goes on from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveJob(Ask[JobRemoved]):
    """`stack jobs rm ID`: cancel it if it runs, forget it, and no longer keep its root from garbage collection unless it is
    complete. Files stay."""

    id: int
