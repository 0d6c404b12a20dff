"""A system out of memory loses the byte that wakes an event loop (ENOBUFS), and tells nobody."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from threading import current_thread, main_thread

import anyio
import anyio.to_thread
import pytest
import sniffio

from stack.cli import app


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.anyio
@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_thread_whose_word_was_lost_is_heard_of_while_a_command_runs_and_while_it_ends(
    interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that was told to end waited for ever for a thread that cleaned up."""
    monkeypatch.setattr(app, "AWAKE_SECONDS", 0.05)
    backend = sniffio.current_async_library()

    def lose(patched: pytest.MonkeyPatch) -> None:
        """What other threads send."""
        if backend == "asyncio":
            target, name = type(asyncio.get_running_loop()), "_write_to_self"
        else:
            target = type(__import__("trio").lowlevel.current_trio_token()._reentry_queue.wakeup)
            name = "wakeup_thread_and_signal_safe"
        send = getattr(target, name)
        patched.setattr(target, name, lambda it: send(it) if current_thread() is main_thread() else None)

    async def work() -> str:
        try:
            if interrupted:
                os.kill(os.getpid(), signal.SIGTERM)
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True), monkeypatch.context() as patched:
                lose(patched)
                await anyio.to_thread.run_sync(time.sleep, 0.2)
        return "done"

    begun = time.monotonic()
    with anyio.move_on_after(10):
        assert await app._interruptible(work, backend) == ([] if interrupted else ["done"])
    assert time.monotonic() - begun < 5
