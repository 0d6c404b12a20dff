"""What happened to whole nodes when a socket was full, and loopback never showed."""

import anyio
import pytest

from stack.net.negotiate import LazyStream
from stack.sansio.budget import Scope
from stack.testing.lines import line_stream_pair
from stack.testing.streams import settled
from tests.muxers.yamux.test_shell import HERE, THERE, running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("first", ["receive", "send"])
async def test_two_tasks_may_be_the_first_to_read_and_to_write_a_lazy_stream_while_the_socket_is_full(
    first: str,
) -> None:
    """Finding 1: whoever came second, while the first still waited with the preface, got BusyResourceError."""
    ends = line_stream_pair(HERE, THERE)
    async with running(*ends, (Scope("test", {}), Scope("test", {}))) as (dialler, listener):
        wire = ends[0].wire
        busy = await dialler.open_stream()
        await listener.accept_stream()
        wire.stand_still()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(busy.send, bytes(200_000))
            await settled()
            lazy = LazyStream(await dialler.open_stream(), "/chat")
            calls = {"receive": lazy.receive, "send": lambda: lazy.send(b"hello")}
            tasks.start_soon(calls.pop(first))
            await settled()
            tasks.start_soon(*calls.values())
            await settled()
            wire.go_on()
            accepted = await listener.accept_stream()
            heard = bytearray()
            while not heard.endswith(b"hello"):
                heard += await accepted.receive()
            assert heard.count(b"/multistream/1.0.0") == heard.count(b"/chat") == 1
            tasks.cancel_scope.cancel()
