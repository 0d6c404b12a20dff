"""Fetches as jobs: listed, handed to a node that runs on, cancelled, forgotten, resumed; asyncio and trio."""

import os
from pathlib import Path

import pytest

from stack import Config, Node
from stack.blocks.interfaces import PinKind
from stack.blocks.store import DiskStore
from stack.errors import FetchError, Refused
from stack.files.events import FetchFinished, FetchProgress, FetchStarted
from stack.files.target import part_path
from stack.node.api import Fetch, JobRemoved, ListJobs, ListPins, RemoveJob
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
            assert removed == JobRemoved(count=1, kept=part_path(target))
            assert await two.ask(ListJobs()) == () and not two.running
            assert await two.ask(ListPins()) == ()
        async with Node.open(at(tmp_path / "3")) as three:
            assert await two.get(await three.share(tmp_path / "f.bin"), tmp_path / "out") == target
        assert target.read_bytes() == data


async def test_removing_the_jobs_of_a_root_lets_go_of_it(tmp_path: Path, data: bytes) -> None:
    async with Node.open(slow(tmp_path / "1")) as one, Node.open(at(tmp_path / "2")) as two:
        ticket = await one.share(tmp_path / "f.bin")
        assert isinstance(two.blocks, DiskStore)
        for folder in ("a", "b"):
            async with two.fetch(ticket, tmp_path / folder) as events:
                await anext(events)
        first, second = await two.ask(ListJobs())
        assert first.state == "interrupted"
        assert (await two.ask(RemoveJob(id=first.id))).count == 1
        assert (await two.ask(RemoveJob(id=second.id))).count == 1
        assert await two.blocks.pins(kind=PinKind.SHARE) == []
        assert await two.ask(RemoveJob(id=second.id)) == JobRemoved()


async def test_removing_a_job_that_is_done_keeps_what_it_brought(tmp_path: Path, data: bytes) -> None:
    async with Node.open(at(tmp_path / "1")) as one, Node.open(at(tmp_path / "2")) as two:
        await two.get(await one.share(tmp_path / "f.bin"), tmp_path / "out")
        (job,) = await two.ask(ListJobs())
        assert await two.ask(RemoveJob(id=job.id)) == JobRemoved(count=1)
        assert isinstance(two.blocks, DiskStore)
        assert len(await two.blocks.pins(kind=PinKind.SHARE)) == 1


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
