"""What every muxer must do. A test class derives from `MuxerConformance` and says how two ends are connected.

The names of the checks begin with `test_`, so that pytest finds them in the derived class; they run on the event loop of
the fixture `anyio_backend`.
"""

import anyio
import anyio.lowlevel
import pytest

from stack.streams.interfaces import MuxedStream
from stack.testing.conformance.connections import ConnectionConformance
from stack.testing.streams import receive_all, receive_exactly, settled, stream_pair


@pytest.mark.anyio
class MuxerConformance(ConnectionConformance):
    """The checks of streams, and those of connections with them."""

    # Bytes.

    async def test_bytes_pass_both_ways(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await first.send(b"question")
            assert await receive_exactly(second, 8) == b"question"
            await second.send(b"answer")
            assert await receive_exactly(first, 6) == b"answer"

    async def test_either_end_opens_streams(self) -> None:
        async with self.connected() as ends:
            await stream_pair(ends)
            await stream_pair((ends[1], ends[0]))
            assert ends[0].stream_count == ends[1].stream_count == 2

    async def test_streams_are_accepted_in_the_order_they_were_opened(self) -> None:
        async with self.connected() as ends:
            for number in range(5):
                await (await ends[0].open_stream()).send(bytes([number]))
            for number in range(5):
                assert await receive_exactly(await ends[1].accept_stream(), 1) == bytes([number])

    async def test_a_stream_is_accepted_though_nothing_was_sent_on_it(self) -> None:
        async with self.connected() as ends:
            opened = await ends[0].open_stream()
            accepted = await ends[1].accept_stream()
            await accepted.send(b"welcome")
            assert await receive_exactly(opened, 7) == b"welcome"

    async def test_large_data_passes_both_ways_at_once_unchanged(self) -> None:
        async with self.connected() as ends:
            streams = await stream_pair(ends)
            payloads = [bytes(range(251)) * (self.large // 251), bytes(range(241)) * (self.large // 241)]
            received: dict[int, bytes] = {}

            async def receive(side: int) -> None:
                received[side] = await receive_exactly(streams[side], len(payloads[1 - side]))

            async with anyio.create_task_group() as tasks:
                for side in (0, 1):
                    tasks.start_soon(streams[side].send, payloads[side])
                    tasks.start_soon(receive, side)
            assert [received[1], received[0]] == payloads

    async def test_several_buffers_arrive_as_one_sequence(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await first.send_buffers(b"one", memoryview(b"two"), b"", bytearray(b"three"))
            assert await receive_exactly(second, 11) == b"onetwothree"

    async def test_a_buffer_may_change_after_it_was_sent(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            buffer = bytearray(100_000)
            async with anyio.create_task_group() as tasks:

                async def send() -> None:
                    for number in range(20):
                        buffer[:] = bytes([number]) * len(buffer)
                        await first.send(buffer)

                tasks.start_soon(send)
                for number in range(20):
                    assert await receive_exactly(second, len(buffer)) == bytes([number]) * len(buffer)

    async def test_receive_gives_at_most_what_was_asked_for(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await first.send(b"hello")
            await settled()
            assert await second.receive(2) == b"he"
            assert await second.receive(0) == b""
            assert await second.receive_into(memoryview(bytearray(0))) == 0
            assert await second.receive(100) == b"llo"

    # Back pressure.

    async def test_a_sender_waits_for_a_reader_that_does_not_read(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            done = anyio.Event()

            async def send() -> None:
                await first.send(bytes(self.large))
                done.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await settled()
                assert not done.is_set()
                assert len(await receive_exactly(second, self.large)) == self.large
                await done.wait()

    async def test_a_stream_that_is_not_read_holds_up_no_other(self) -> None:
        async with self.connected() as ends:
            stalled, _ = await stream_pair(ends)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stalled.send, bytes(self.large))
                await settled()
                first, second = await stream_pair(ends)
                await first.send(b"hello")
                assert await receive_exactly(second, 5) == b"hello"
                tasks.cancel_scope.cancel()

    async def test_many_streams_share_the_connection(self) -> None:
        async with self.connected() as ends:

            async def ask(number: int) -> None:
                stream = await ends[0].open_stream()
                await stream.send(bytes([number]) * 1000)
                await stream.send_eof()
                assert await receive_all(stream) == bytes([number]) * 2000
                await stream.aclose()

            async def serve() -> None:
                async with anyio.create_task_group() as tasks:
                    for _ in range(100):
                        tasks.start_soon(answer, await ends[1].accept_stream())

            async def answer(stream: MuxedStream) -> None:
                await stream.send(2 * await receive_all(stream))
                await stream.aclose()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                for number in range(100):
                    tasks.start_soon(ask, number)
            await settled()
            assert ends[0].stream_count == ends[1].stream_count == 0

    # Ending.

    async def test_each_direction_ends_by_itself(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await first.send(b"all")
            await first.send_eof()
            await first.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await first.send(b"more")
            assert await receive_all(second) == b"all"
            with pytest.raises(anyio.EndOfStream):
                await second.receive_into(memoryview(bytearray(1)))
            await second.send(b"still open")
            await second.send_eof()
            assert await receive_all(first) == b"still open"

    async def test_closing_delivers_what_was_sent_and_says_that_we_closed(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await first.send(bytes(100_000))
            await first.aclose()
            await first.aclose()
            assert len(await receive_all(second)) == 100_000
            for call in (first.receive(), first.receive_into(memoryview(bytearray(1))), first.send(b"x")):
                with pytest.raises(anyio.ClosedResourceError):
                    await call
            with pytest.raises(anyio.ClosedResourceError):
                await first.send_eof()
            first.reset()

    async def test_a_reset_breaks_both_ends(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            first.reset()
            first.reset()
            with pytest.raises(anyio.BrokenResourceError):
                await second.receive()
            for stream in (first, second):
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.send(b"x")
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive_into(memoryview(bytearray(1)))
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.send_eof()
                await stream.aclose()
            assert ends[0].stream_count == ends[1].stream_count == 0

    async def test_a_reset_wakes_whoever_waits(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)

            async def breaks(stream: MuxedStream, *, sending: bool) -> None:
                with pytest.raises(anyio.BrokenResourceError):
                    await (stream.send(bytes(self.large)) if sending else stream.receive())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: breaks(first, sending=True))
                tasks.start_soon(lambda: breaks(first, sending=False))
                await settled()
                second.reset()

    async def test_closing_wakes_whoever_waits(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)

            async def closed(*, sending: bool) -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await (first.send(bytes(self.large)) if sending else first.receive())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: closed(sending=True))
                tasks.start_soon(lambda: closed(sending=False))
                await settled()
                await first.aclose()
            # What `send` had not finished must not look complete.
            with pytest.raises(anyio.BrokenResourceError):
                await receive_all(second)

    async def test_a_peer_that_closes_early_stops_an_endless_sender(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await second.aclose()
            with pytest.raises(anyio.BrokenResourceError):
                for _ in range(100):
                    await first.send(bytes(65536))

    async def test_only_one_task_receives_and_one_sends(self) -> None:
        async with self.connected() as ends:
            first, _ = await stream_pair(ends)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.receive)
                tasks.start_soon(first.send, bytes(self.large))
                await settled()
                with pytest.raises(anyio.BusyResourceError):
                    await first.receive()
                with pytest.raises(anyio.BusyResourceError):
                    await first.receive_into(memoryview(bytearray(1)))
                with pytest.raises(anyio.BusyResourceError):
                    await first.send(b"x")
                tasks.cancel_scope.cancel()

    # Cancelling.

    async def test_a_cancelled_receive_loses_nothing(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            received = bytearray()
            buffer = memoryview(bytearray(1000))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.send, bytes(range(250)) * 400)
                while len(received) < 100_000:
                    with anyio.CancelScope() as scope:
                        if len(received) % 3 == 0:
                            scope.cancel()
                        if len(received) % 2:
                            received += await second.receive(777)
                        else:
                            size = await second.receive_into(buffer)
                            received += buffer[:size]
                    if scope.cancelled_caught:
                        with anyio.fail_after(5):
                            received += await second.receive(1)
            assert bytes(received) == bytes(range(250)) * 400

    async def test_a_receive_cancelled_as_the_bytes_come_loses_nothing(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            for turns in range(12):
                cancelled = anyio.CancelScope()
                got: list[bytes] = []

                async def receive(cancelled: anyio.CancelScope, got: list[bytes]) -> None:
                    buffer = memoryview(bytearray(3))
                    with cancelled:
                        size = await second.receive_into(buffer)
                        got.append(bytes(buffer[:size]))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(receive, cancelled, got)
                    await settled()
                    await first.send(b"hello")
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    cancelled.cancel()
                rest = b"".join(got)
                assert rest + await receive_exactly(second, 5 - len(rest)) == b"hello"

    async def test_a_send_cancelled_in_the_middle_resets_the_stream(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(first.send, bytes(self.large))
                    await settled()
                    scope.cancel()
            with pytest.raises(anyio.BrokenResourceError):
                await first.send(b"x")
            with pytest.raises(anyio.BrokenResourceError):
                await receive_all(second)

    async def test_a_cancelled_accept_or_open_loses_nothing(self) -> None:
        async with self.connected() as ends:
            with anyio.move_on_after(0):
                await ends[1].accept_stream()
            await stream_pair(ends)
