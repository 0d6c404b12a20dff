"""A QUIC connection does what every multiplexed connection must."""

from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from stack.sansio.budget import Scope
from stack.testing.conformance.muxers import MuxerConformance
from stack.testing.streams import Ends, receive_exactly
from tests.transports.quic.ends import LIMITS, connected


@pytest.mark.anyio
class TestQuic(MuxerConformance):
    large = 600_000

    def connected(self) -> AbstractAsyncContextManager[Ends]:
        self.budgets = (Scope("first", LIMITS), Scope("second", LIMITS))
        return connected(self.budgets)

    async def test_a_stream_is_accepted_though_nothing_was_sent_on_it(self) -> None:
        """QUIC tells of a stream with its first byte only (RFC 9000, 2.1), as the others do."""
        async with self.connected() as ends:
            opened = await ends[0].open_stream()
            with anyio.move_on_after(0.05) as waiting:
                await ends[1].accept_stream()
            assert waiting.cancelled_caught
            await opened.send(b"welcome")
            assert await receive_exactly(await ends[1].accept_stream(), 7) == b"welcome"
