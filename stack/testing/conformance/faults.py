"""What everything that moves bytes must do on a bad line, whatever happens to it at whatever moment.

Loopback's buffers are never full and its connections never break in the middle, so what was only tried there has not been tried
where it waits. A test class derives from `FaultConformance` and says what is to be done over a line.
"""

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from stack.errors import StackError
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.multiformats.multiaddr import Multiaddr
from stack.security.interfaces import Security
from stack.streams.interfaces import RawStream, SecureChannel
from stack.streams.sealed import SealedStream
from stack.testing.lines import Fault, Line, Wire, line_stream_pair
from stack.testing.streams import receive_exactly

HERE, THERE = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")

LINES = {
    "that takes a little at a time": Line(),
    "that is full at once": Line(capacity=1000, piece=400),
    "that can only be waited for": Line(direct=False, capacity=1000),
    "that is slow and far": Line(rate=4_000_000, delay=0.002),
}
"""Nothing is lost on any of them."""

PATIENCE_SECONDS = 10.0
"""For what has to end; also on a machine that has other things to do."""

QUIET_TURNS = 50
"""Nobody has moved for so long: whoever is not done waits for the line."""


@pytest.mark.anyio
class FaultConformance:
    """The checks. `talk` does everything over a line; `check` sees that nothing is left; `endings` are the errors that a line
    that fails may cause."""

    endings: tuple[type[Exception], ...] = (
        StackError,
        anyio.BrokenResourceError,
        anyio.ClosedResourceError,
        anyio.EndOfStream,
    )
    moments = 25
    """At how many moments of a talk each fault happens."""

    async def talk(self, line: Line, wires: list[Wire]) -> None:
        """Connect over `line`, do all there is, close; add each wire to `wires` when it is made. What was sent is to arrive unchanged."""
        raise NotImplementedError

    def check(self) -> None:
        """Nothing that a talk took is held any more."""

    @pytest.mark.parametrize("which", LINES)
    async def test_everything_arrives_over_a_line(self, which: str) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.talk(LINES[which], [])
        self.check()

    @pytest.mark.parametrize("direct", [True, False])
    @pytest.mark.parametrize("fault", [Fault.RESET, Fault.HALF_CLOSE])
    async def test_a_line_that_breaks_at_any_moment_is_told_and_keeps_nobody(self, fault: Fault, direct: bool) -> None:
        await self._at_any_moment(fault, direct, self._broken)

    @pytest.mark.parametrize("direct", [True, False])
    async def test_who_is_cancelled_while_a_line_stands_still_lets_go_of_everything(self, direct: bool) -> None:
        await self._at_any_moment(Fault.STAND_STILL, direct, self._given_up)

    async def _at_any_moment(
        self, fault: Fault, direct: bool, outcome: Callable[[Line, list[Wire]], Awaitable[None]]
    ) -> None:
        line = Line(capacity=4000, direct=direct)
        wires: list[Wire] = []
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.talk(line, wires)
        steps = max(wire.steps for wire in wires)
        for step in range(1, steps + 1, max(1, steps // self.moments)):
            with anyio.fail_after(PATIENCE_SECONDS):
                await outcome(Line(capacity=4000, direct=direct, fault=fault, step=step), [])
            self.check()

    async def _broken(self, line: Line, wires: list[Wire]) -> None:
        try:
            await self.talk(line, wires)
        except* self.endings:
            pass

    async def _given_up(self, line: Line, wires: list[Wire]) -> None:
        """Cancel the talk when it has come to its end, or does not go on."""
        over = anyio.Event()

        async def talk() -> None:
            await self._broken(line, wires)
            over.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            quiet, seen = 0, -1
            while quiet < QUIET_TURNS and not over.is_set():
                await anyio.lowlevel.checkpoint()
                steps = sum(wire.steps for wire in wires)
                quiet, seen = (quiet + 1, seen) if steps == seen else (0, steps)
            tasks.cancel_scope.cancel()


def ends_of(line: Line, wires: list[Wire]) -> tuple[RawStream, RawStream]:
    """Both ends of a connection over `line`, its wire noted down."""
    first, second = line_stream_pair(HERE, THERE, line)
    wires.append(first.wire)
    return first, second


class SecurityConformance(FaultConformance):
    """What every security protocol must do. `security` makes one for a key."""

    said = (bytes(range(251)) * 150, bytes(range(241)) * 150)

    def security(self, key: PrivateKey) -> Security:
        """A row of the table, or one of yours."""
        raise NotImplementedError

    async def talk(self, line: Line, wires: list[Wire]) -> None:
        """A handshake, and both ends speak at once."""
        keys = generate(), generate()
        ends = ends_of(line, wires)
        heard = [b"", b""]

        async def side(number: int) -> None:
            channel = await self.security(keys[number]).upgrade(
                ends[number], outbound=not number, expected=PeerId.of(keys[1 - number].public), muxers=["/a", "/b"]
            )
            self._check_channel(channel, keys[number], keys[1 - number])
            stream = SealedStream(channel)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.send_all, memoryview(self.said[number]))
                heard[number] = await receive_exactly(stream, len(self.said[1 - number]))

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(side, 0)
                tasks.start_soon(side, 1)
        finally:
            for end in ends:
                with anyio.CancelScope(shield=True):
                    await end.aclose()
        assert (heard[1], heard[0]) == self.said

    def _check_channel(self, channel: SecureChannel, ours: PrivateKey, theirs: PrivateKey) -> None:
        assert (channel.local_peer, channel.remote_peer) == (PeerId.of(ours.public), PeerId.of(theirs.public))
        assert channel.remote_key == theirs.public

    @pytest.mark.parametrize("expecting", [0, 1])
    async def test_another_peer_than_was_expected_is_an_error_at_that_end(self, expecting: int) -> None:
        keys, other = (generate(), generate()), PeerId.of(generate().public)
        ends = line_stream_pair(HERE, THERE)

        async def side(number: int) -> None:
            security = self.security(keys[number])
            expected = other if number == expecting else None
            try:
                await security.upgrade(ends[number], outbound=not number, expected=expected, muxers=[])
                assert number != expecting
            except PeerIdMismatch as error:
                assert (error.expected, error.actual) == (other, PeerId.of(keys[1 - number].public))
            except self.endings:
                assert number != expecting
            finally:
                await ends[number].aclose()

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(side, 0)
                tasks.start_soon(side, 1)
