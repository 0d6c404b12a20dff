"""What every muxed connection must do as a whole; see `stack.testing.conformance.muxers` for its streams."""

from contextlib import AbstractAsyncContextManager

import anyio
import anyio.lowlevel
import pytest

from stack.errors import LimitExceeded
from stack.sansio.budget import Resource, Scope
from stack.streams.interfaces import MuxedConnection, MuxedStream
from stack.testing.streams import Ends, receive_all, settled, stream_pair

LARGE = 3 << 20
"""More than any first window."""


@pytest.mark.anyio
class ConnectionConformance:
    """The checks. `connected` is to run both ends until the block is left; `budgets` are the scopes they draw from."""

    budgets: tuple[Scope, Scope]
    large = LARGE
    """Bytes; less where the first window is small, and each costs much."""

    def connected(self) -> AbstractAsyncContextManager[Ends]:
        """Two ends, both running; the first one dialled."""
        raise NotImplementedError

    def nothing_is_left(self) -> bool:
        """Whether both ends have given everything back."""
        return all(budget.used(resource) == 0 for budget in self.budgets for resource in Resource)

    async def test_a_ping_measures_the_round_trip(self) -> None:
        async with self.connected() as ends:
            assert 0 <= await ends[0].ping() < 10
            assert 0 <= await ends[1].ping() < 10

    async def test_both_ends_know_each_other(self) -> None:
        async with self.connected() as ends:
            assert ends[0].remote_peer != ends[1].remote_peer
            assert ends[0].remote_key != ends[1].remote_key
            assert ends[0].local_address == ends[1].remote_address
            assert ends[0].remote_address == ends[1].local_address

    async def test_closing_the_connection_ends_everything_at_both_ends(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            async with anyio.create_task_group() as tasks:

                async def accept(end: MuxedConnection) -> None:
                    with pytest.raises(anyio.EndOfStream):
                        await end.accept_stream()

                async def ping(end: MuxedConnection) -> None:
                    with pytest.raises(anyio.BrokenResourceError):
                        while True:
                            await end.ping()

                async def receive(stream: MuxedStream) -> None:
                    with pytest.raises(anyio.BrokenResourceError):
                        await stream.receive()

                for end in ends:
                    tasks.start_soon(accept, end)
                    tasks.start_soon(ping, end)
                for stream in (first, second):
                    tasks.start_soon(receive, stream)
                await settled()
                await ends[0].aclose()
                await ends[0].aclose()
            for end in ends:
                assert end.closed
                with pytest.raises(anyio.BrokenResourceError):
                    await end.open_stream()
                with pytest.raises(anyio.BrokenResourceError):
                    await end.ping()
            for stream in (first, second):
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.send(b"x")
        assert self.nothing_is_left()

    async def test_what_came_before_the_connection_ended_can_still_be_read(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            await first.send(bytes(200_000))
            await first.aclose()
            await ends[0].aclose()
            while not ends[1].closed:
                await anyio.lowlevel.checkpoint()
            assert len(await receive_all(second)) == 200_000
            await second.aclose()
        assert self.nothing_is_left()

    async def test_everything_is_given_back_when_the_connection_is_left_in_the_middle(self) -> None:
        async with self.connected() as ends:
            first, second = await stream_pair(ends)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.send, bytes(self.large))
                await settled()
                tasks.cancel_scope.cancel()
            await stream_pair((ends[1], ends[0]))
            await second.aclose()
        assert self.nothing_is_left()

    async def test_the_budget_bounds_the_streams_we_open(self) -> None:
        async with self.connected() as ends:
            budget = self.budgets[0]
            filler = budget.reserve(Resource.STREAMS_OUT, (budget.limit(Resource.STREAMS_OUT) or 0) - 1)
            stream = await ends[0].open_stream()
            with pytest.raises(LimitExceeded):
                await ends[0].open_stream()
            stream.reset()
            await stream.aclose()
            await (await ends[0].open_stream()).aclose()
            filler.release()
