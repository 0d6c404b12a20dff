"""Rows of jobs and shares."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from stack.blocks.memory import MemoryStore
from stack.errors import CorruptStore, NoSpace, Refused, RepoTooNew, StoreError
from stack.files import jobs as jobs_module
from stack.files import share_rows
from stack.files import watch as watch_module
from stack.files.events import FetchStarted
from stack.files.fetch import Fetcher
from stack.files.jobs import Jobs, JobState, Origin
from stack.files.request import FetchRequest
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from tests.files.conftest import ME, FakeExchange, content
from tests.files.test_fetch import shared, v1

ROOT = Cid.of(b"root")


@pytest.mark.anyio
async def test_jobs_survive_a_restart_and_running_ones_are_interrupted_then(tmp_path: Path) -> None:
    async with await Jobs.open(tmp_path / "jobs.sqlite") as jobs:
        first = await jobs.start_job(ROOT, "a/b", tmp_path / "b", name="b", options='{"timeout": 3}')
        second = await jobs.start_job(ROOT, "", tmp_path / "x", name="x")
        await jobs.progress(first.id, 10, 2**70)
        await jobs.end_job(second.id, JobState.FAILED, "no")
    async with await Jobs.open(tmp_path / "jobs.sqlite") as jobs:
        one, two = await jobs.jobs()
        assert (one.state, one.bytes_done, one.bytes_total, one.path) == (JobState.INTERRUPTED, 10, 2**63 - 1, "a/b")
        assert one.options == '{"timeout": 3}' and one.target == tmp_path / "b" and one.root == ROOT
        assert (two.state, two.error) == (JobState.FAILED, "no")
        again = await jobs.start_job(ROOT, "a/b", tmp_path / "b", name="b")
        assert (again.id, again.state, again.bytes_done, again.since) == (one.id, JobState.RUNNING, 10, one.since)
        assert await jobs.remove_job(one.id) and not await jobs.remove_job(one.id)


@pytest.mark.anyio
async def test_ended_jobs_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs_module, "ENDED_JOBS_MAX", 3)
    async with await Jobs.open(None) as jobs:
        running = await jobs.start_job(ROOT, "", tmp_path / "runs", name="runs")
        for number in range(6):
            job = await jobs.start_job(ROOT, "", tmp_path / str(number), name=str(number))
            await jobs.end_job(job.id, JobState.DONE)
        assert [job.name for job in await jobs.jobs()] == ["runs", "3", "4", "5"]
        assert (await jobs.jobs())[0].id == running.id


@pytest.mark.anyio
async def test_shares_tell_to_whom_they_went(tmp_path: Path) -> None:
    other = PeerId.of(generate().public)
    async with await Jobs.open(tmp_path / "jobs.sqlite") as jobs:
        await jobs.add_share(ROOT, "film", [tmp_path / "film"], 100)
        await jobs.record_sent({(ROOT, ME): 60, (ROOT, other): 30, (Cid.of(b"not shared"), other): 30})
        await jobs.record_sent({(ROOT, ME): 60})
        for root in (ROOT, ROOT, Cid.of(b"not shared")):
            await jobs.record_copy(root, ME)
        await jobs.add_share(ROOT, "renamed", [tmp_path / "a", tmp_path / "b"], 100)
    async with await Jobs.open(tmp_path / "jobs.sqlite") as jobs:
        (share,) = await jobs.shares()
        assert share == await jobs.share(ROOT) and await jobs.share(Cid.of(b"not shared")) is None
        assert share.sent == ((ME, 120), (other, 30)) and share.complete == {ME}
        assert (share.bytes_sent, share.copies, share.name) == (150, 1, "renamed")
        assert share.paths == (tmp_path / "a", tmp_path / "b")
        assert await jobs.remove_share(ROOT) and not await jobs.remove_share(ROOT)
        await jobs.add_share(ROOT, "film", [], 100)
        (share,) = await jobs.shares()
        assert share.sent == () and not share.copies


@pytest.mark.anyio
async def test_receivers_are_counted_one_by_one_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_rows, "PEERS_PER_SHARE_MAX", 2)
    peers = [PeerId.of(generate().public) for _ in range(4)]
    async with await Jobs.open(None) as jobs:
        await jobs.add_share(ROOT, "film", [], 100)
        await jobs.record_sent({(ROOT, peer): 10 for peer in peers})
        await jobs.record_sent({(ROOT, peers[0]): 10})
        for peer in peers:
            await jobs.record_copy(ROOT, peer)
        (share,) = await jobs.shares()
        assert share.copies == 2
        assert share.sent == ((peers[0], 20), (peers[1], 10)) and share.sent_to_others == 20
        assert share.bytes_sent == 50


@pytest.mark.anyio
async def test_paths_that_are_not_utf8_can_be_remembered(tmp_path: Path) -> None:
    async with await Jobs.open(None) as jobs:
        target, path = tmp_path / os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff")
        await jobs.start_job(ROOT, path, target, name="x")
        assert [(job.target, job.path) for job in await jobs.jobs()] == [(target, path)]


@pytest.mark.anyio
async def test_B14_a_newer_or_damaged_file_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RepoTooNew, match="version 99"):
        await Jobs.open(path)
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(CorruptStore, match="damaged"):
        await Jobs.open(path)
    with pytest.raises(Refused):
        await Jobs.open(tmp_path / "absent" / "jobs.sqlite")


@pytest.mark.anyio
async def test_a_file_that_is_new_lists_what_the_store_keeps_and_no_later_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "jobs.sqlite", [(ROOT, "film"), (Cid.of(b"other"), "")]

    def cut(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(share_rows, "add", cut)
        with pytest.raises(NoSpace):
            await Jobs.open(path, kept)
    async with await Jobs.open(path, kept) as jobs:
        assert jobs.found == 2
        assert {(row.root, row.name, row.kept, row.origin) for row in await jobs.shares()} == {
            (root, name, True, Origin.PART) for root, name in kept
        }
        await jobs.remove_share(ROOT)
    async with await Jobs.open(path, kept) as jobs:
        assert jobs.found == 0 and [row.name for row in await jobs.shares()] == [""]


@pytest.mark.parametrize(
    ("message", "kind"), [("database or disk is full", NoSpace), ("database is locked", StoreError)]
)
def test_errors_of_the_database_are_told_as_ours(message: str, kind: type[Exception]) -> None:
    with pytest.raises(kind), jobs_module._translated(Path("jobs")):
        raise sqlite3.OperationalError(message)


@contextmanager
def locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody else writes to the file; that is not waited for."""
    monkeypatch.setattr(jobs_module, "BUSY_SECONDS", 0.02)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@pytest.mark.anyio
async def test_what_cannot_be_written_down_ends_no_job_and_its_end_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "jobs.sqlite"
    async with await Jobs.open(place) as jobs:
        job = await jobs.start_job(ROOT, "", tmp_path / "x", name="x")
        with locked(place, monkeypatch):
            for done in (10, 20):
                await jobs.progress(job.id, done, 100)
            assert len(caplog.records) == 1
            with pytest.raises(StoreError):
                await jobs.end_job(job.id, JobState.DONE, done=(100, 100), received=90)
            assert [each.state for each in await jobs.jobs()] == [JobState.RUNNING]
        [ended] = await jobs.jobs()
        assert (ended.state, ended.bytes_done, ended.bytes_total, ended.received) == (JobState.DONE, 100, 100, 90)
        with locked(place, monkeypatch), pytest.raises(StoreError):
            await jobs.end_job(job.id, JobState.FAILED, "no")
        again = await jobs.start_job(ROOT, "", tmp_path / "x", name="x")
        assert (again.id, again.state) == (job.id, JobState.RUNNING)
        with locked(place, monkeypatch), pytest.raises(StoreError):
            await jobs.end_job(job.id, JobState.DONE)
    async with await Jobs.open(place) as jobs:
        assert [each.state for each in await jobs.jobs()] == [JobState.DONE]


@pytest.mark.anyio
async def test_a_fetch_goes_on_while_somebody_looks_into_the_list_of_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: FakeExchange
) -> None:
    monkeypatch.setattr(watch_module, "INTERVAL", 0.01)
    monkeypatch.setattr(watch_module, "RECORD_SECONDS", 0.0)
    source, place = tmp_path / "film", tmp_path / "jobs.sqlite"
    source.write_bytes(content("film", 60_000))
    root = await shared(source, exchange, v1(chunker="size-1000"))
    fails = anyio.Event()
    async with await Jobs.open(place) as jobs:
        progress = jobs.progress

        async def progress_is_tried(job: int, done: int, total: int) -> None:
            await progress(job, done, total)
            if done:
                fails.set()

        monkeypatch.setattr(jobs, "progress", progress_is_tried)
        exchange.gate = lambda cid: len(exchange.sent) < 20 or fails.is_set()
        request = FetchRequest(root=root, directory=tmp_path, out=Path("out"))
        async with Fetcher(MemoryStore(), exchange, jobs=jobs).open(request) as fetch:
            async for event in fetch:
                if isinstance(event, FetchStarted):
                    break
            with locked(place, monkeypatch):
                assert (await fetch.finish()).size == 60_000
        assert fails.is_set()
        [job] = await jobs.jobs()
        assert (job.state, job.bytes_done) == (JobState.DONE, 60_000)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
