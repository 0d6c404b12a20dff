"""The shells where they wait: streams that break while something is written, a store that refuses."""

from collections.abc import Callable
from itertools import count
from typing import cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from stack.announce.events import Found, LookupId
from stack.announce.lookups import FOUND_MAX
from stack.announce.shell import driver as driver_module
from stack.announce.shell.questions import Finding, Served
from stack.multiformats.cid import Cid
from stack.streams.interfaces import Stream
from tests.announce.build import a_record
from tests.announce.test_service import Store, member
from tests.net.hosts import hosts, settled

pytestmark = pytest.mark.anyio

ROOT = Cid.of(b"something to share")


class Breaks:
    """A stream on which nothing comes, and that breaks when it is written to."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        raise anyio.BrokenResourceError


async def test_a_stream_that_breaks_while_a_record_is_pushed_ends_with_that_and_not_with_a_group() -> None:
    """As a group it passed for a fault of ours: logged, and the stream not reset by who serves it."""
    served = Served()
    served.push(b"a record")
    with pytest.raises(anyio.BrokenResourceError):
        await served.run(cast(Stream, Breaks()))


async def test_of_what_is_found_and_not_taken_so_much_waits_as_a_lookup_tells_of() -> None:
    """Authors whose records change all the time filled the memory of who did not look."""
    names = count()
    found = Found(LookupId(1), a_record(1), None)
    finding: Finding[int] = Finding(lambda _: [next(names) for _ in range(32)], lambda: None, goes_on=True)
    for _ in range(FOUND_MAX):
        finding.put(found)
    assert [await anext(finding) for _ in range(FOUND_MAX)] == list(range(FOUND_MAX))
    finding.put(found)
    assert await anext(finding) == 32 * FOUND_MAX


async def test_what_could_not_be_saved_is_saved_when_there_is_room_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was not tried again before the next change, and lost by a restart."""

    class Full(Store):
        tries = 0

        def save(self, data: bytes) -> None:
            self.tries += 1
            if self.tries < 5:
                raise OSError("no room")
            super().save(data)

    monkeypatch.setattr(driver_module, "SAVE_AGAIN_SECONDS", 0.01)
    store = Full()
    async with hosts(1) as [host], member(host, store=store) as announcements:
        announcements.announce(ROOT)
        await settled(lambda: store.data is not None)
        assert bytes(ROOT) in (store.data or b"")
    assert caplog.text.count("no room") == 1


async def test_a_thread_that_cannot_be_started_is_tried_again_and_so_is_a_save_that_was_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was taken for saved was not, and lost by a restart."""
    monkeypatch.setattr(driver_module, "SAVE_AGAIN_SECONDS", 0.01)
    store, run_sync, fails = Store(), anyio.to_thread.run_sync, [True]

    async def failing(function: Callable[..., object], *arguments: object) -> object:
        if function == store.save and fails:
            fails.pop()
            raise RuntimeError("can't start new thread")
        return await run_sync(function, *arguments)

    monkeypatch.setattr(anyio.to_thread, "run_sync", failing)
    async with hosts(1) as [host], member(host, store=store) as announcements:
        announcements.announce(ROOT)
        await settled(lambda: store.data is not None)
        assert not fails and bytes(ROOT) in (store.data or b"")
        announcements._driver._unsaved = True
        with anyio.CancelScope() as scope:
            scope.cancel()
            await announcements._driver.save_now()
        assert announcements._driver._unsaved
