"""Handlers of requests about fetches that run, wait to go on, or have ended."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import anyio

from stack.blocks.interfaces import PinKind
from stack.blocks.store import DiskStore
from stack.errors import FetchError, Refused
from stack.files.events import FetchProgress
from stack.files.jobs import Job, JobState
from stack.files.target import part_path
from stack.node.api import Fetch, JobInfo, JobRemoved, ListJobs, PauseJobs, RemoveJob, ResumeJobs
from stack.node.handlers.files import go_on
from stack.node.handlers.going_on import job_options, request_of, resume_command, source_of
from stack.node.interfaces import Handled

ENDED = frozenset({JobState.DONE, JobState.FAILED})
LISTED_SECONDS = 30 * 24 * 3600.0
LISTED_MAX = 100
"""Jobs that are done or have failed are listed for so long after their end, and the latest of so many; what waits to go on always."""

BEGIN_SECONDS = 5.0
"""A job that is resumed runs within this time, unless the disk or a peer that is asked for a name is slow; then it does later."""


async def list_jobs(node: Handled, request: ListJobs) -> tuple[JobInfo, ...]:
    """All that run or wait to go on, and the latest of those that have ended."""
    jobs = await node.jobs.jobs()
    ended = sorted((job for job in jobs if job.state in ENDED), key=_stopped_at, reverse=True)[:LISTED_MAX]
    recent = {job.id for job in ended if time.time() - _stopped_at(job) < LISTED_SECONDS}
    return tuple(_job_info(node, job) for job in jobs if job.state not in ENDED or job.id in recent)


def _stopped_at(job: Job) -> float:
    return job.since if job.ended is None else job.ended


def _job_info(node: Handled, job: Job) -> JobInfo:
    running = node.running.get(job.id)
    latest = running.fetch.latest if running is not None else None
    if running is None:
        rate = job.received / job.seconds if job.seconds > 0 else 0.0
    else:
        rate = latest.rate if isinstance(latest, FetchProgress) else 0.0
    return JobInfo(
        id=job.id,
        cid=job.root,
        name=job.name,
        target=str(job.target),
        bytes_done=max(job.bytes_done, running.fetch.bytes_done) if running is not None else job.bytes_done,
        bytes_total=running.fetch.bytes_total or job.bytes_total if running is not None else job.bytes_total,
        state=job.state.value,
        error=job.error,
        command=resume_command(job),
        since=job.since,
        ended=job.ended,
        rate=rate,
        waiting=None if isinstance(latest, FetchProgress) else latest,
    )


def resume_detached(node: Handled, jobs: Sequence[Job]) -> None:
    """A daemon goes on with what was handed to it, and was cut off by its end."""
    for job in jobs:
        if job.state is JobState.INTERRUPTED and (request := request_of(job)) is not None and request.detach:
            node.tasks.start(go_on, node, request, anyio.Event().set, owner="a fetch of its own")


def _named(jobs: Sequence[Job], ids: Collection[int]) -> list[Job]:
    """Raises FetchError."""
    for id_ in ids:
        if id_ not in [job.id for job in jobs]:
            raise FetchError(f"there is no job {id_}; `stack jobs` lists them")
    return [job for job in jobs if job.id in ids]


async def pause_jobs(node: Handled, request: PauseJobs) -> tuple[JobInfo, ...]:
    """Stop jobs, and see that nobody goes on with them unasked."""
    jobs = await node.jobs.jobs()
    chosen = _named(jobs, request.ids)
    for job in chosen:
        if job.state in ENDED:
            raise Refused(f"job {job.id} is {job.state.value}; only what runs or waits to go on can be paused")
    if not request.ids:
        chosen = [job for job in jobs if job.state is JobState.RUNNING or _would_go_on(job)]
    paused = []
    for job in chosen:
        # Written down first: whatever happens from here on, it stays so.
        if await node.jobs.pause_job(job.id):
            if (running := node.running.get(job.id)) is not None:
                await running.stop(f"job {job.id} was paused; `stack jobs resume {job.id}` goes on with it")
            paused.append(job.id)
        elif job.state is JobState.PAUSED:
            paused.append(job.id)
    return await _as_now(node, paused)


def _would_go_on(job: Job) -> bool:
    request = request_of(job)
    return job.state is JobState.INTERRUPTED and request is not None and request.detach


async def resume_jobs(node: Handled, request: ResumeJobs) -> tuple[JobInfo, ...]:
    """Go on with jobs, here where this node lasts, else when a daemon starts."""
    jobs = await node.jobs.jobs()
    chosen = _named(jobs, request.ids) if request.ids else [job for job in jobs if job.state is JobState.PAUSED]
    wanted: list[tuple[Job, Fetch]] = []
    for job in chosen:
        if job.state is JobState.DONE:
            raise Refused(f"job {job.id} is done")
        asked = request_of(job)
        if asked is None:
            raise Refused(f"job {job.id} is of an older version; to go on: {resume_command(job)}")
        if job.state is not JobState.RUNNING:
            # Who stayed to serve it when it is complete has gone since.
            seed = asked.seed and not asked.owner
            wanted.append(
                (job, replace(asked, detach=True, target=job.target, into_directory=False, seed=seed, owner=""))
            )
    for job, asked in wanted:
        await node.jobs.release_job(job.id, job_options(asked, source_of(job)))
        if node.config.role == "daemon":
            begun = anyio.Event()
            node.tasks.start(go_on, node, asked, begun.set, owner="a fetch of its own")
            with anyio.move_on_after(BEGIN_SECONDS):
                await begun.wait()
    return await _as_now(node, [job.id for job in chosen])


async def _as_now(node: Handled, ids: Collection[int]) -> tuple[JobInfo, ...]:
    return tuple(_job_info(node, job) for job in await node.jobs.jobs() if job.id in ids)


async def remove_job(node: Handled, request: RemoveJob) -> JobRemoved:
    """Cancel a job if it runs here, forget it, and let go of what it kept."""
    before = next((job for job in await node.jobs.jobs() if job.id == request.id), None)
    was = _job_info(node, before) if before is not None else None
    running = node.running.get(request.id)
    if running is not None:
        await running.stop(f"job {request.id} was removed")
    jobs = await node.jobs.jobs()
    job = next((job for job in jobs if job.id == request.id), None)
    if job is None or not await node.jobs.remove_job(job.id):
        return JobRemoved()
    if job.state is JobState.DONE:
        return JobRemoved(count=1, job=was)
    needed = [other.root for other in jobs if other.id != job.id] + [share.root for share in await node.jobs.shares()]
    if job.root not in needed and isinstance(node.store, DiskStore):
        await node.store.remove_pin(job.root, kind=PinKind.SHARE)
    return JobRemoved(count=1, job=was, kept=await node.aside.ask(_what_is_left, job.target, otherwise=None))


def _what_is_left(target: Path) -> Path | None:
    part = part_path(target)
    return part if part.exists() else target if target.is_dir() else None
