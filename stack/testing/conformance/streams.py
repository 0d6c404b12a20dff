"""What every raw stream that can be tried without waiting must do. A test class derives from `StreamConformance` and says how
two connected ends are made."""

import anyio
import anyio.lowlevel
import pytest

from stack.streams.interfaces import DirectStream
from stack.testing.streams import receive_exactly

LARGE = 2 << 20
"""More than any buffer between two ends holds, but for a socket's on loopback."""


def buffer(size: int = 100) -> memoryview:
    """Room for `size` bytes."""
    return memoryview(bytearray(size))


async def fill(stream: DirectStream) -> int:
    """Write until nothing is taken any more, also after a wait; says how much was."""
    taken = 0
    while True:
        while size := stream.send_now(memoryview(bytes(1 << 20))):
            taken += size
        with anyio.move_on_after(0.01) as full:
            await stream.wait_writable()
        if full.cancelled_caught:
            return taken


@pytest.mark.anyio
class StreamConformance:
    """The checks."""

    def ends(self) -> tuple[DirectStream, DirectStream]:
        """Two connected streams."""
        raise NotImplementedError

    async def test_bytes_pass_both_ways_at_once(self) -> None:
        ends = self.ends()
        sent = [bytes(range(251)) * (LARGE // 251), bytes(range(241)) * (LARGE // 241)]
        received = [bytearray(), bytearray()]

        async def receive(side: int) -> None:
            room = buffer(65536)
            while len(received[side]) < len(sent[1 - side]):
                size = await ends[side].receive_into(room)
                received[side] += room[:size]
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            for side in (0, 1):
                tasks.start_soon(ends[side].send_all, memoryview(sent[side]))
                tasks.start_soon(receive, side)
        assert [bytes(data) for data in reversed(received)] == sent
        for end in ends:
            await end.aclose()

    async def test_trying_takes_what_there_is_and_never_waits(self) -> None:
        ends = self.ends()
        first, second = ends
        assert second.receive_now(buffer()) is None
        assert await fill(first) > 0
        await second.wait_readable()
        assert second.receive_now(buffer(7)) in range(1, 8)
        for end in ends:
            await end.aclose()

    async def test_waiting_to_write_ends_when_the_peer_reads(self) -> None:
        ends = self.ends()
        first, second = ends
        await fill(first)

        async def read() -> None:
            while True:
                await second.receive_into(buffer(65536))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await first.wait_writable()
            tasks.cancel_scope.cancel()
        assert first.send_now(memoryview(b"x")) == 1
        for end in ends:
            await end.aclose()

    async def test_the_peer_s_end_is_told_after_its_last_bytes(self) -> None:
        ends = self.ends()
        first, second = ends
        await first.send_all(memoryview(b"last"))
        await first.aclose()
        room = buffer()
        assert await receive_exactly(second, 4) == b"last"
        for _ in range(2):
            await second.wait_readable()
            with pytest.raises(anyio.EndOfStream):
                await second.receive_into(room)
        await second.aclose()

    async def test_writing_to_a_peer_that_is_gone_breaks(self) -> None:
        ends = self.ends()
        first, second = ends
        await second.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            while True:
                await first.send_all(memoryview(bytes(65536)))
                await anyio.lowlevel.checkpoint()
        await first.aclose()

    async def test_everything_on_a_closed_stream_says_that_we_closed_it(self) -> None:
        ends = self.ends()
        first, second = ends
        await first.aclose()
        await first.aclose()
        for call in (first.receive_into(buffer()), first.send_all(memoryview(b"x")), first.wait_readable()):
            with pytest.raises(anyio.ClosedResourceError):
                await call
        with pytest.raises(anyio.ClosedResourceError):
            await first.wait_writable()
        assert repr(first).endswith("closed>")
        assert not repr(second).endswith("closed>")
        await second.aclose()

    @pytest.mark.parametrize("call", ["wait_readable", "wait_writable"])
    async def test_closing_wakes_whoever_waits(self, call: str) -> None:
        ends = self.ends()
        first, second = ends
        await fill(first)

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                while True:  # a kernel may find room for more after all, however full it was
                    await getattr(first, call)()
                    await fill(first)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            await first.aclose()
        await second.aclose()

    async def test_a_cancelled_receive_loses_nothing(self) -> None:
        ends = self.ends()
        first, second = ends
        room = buffer()
        with anyio.move_on_after(0.01) as scope:
            await second.receive_into(room)
        assert scope.cancelled_caught
        await first.send_all(memoryview(b"hello"))
        assert await receive_exactly(second, 5) == b"hello"
        for end in ends:
            await end.aclose()
