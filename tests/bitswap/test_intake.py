"""Received blocks on their way: in turns, and not for long when their peer is cut."""

from collections.abc import Callable, Sequence

import anyio
import pytest

from stack.bitswap.events import PeerCut, UnwantedBlock
from stack.bitswap.messages import BLOCKS_PER_MESSAGE_MAX, BlockPrefix, OutgoingMessage, Payload
from stack.bitswap.offences import COPIES_BYTES_MAX, COPY_BYTES, UNWANTED_BLOCKS_MAX
from stack.bitswap.shell import intake as intake_module
from stack.bitswap.shell.call import FetchCall
from stack.bitswap.shell.intake import Arrival, Intake
from stack.bitswap.verify import Verdict
from stack.bitswap.wants import SessionId, WantedBlocks
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from tests.bitswap.exchanges import Raw, nodes, some_blocks
from tests.bitswap.simulation import peer_named
from tests.net.hosts import settled

MANY, FEW = peer_named("many"), peer_named("few")
PREFIX = BlockPrefix(1, 0x55, 0x12, 32)
NOTHING = Cid.of(b"", hash="sha3-256")


def arrival(peer: PeerId, blocks: int) -> Arrival:
    return Arrival(peer=peer, told=None, blocks=[Payload(PREFIX, memoryview(b"x"))] * blocks, loan=None)


class Handler:
    """Writes down whose blocks it is told of."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.peers: list[PeerId] = []
        self.then = then

    def handle_verdict(self, arrival: Arrival, verdict: Verdict) -> bool:
        self.peers.append(arrival.peer)
        self.then()
        return False

    def handle_end(self, arrival: Arrival) -> None: ...

    def settle(self) -> None: ...


async def handled(intake: Intake, handler: Handler, count: int) -> Sequence[PeerId]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(intake.verify)
        await settled(lambda: not intake._waiting)
        tasks.start_soon(intake.deliver)
        await settled(lambda: len(handler.peers) >= count)
        intake.close()
        tasks.cancel_scope.cancel()
    intake.clear()
    assert intake._unlent == 0
    return handler.peers


@pytest.mark.anyio
async def test_verified_blocks_are_acted_upon_in_turns_by_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of one peer's came before everybody's."""
    monkeypatch.setattr(intake_module, "TURN_SECONDS", 0.0)
    handler = Handler()
    intake = Intake(WantedBlocks(), handler)
    for _ in range(3):
        intake.add(arrival(MANY, 100))
    intake.add(arrival(FEW, 10))
    peers = await handled(intake, handler, 310)
    assert peers.count(MANY) == 300
    assert [index for index, peer in enumerate(peers) if peer == FEW][-1] < 25


@pytest.mark.anyio
async def test_a_peer_that_is_dropped_has_nothing_hashed_any_more() -> None:
    handler = Handler()
    intake = Intake(WantedBlocks(), handler)
    for _ in range(3):
        intake.add(arrival(MANY, 100))
    intake.add(arrival(FEW, 10))
    intake.drop(MANY)
    assert await handled(intake, handler, 10) == [FEW] * 10


@pytest.mark.anyio
async def test_attack_copies_of_a_block_without_bytes_are_counted_and_the_rest_is_passed_over() -> None:
    """They were free: a peer that was asked for an empty block held the loop with copies of it."""
    blocks = some_blocks(1)
    async with nodes([], []) as [here, there]:
        raw = Raw(there.host)
        async with (
            here.exchange.session(NOTHING, providers=[there.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.fetch, [NOTHING, blocks[0][0]], lambda cid, data: None)
            await raw.received(1)
            with pytest.raises((anyio.BrokenResourceError, anyio.ClosedResourceError)):
                while True:
                    copies = [(NOTHING, b"")] * BLOCKS_PER_MESSAGE_MAX
                    await raw.send(here.host, OutgoingMessage(blocks=copies))
            await settled(lambda: not here.host.is_connected(there.host.peer_id))
            await settled(lambda: here.exchange._receiver.used == 0)
            tasks.cancel_scope.cancel()
        assert not here.exchange._intake._waiting and not here.exchange._intake._verified
        looked_at = [event for event in here.events if isinstance(event, UnwantedBlock)]
        assert len(looked_at) == COPIES_BYTES_MAX // COPY_BYTES + UNWANTED_BLOCKS_MAX + 1
        assert sum(isinstance(event, PeerCut) for event in here.events) == 1


class Owner:
    """A session, to its calls."""

    id = SessionId(1)

    def put_later(self, call: FetchCall | None, cid: Cid, data: bytes) -> None: ...
    def fail(self, error: Exception) -> None: ...


def test_a_sink_that_raised_has_failed_whichever_copy_the_loop_hears_of_first() -> None:
    (cid, data), (other, _) = some_blocks(2)
    calls = 0

    def sink(cid: Cid, data: memoryview) -> None:
        nonlocal calls
        calls += 1
        raise OSError("no space")

    call = FetchCall(Owner(), [cid, other], sink)
    for each in (cid, cid, other):
        with pytest.raises(OSError, match="no space"):
            call.take(each, memoryview(data))
    assert calls == 1
    call.ended = True
    call.take(cid, memoryview(data))
