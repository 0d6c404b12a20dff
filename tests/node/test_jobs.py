"""Fetches as jobs: listed, handed to a node that runs on, cancelled, forgotten, resumed; asyncio and trio."""

import json
import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from stack import Config, Node
from stack.blocks.interfaces import PinKind
from stack.blocks.store import DiskStore
from stack.cli.get import get
from stack.dag.unixfs.reader import LinkNotFound
from stack.errors import FetchError, FetchStopped, Refused
from stack.files.events import FetchFinished, FetchProgress, FetchStarted
from stack.files.jobs import Jobs, JobState
from stack.files.target import part_path
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Fetch, JobInfo, JobRemoved, ListJobs, ListPins, PauseJobs, RemoveJob, ResumeJobs
from stack.node.handlers import jobs as handlers
from stack.node.handlers.files import go_on
from stack.node.handlers.going_on import flags_of, job_options, request_of
from tests.net.hosts import settled
from tests.node.test_node import at

pytestmark = pytest.mark.anyio

SIZE = 3_000_000


def slow(path: Path) -> Config:
    """A sharer from whom the file takes many seconds."""
    return Config(home=path, listen=("/ip4/127.0.0.1/tcp/0",), upload_limit=200_000)


def lasting(path: Path) -> Config:
    """A node that goes on by itself with what is handed to it."""
    return Config(home=path, listen=("/ip4/127.0.0.1/tcp/0",), role="daemon")


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    data = os.urandom(SIZE)
    (tmp_path / "f.bin").write_bytes(data)
    return data


async def test_a_detached_fetch_is_listed_cancelled_with_what_is_kept_and_resumed(tmp_path: Path, data: bytes) -> None:
    target = tmp_path / "out" / "f.bin"
    async with Node.open(lasting(tmp_path / "2")) as two:
        async with Node.open(slow(tmp_path / "1")) as one:
            request = Fetch(source=await one.share(tmp_path / "f.bin"), directory=tmp_path / "out", detach=True)
            async with two.watch(request) as events:
                assert isinstance(await anext(events), FetchStarted)
            (job,) = await two.ask(ListJobs())
            assert (job.state, job.bytes_total) == ("running", SIZE)
            with pytest.raises(Refused, match=f"job {job.id}"):
                async with two.watch(request) as events:
                    await anext(events)
            assert [row.state for row in await two.ask(ListJobs())] == ["running"]
            await settled(part_path(target).exists)
            removed = await two.ask(RemoveJob(id=job.id))
            assert (removed.count, removed.kept) == (1, part_path(target))
            assert removed.job is not None and (removed.job.state, removed.job.ended) == ("running", None)
            assert await two.ask(ListJobs()) == () and not two.running
            assert await two.ask(ListPins()) == ()
        async with Node.open(at(tmp_path / "3")) as three:
            assert await two.get(await three.share(tmp_path / "f.bin"), tmp_path / "out") == target
        assert target.read_bytes() == data


async def test_removing_the_jobs_of_a_root_lets_go_of_it(tmp_path: Path, data: bytes) -> None:
    async with Node.open(slow(tmp_path / "1")) as one, Node.open(at(tmp_path / "2")) as two:
        ticket = await one.share(tmp_path / "f.bin")
        assert isinstance(two.store, DiskStore)
        for folder in ("a", "b"):
            async with two.fetch(ticket, tmp_path / folder) as events:
                await anext(events)
        first, second = await two.ask(ListJobs())
        assert first.state == "interrupted"
        assert (await two.ask(RemoveJob(id=first.id))).count == 1
        assert (await two.ask(RemoveJob(id=second.id))).count == 1
        assert await two.store.pins(kind=PinKind.SHARE) == []
        assert await two.ask(RemoveJob(id=second.id)) == JobRemoved()


async def test_a_job_says_that_contents_go_straight_into_a_directory(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(b"a")
    async with Node.open() as one, Node.open(at(tmp_path / "2")) as two:
        await two.get(await one.share(tmp_path / "tree"), tmp_path / "here", out=".")
        (job,) = await two.ask(ListJobs())
        assert job.command.endswith(f" -o {tmp_path}/here/.")


async def test_removing_a_job_that_is_done_keeps_what_it_brought(tmp_path: Path, data: bytes) -> None:
    async with Node.open(at(tmp_path / "1")) as one, Node.open(at(tmp_path / "2")) as two:
        await two.get(await one.share(tmp_path / "f.bin"), tmp_path / "out")
        (job,) = await two.ask(ListJobs())
        assert await two.ask(RemoveJob(id=job.id)) == JobRemoved(count=1, job=job)
        assert isinstance(two.store, DiskStore)
        assert len(await two.store.pins(kind=PinKind.SHARE)) == 1


async def test_who_follows_a_fetch_hears_that_its_job_was_removed(tmp_path: Path, data: bytes) -> None:
    async with Node.open(slow(tmp_path / "1")) as one, Node.open(at(tmp_path / "2")) as two:
        seen = []
        with pytest.raises(FetchError, match="removed"):
            async with two.fetch(await one.share(tmp_path / "f.bin"), tmp_path / "out") as events:
                async for event in events:
                    seen.append(event)
                    if isinstance(event, FetchStarted):
                        (job,) = await two.ask(ListJobs())
                        two.tasks.start(two.ask, RemoveJob(id=job.id), owner="a test")
        assert not any(isinstance(event, FetchFinished) for event in seen)


async def test_a_limited_node_keeps_to_its_rate_and_tells_progress_as_it_is(tmp_path: Path, data: bytes) -> None:
    fast = Config(home=tmp_path / "1", listen=("/ip4/127.0.0.1/tcp/0",), upload_limit=3_000_000)
    async with Node.open(fast) as one, Node.open(at(tmp_path / "2")) as two:
        done = [0]
        async with two.fetch(await one.share(tmp_path / "f.bin"), tmp_path / "out") as events:
            async for event in events:
                if isinstance(event, FetchProgress):
                    done.append(event.bytes_done)
                if isinstance(event, FetchFinished):
                    assert 0.8 <= event.seconds < 3 and event.received >= SIZE
        assert done == sorted(done) and done[-1] <= SIZE


async def begin(two: Node, one: Node, tmp_path: Path) -> JobInfo:
    """A fetch that was handed to `two`, under way."""
    request = Fetch(source=await one.share(tmp_path / "f.bin"), directory=tmp_path / "out", detach=True)
    async with two.watch(request) as events:
        await anext(events)
    await settled(part_path(tmp_path / "out" / "f.bin").exists)
    (job,) = await two.ask(ListJobs())
    return job


async def test_a_job_that_is_paused_stays_so_over_a_restart_and_goes_on_when_it_is_resumed(
    tmp_path: Path, data: bytes
) -> None:
    target = tmp_path / "out" / "f.bin"
    async with Node.open(slow(tmp_path / "1")) as one:
        async with Node.open(lasting(tmp_path / "2")) as two:
            job = await begin(two, one, tmp_path)
            (paused,) = await two.ask(PauseJobs(ids=(job.id,)))
            assert (paused.id, paused.state, paused.error) == (job.id, "paused", None) and not two.running
            assert paused.ended is not None and paused.since <= paused.ended
            assert await two.ask(PauseJobs()) == ()
        async with Node.open(lasting(tmp_path / "2")) as two:
            (still,) = await two.ask(ListJobs())
            assert still.state == "paused" and not two.running
            (resumed,) = await two.ask(ResumeJobs())
            assert (resumed.id, resumed.state, resumed.ended) == (job.id, "running", None)
            assert await two.ask(ResumeJobs(ids=(job.id,))) != () and len(two.running) == 1
            await two.ask(PauseJobs())
    async with Node.open(at(tmp_path / "1")) as one, Node.open(lasting(tmp_path / "2")) as two:
        await two.connect(one.addresses()[0])
        await two.ask(ResumeJobs())
        await settled(target.exists)
        await settled(lambda: not two.running)
        (done,) = await two.ask(ListJobs())
        assert (done.state, done.bytes_done) == ("done", SIZE) and done.rate > 0
    assert target.read_bytes() == data


async def test_whoever_follows_a_fetch_hears_that_it_was_paused_and_how_it_goes_on(tmp_path: Path, data: bytes) -> None:
    async with Node.open(slow(tmp_path / "1")) as one, Node.open(at(tmp_path / "2")) as two:
        with pytest.raises(FetchStopped, match="stack jobs resume 1"):
            async with two.fetch(await one.share(tmp_path / "f.bin"), tmp_path / "out") as events:
                async for event in events:
                    if isinstance(event, FetchStarted):
                        two.tasks.start(two.ask, PauseJobs(), owner="a test")
        (paused,) = await two.ask(ListJobs())
        assert paused.state == "paused"
        # No daemon runs: it waits for one, which then goes on with what a command had begun.
        (waiting,) = await two.ask(ResumeJobs(ids=(paused.id,)))
        assert waiting.state == "interrupted"
    async with Node.open(lasting(tmp_path / "2")) as two:
        await settled(lambda: bool(two.running))
        (job,) = await two.ask(ListJobs())
        assert job.state == "running"


async def test_what_a_daemon_would_go_on_with_can_be_paused_while_it_does_not_run(tmp_path: Path) -> None:
    options = job_options(Fetch(source="bafkqaaa", directory=tmp_path, detach=True), "bafkqaaa")
    async with Node.open(at(tmp_path / "2")) as node:
        job = await node.jobs.start_job(Cid.of(b"root"), "", tmp_path / "f", name="f", options=options)
        await node.jobs.end_job(job.id, JobState.INTERRUPTED)
        assert [row.state for row in await node.ask(PauseJobs())] == ["paused"]
    async with Node.open(lasting(tmp_path / "2")) as daemon:
        assert [row.state for row in await daemon.ask(ListJobs())] == ["paused"] and not daemon.running


async def test_a_job_that_waits_says_for_whom(tmp_path: Path, data: bytes) -> None:
    async with Node.open(at(tmp_path / "1")) as one:
        ticket = await one.share(tmp_path / "f.bin")
    async with Node.open(lasting(tmp_path / "2")) as two:
        request = Fetch(source=ticket, directory=tmp_path / "out", detach=True)
        two.tasks.start(go_on, two, request, lambda: None, owner="a test")
        await settled(lambda: bool(two.running))
        (fetch,) = (running.fetch for running in two.running.values())
        await settled(lambda: fetch.latest is not None)
        (job,) = await two.ask(ListJobs())
        assert job.waiting is not None and job.waiting.tried == 1
        assert (await two.ask(RemoveJob(id=job.id))).kept is None


@pytest.mark.parametrize("request_", [PauseJobs, ResumeJobs])
async def test_jobs_that_are_none_or_are_done_are_told_as_such(
    request_: type[PauseJobs] | type[ResumeJobs], tmp_path: Path
) -> None:
    async with Node.open(at(tmp_path / "1")) as node:
        job = await node.jobs.start_job(Cid.of(b"root"), "", tmp_path / "f", name="f", options="[]")
        await node.jobs.end_job(job.id, JobState.DONE)
        with pytest.raises(FetchError, match="no job 7"):
            await node.ask(request_(ids=(job.id, 7)))
        with pytest.raises(Refused, match="is done"):
            await node.ask(request_(ids=(job.id,)))
        await node.jobs.end_job(job.id, JobState.INTERRUPTED)
        if request_ is ResumeJobs:
            with pytest.raises(Refused, match="stack get"):
                await node.ask(request_(ids=(job.id,)))


async def test_jobs_of_an_older_version_go_on_too(tmp_path: Path) -> None:
    request = job_options(Fetch(source="bafkqaaa", directory=tmp_path, detach=True), "bafkqaaa")
    options = json.dumps({"source": "bafkqaaa", "detached": json.loads(request)["request"]})
    async with await Jobs.open(None) as jobs:
        job = await jobs.start_job(Cid.of(b"root"), "", tmp_path / "f", name="f", options=options)
        assert request_of(job) == Fetch(source="bafkqaaa", directory=tmp_path, detach=True)


async def test_what_has_ended_is_listed_for_some_weeks_and_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point 36: finished ones stayed for ever."""
    monkeypatch.setattr(handlers, "LISTED_MAX", 2)
    async with Node.open(at(tmp_path / "1")) as node:
        for name, state in (("a", "DONE"), ("b", "FAILED"), ("waits", "INTERRUPTED"), ("c", "DONE")):
            job = await node.jobs.start_job(Cid.of(name.encode()), "", tmp_path / name, name=name)
            await node.jobs.end_job(
                job.id, JobState[state], "why" if state == "FAILED" else None, received=50, seconds=5
            )
        rows = await node.ask(ListJobs())
        assert [(row.name, row.state, row.error, row.rate) for row in rows] == [
            ("b", "failed", "why", 10),
            ("waits", "interrupted", None, 10),
            ("c", "done", None, 10),
        ]
        monkeypatch.setattr(time, "time", lambda: rows[0].since + 31 * 86_400)
        assert [row.name for row in await node.ask(ListJobs())] == ["waits"]


FLAGS: list[tuple[str, dict[str, object]]] = [
    ("target", {"target": Path("/there/f")}),
    ("into_directory", {"target": Path("/there"), "into_directory": True}),
    ("contents", {"target": Path("/there/f"), "contents": True}),
    (
        "providers",
        {"providers": (Multiaddr.parse("/ip4/10.0.0.1/tcp/4001"), Multiaddr.parse("/ip4/10.0.0.2/tcp/4001"))},
    ),
    ("timeout", {"timeout": 90.5}),
    ("deadline", {"deadline": 86_400_000.0}),
    ("include", {"include": ("*.jpg", "a b/*")}),
    ("exclude", {"exclude": ("-x", "*.raw")}),
    ("unsafe_links", {"unsafe_links": True}),
    ("update", {"update": True}),
    ("delete", {"update": True, "delete": True}),
    ("dry_run", {"update": True, "dry_run": True}),
    ("serve", {"serve": False}),
    ("detach", {"detach": True}),
    ("seed", {"seed": True}),
    ("owner", {"seed": True, "owner": "a command that stays"}),
]
NOT_TYPED_AGAIN = {"into_directory", "detach", "owner"}
"""It is known by now where it goes; whoever types the command follows it himself; a command has a name of its own each time."""


def test_each_field_of_a_fetch_but_what_is_named_and_where_one_is_has_a_case() -> None:
    assert {name for name, _ in FLAGS} | {"source", "directory"} == {field.name for field in fields(Fetch)}


@pytest.mark.parametrize(("name", "given"), FLAGS, ids=[name for name, _ in FLAGS])
def test_the_command_that_goes_on_with_a_job_asks_for_the_same(name: str, given: dict[str, Any]) -> None:
    """It had `--update --delete` only: pasted, it fetched what had been excluded, and kept nothing."""
    request = Fetch(source="bafkqaaa", directory=Path("/here"), **given)
    target = Path("/there/f")
    typed = get.make_context("get", ["bafkqaaa", *flags_of(request, target)]).params
    wanted: dict[str, Any] = {field.name: getattr(request, field.name) for field in fields(Fetch)}
    wanted |= {"target": f"{target}/." if request.contents else str(target), "no_serve": not request.serve}
    wanted |= {"seed": request.seed and bool(request.owner), "keep": request.seed and not request.owner}
    same = set(wanted) & set(typed) - NOT_TYPED_AGAIN
    assert name in same | {"contents", "serve"} | NOT_TYPED_AGAIN
    assert {each: typed[each] for each in same} == {each: wanted[each] for each in same}


async def test_a_job_says_what_was_left_out_and_who_is_to_keep_it(tmp_path: Path) -> None:
    request = Fetch(source="bafkqaaa", directory=tmp_path, exclude=("*.raw",), seed=True, unsafe_links=True)
    async with Node.open(at(tmp_path / "2")) as node:
        options = job_options(request, "bafkqaaa")
        job = await node.jobs.start_job(Cid.of(b"root"), "", tmp_path / "f", name="f", options=options)
        await node.jobs.end_job(job.id, JobState.INTERRUPTED)
        (row,) = await node.ask(ListJobs())
        assert row.command == f"stack get bafkqaaa -o {tmp_path}/f --exclude '*.raw' --unsafe-links --keep"


async def test_a_job_that_named_what_is_not_there_says_why_and_no_command(tmp_path: Path) -> None:
    """It had a command to go on with that could never work."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(b"a")
    async with Node.open() as one, Node.open(at(tmp_path / "2")) as two:
        with pytest.raises(LinkNotFound):
            await two.get(f"{await one.share(tmp_path / 'tree')}/nope", tmp_path / "here")
        (row,) = await two.ask(ListJobs())
        assert row.state == "failed" and row.error is not None and "nope" in row.error and row.command == ""
