"""Attack 9: slow, lying, silent and dripping providers cost at most 1.5 times the time that it takes without them."""

from collections.abc import Sequence

import pytest

from stack.bitswap.interfaces import Order
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from tests.bitswap.simulation import KIB, MIB, SimPeer, cid_of
from tests.sim.simnet import Link, SimNet

HONEST = 2
BAD = 6
RATE = 8 * MIB
"""Of each honest provider."""
READ_AHEAD = 16 * MIB
"""As `stack cat` reads: four batches of 4 MiB."""
DRIP = 16 * KIB
"""What counts as a sign of life (`PROGRESS_BYTES`); who drips sends it every four seconds, just before it would have stalled."""


def seconds(kinds: Sequence[str], order: Order, blocks: int, size: int, *, ahead: int = 0) -> float:
    """How long a fetch takes that knows some honest providers and so many of each of these kinds. With `ahead` it is read in
    order, and so many bytes are asked for at a time."""
    net: SimNet[PeerId] = SimNet(1, default=Link(latency=0.02))
    cids = [cid_of(index) for index in range(blocks)]
    receiver = SimPeer(net, "receiver")
    providers = [SimPeer(net, f"honest {index}", upload=RATE) for index in range(HONEST)]
    for kind in kinds:
        for index in range(BAD):
            peer = SimPeer(net, f"{kind} {index}", upload=DRIP / 4 if kind.startswith("drips") else RATE)
            peer.mute, peer.lies, peer.denies = kind == "is silent", kind == "lies", kind == "denies"
            if kind == "is slow":
                net._nodes[peer.peer].upload = 128 * KIB
            if kind.startswith("drips"):
                peer.drips = DRIP
            if kind == "drips later":
                start_well(net, peer)
            providers.insert(0, peer)
    if not ahead:
        session = receiver.fetch(cids, order=order)
    else:
        first = ahead // size
        session = receiver.fetch(cids[:first], order=order)
        read_on(receiver, cids, first, 4 * MIB // size)
    for provider in providers:
        provider.share(cids, size)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=3600)
    return net.now


def read_on(receiver: SimPeer, cids: Sequence[Cid], asked: int, batch: int) -> None:
    """Whenever the oldest batch has come, another one is asked for."""
    state = [0, asked]

    def next_batch(multihash: bytes) -> None:
        assert receiver.session is not None
        while state[1] < len(cids) and all(
            cid.multihash in receiver.blocks for cid in cids[state[0] : state[0] + batch]
        ):
            receiver.session.want(cids[state[1] : state[1] + batch])
            state[0], state[1] = state[0] + batch, state[1] + batch

    receiver.on_block = next_batch


def start_well(net: SimNet[PeerId], peer: SimPeer) -> None:
    """It is as fast as the honest ones for a second, so that it is trusted with a large window, and drips from then on."""
    node = net._nodes[peer.peer]
    node.upload = RATE

    def drip() -> None:
        node.upload = DRIP / 4

    net.call_at(1.0, drip)


KINDS = [["is slow"], ["lies"], ["is silent"], ["denies"], ["drips"], ["drips later"]]
ALL = ["is slow", "lies", "is silent", "denies", "drips"]


@pytest.mark.parametrize("size", [256 * KIB, MIB])
@pytest.mark.parametrize("kinds", [*KINDS, ALL], ids=" and ".join)
def test_attack_9_bad_providers_cost_a_fetch_at_most_half_of_its_time(kinds: list[str], size: int) -> None:
    blocks = 128 * MIB // size
    without = seconds([], Order.SPREAD, blocks, size)
    assert seconds(kinds, Order.SPREAD, blocks, size) <= 1.5 * without


@pytest.mark.parametrize("size", [256 * KIB, MIB])
@pytest.mark.parametrize("kinds", [*KINDS, ALL], ids=" and ".join)
def test_attack_9_bad_providers_cost_a_reader_at_most_half_of_its_time(kinds: list[str], size: int) -> None:
    blocks = 128 * MIB // size
    without = seconds([], Order.FILE, blocks, size, ahead=READ_AHEAD)
    assert seconds(kinds, Order.FILE, blocks, size, ahead=READ_AHEAD) <= 1.5 * without
