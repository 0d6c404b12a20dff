"""Handlers of requests about fetches that run or were interrupted."""

import json
import shlex
from pathlib import Path

from stack.blocks.interfaces import PinKind
from stack.blocks.store import DiskStore
from stack.files.jobs import Job, JobState
from stack.files.target import part_path
from stack.node.api import JobInfo, JobRemoved, ListJobs, RemoveJob
from stack.node.interfaces import Handled


async def list_jobs(node: Handled, request: ListJobs) -> tuple[JobInfo, ...]:
    """All fetches."""
    return tuple(_job_info(job) for job in await node.jobs.jobs())


def _job_info(job: Job) -> JobInfo:
    return JobInfo(
        id=job.id,
        cid=job.root,
        name=job.name,
        target=str(job.target),
        bytes_done=job.bytes_done,
        bytes_total=job.bytes_total,
        state=job.state.value,
        error=job.error,
        command=resume_command(job),
    )


def resume_command(job: Job) -> str:
    """What a user types to go on with a job."""
    try:
        options = json.loads(job.options)
        source = str(options.get("source", job.root.text))
        given = [str(address) for address in options.get("from", ())]
        flags = [str(flag) for flag in options.get("flags", ())]
    except (ValueError, AttributeError, TypeError):
        source, given, flags = job.root.text, [], []
    words = ["stack", "get", source, "-o", str(job.target), *flags]
    for address in given:
        words += ["--from", address]
    return shlex.join(words)


async def remove_job(node: Handled, request: RemoveJob) -> JobRemoved:
    """Cancel a job if it runs here, forget it, and let go of what it kept."""
    running = node.running.pop(request.id, None)
    if running is not None:
        scope, ended = running
        scope.cancel()
        await ended.wait()
    jobs = await node.jobs.jobs()
    job = next((job for job in jobs if job.id == request.id), None)
    if job is None or not await node.jobs.remove_job(job.id):
        return JobRemoved()
    if job.state is JobState.DONE:
        return JobRemoved(count=1)
    needed = [other.root for other in jobs if other.id != job.id] + [share.root for share in await node.jobs.shares()]
    if job.root not in needed and isinstance(node.blocks, DiskStore):
        await node.blocks.remove_pin(job.root, kind=PinKind.SHARE)
    return JobRemoved(count=1, kept=await node.aside.ask(_what_is_left, job.target, otherwise=None))


def _what_is_left(target: Path) -> Path | None:
    return next((path for path in (part_path(target), target) if path.exists()), None)
