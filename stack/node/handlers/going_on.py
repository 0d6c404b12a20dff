"""How a fetch is gone on with: what its job's row keeps of the request, and the command that asks for the same."""

import json
import shlex
from pathlib import Path

from stack.errors import StackError
from stack.files.jobs import Job, JobState
from stack.node.api import Fetch
from stack.node.schema import from_tagged, to_tagged


def job_options(request: Fetch, source: str) -> str:
    """What a job's row keeps: `source` as people write it, for the command that goes on with it, and the request itself."""
    return json.dumps({"source": source, "request": to_tagged(request)})


def source_of(job: Job) -> str:
    """What was named, as people write it."""
    return str(_options(job).get("source", job.root.text))


def request_of(job: Job) -> Fetch | None:
    """What was asked for; None of a job of an older version that nobody handed to a daemon."""
    options = _options(job)
    try:
        request = from_tagged(options.get("request") or options.get("detached"), {"Fetch": Fetch})  # type: ignore[arg-type] # JSON
    except StackError:
        return None
    return request if isinstance(request, Fetch) else None


def resume_command(job: Job) -> str:
    """What a user types to go on with a job; empty for one that failed: the same command would fail again."""
    if job.state is JobState.FAILED:
        return ""
    request = request_of(job)
    if request is not None:
        return shlex.join(["stack", "get", source_of(job), *flags_of(request, job.target)])
    options = _options(job)
    words = ["-o", f"{job.target}/." if options.get("contents") else str(job.target)]
    flags, addresses = options.get("flags"), options.get("from")
    words += map(str, flags if isinstance(flags, list) else ())
    for address in addresses if isinstance(addresses, list) else ():
        words += ["--from", str(address)]
    return shlex.join(["stack", "get", source_of(job), *words])


def flags_of(request: Fetch, target: Path) -> list[str]:
    """What `stack get` is to be given for the same request, followed, once it is decided that it goes to `target`."""
    words = ["-o", f"{target}/." if request.contents else str(target)]
    for address in request.providers:
        words += ["--from", str(address)]
    for flag, seconds in (("--timeout", request.timeout), ("--deadline", request.deadline)):
        if seconds is not None:
            words += [flag, f"{seconds:.9f}".rstrip("0").rstrip(".")]
    for flag, patterns in (("--include", request.include), ("--exclude", request.exclude)):
        for pattern in patterns:
            words += [flag, pattern]
    # Without an owner nobody stays to serve it: the home does.
    given = {
        "--unsafe-links": request.unsafe_links,
        "--update": request.update,
        "--delete": request.delete,
        "--dry-run": request.dry_run,
        "--seed": request.seed and bool(request.owner),
        "--keep": request.seed and not request.owner,
        "--no-serve": not request.serve,
    }
    return words + [flag for flag, is_given in given.items() if is_given]


def _options(job: Job) -> dict[str, object]:
    try:
        options = json.loads(job.options)
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}
