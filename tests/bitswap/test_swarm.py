"""Many simulated peers: fast, slow, stalling, lying, refusing ones; swarms in which receivers trade."""

from random import Random

import pytest

from stack.bitswap.interfaces import Order
from stack.identity.peer_id import PeerId
from tests.bitswap.simulation import KIB, MIB, SimPeer, SimSwarm, cid_of
from tests.sim.simnet import Link, SimNet

SIZE = 256 * KIB


def make_net(latency: float = 0.01) -> SimNet[PeerId]:
    return SimNet(1, default=Link(latency=latency))


def test_one_provider_gives_everything_at_the_rate_of_its_line() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(1024)]
    provider, receiver = SimPeer(net, "provider", upload=32 * MIB), SimPeer(net, "receiver")
    provider.share(cids, SIZE)
    receiver.connect(provider)
    session = receiver.fetch(cids)
    session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=60)
    assert net.now < 1.1 * 8
    assert len(provider.sent_blocks) == 1024


def test_a_long_way_does_not_slow_down_a_wide_line() -> None:
    net = make_net(latency=0.1)
    cids = [cid_of(index) for index in range(4096)]
    provider, receiver = SimPeer(net, "provider", upload=64 * MIB), SimPeer(net, "receiver")
    provider.share(cids, SIZE)
    receiver.connect(provider)
    receiver.fetch(cids).add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=120)
    assert net.now < 1.25 * 16  # 1 GiB at 64 MiB/s, with 200 ms round trips


def test_four_providers_give_four_times_as_much_as_one() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(2048)]
    receiver = SimPeer(net, "receiver")
    providers = [SimPeer(net, f"provider {index}", upload=16 * MIB) for index in range(4)]
    session = receiver.fetch(cids)
    for provider in providers:
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=60)
    assert 512 / net.now > 0.9 * 4 * 16
    assert sum(len(provider.sent_blocks) for provider in providers) <= 2048 + 16


def test_a_slow_provider_does_not_hold_up_the_end() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(1024)]
    fast, slow = SimPeer(net, "fast", upload=32 * MIB), SimPeer(net, "slow", upload=128 * KIB)
    receiver = SimPeer(net, "receiver")
    session = receiver.fetch(cids)
    for provider in (fast, slow):
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=120)
    assert net.now < 1.3 * 8
    assert len(receiver.received) == 1024


def test_B7_a_provider_that_stalls_costs_at_most_five_seconds() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(2048)]
    receiver = SimPeer(net, "receiver")
    providers = [SimPeer(net, f"provider {index}", upload=16 * MIB) for index in range(2)]
    session = receiver.fetch(cids)
    for provider in providers:
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    net.call_at(5.0, lambda: net.freeze(providers[0].peer))
    assert net.run(lambda: receiver.done, seconds=120)
    # 160 MiB until then, the other 352 MiB at 16 MiB/s
    assert net.now < 5 + 22 + 5
    assert session.reports()[0].stalled


def test_B7_a_provider_that_never_answers_costs_at_most_five_seconds() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(64)]
    receiver = SimPeer(net, "receiver")
    mute, good = SimPeer(net, "mute"), SimPeer(net, "good", upload=16 * MIB)
    mute.mute = True
    session = receiver.fetch(cids)
    for provider in (mute, good):
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=60)
    assert net.now < 5 + 1.5


def test_a_lone_provider_that_slept_goes_on_where_it_was() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(1024)]
    provider, receiver = SimPeer(net, "provider", upload=32 * MIB), SimPeer(net, "receiver")
    provider.share(cids, SIZE)
    receiver.connect(provider)
    receiver.fetch(cids).add_peer(provider.peer)
    receiver.drain()
    net.call_at(2.0, lambda: net.freeze(provider.peer))
    net.call_at(62.0, lambda: net.thaw(provider.peer))
    assert net.run(lambda: receiver.done, seconds=200)
    assert net.now < 62 + 8
    assert len(provider.sent_blocks) < 1024 + 64


def test_a_provider_that_comes_back_after_a_lost_connection_goes_on() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(512)]
    provider, receiver = SimPeer(net, "provider", upload=32 * MIB), SimPeer(net, "receiver")
    provider.share(cids, SIZE)
    receiver.connect(provider)
    receiver.fetch(cids).add_peer(provider.peer)
    receiver.drain()
    net.call_at(2.0, lambda: receiver.disconnect(provider))
    net.call_at(12.0, lambda: receiver.connect(provider))
    assert net.run(lambda: receiver.done, seconds=200)
    assert net.now < 12 + 3


def test_B6_a_provider_that_lies_is_dropped_and_reported_and_the_others_finish() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(256)]
    receiver = SimPeer(net, "receiver")
    liar, good = SimPeer(net, "liar", upload=64 * MIB), SimPeer(net, "good", upload=16 * MIB)
    liar.lies = True
    session = receiver.fetch(cids)
    for provider in (liar, good):
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=60)
    assert receiver.dropped == {liar.peer: "sent a wrong block"}
    report = next(report for report in session.reports() if report.peer == liar.peer)
    assert report.dropped == "sent a wrong block"
    assert report.wrong_blocks >= 1
    assert net.now < 5


def test_a_peer_that_has_nothing_loses_its_rank_and_little_time() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(2048)]
    receiver = SimPeer(net, "receiver")
    empty, good = SimPeer(net, "empty"), SimPeer(net, "good", upload=32 * MIB)
    empty.denies = True
    session = receiver.fetch(cids)
    for provider in (empty, good):
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=60)
    assert net.now < 1.1 * 16
    assert sum(peer == empty.peer for _, peer, _ in receiver.asked) < 40


def test_providers_that_join_later_help() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(2048)]
    receiver = SimPeer(net, "receiver")
    providers = [SimPeer(net, f"provider {index}", upload=8 * MIB) for index in range(4)]
    for provider in providers:
        provider.share(cids, SIZE)
    session = receiver.fetch(cids)

    def join(provider: SimPeer) -> None:
        receiver.connect(provider)
        session.add_peer(provider.peer)
        receiver.drain()

    for index, provider in enumerate(providers):
        net.call_at(4.0 * index, lambda provider=provider: join(provider))
    assert net.run(lambda: receiver.done, seconds=100)
    # 32 + 64 + 96 MiB in the first 12 s, then 320 MiB at 32 MiB/s
    assert net.now < 1.1 * (12 + 10)


def test_the_order_of_the_file_is_kept_for_those_who_watch() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(512)]
    receiver = SimPeer(net, "receiver")
    providers = [SimPeer(net, f"provider {index}", upload=(index + 1) * 4 * MIB) for index in range(3)]
    session = receiver.fetch(cids, order=Order.FILE)
    arrived: list[int] = []
    number = {cid.multihash: index for index, cid in enumerate(cids)}
    receiver.on_block = lambda multihash: arrived.append(number[multihash])
    for provider in providers:
        provider.share(cids, SIZE)
        receiver.connect(provider)
        session.add_peer(provider.peer)
    receiver.drain()
    assert net.run(lambda: receiver.done, seconds=60)
    late = [abs(position - place) for place, position in enumerate(arrived)]
    assert max(late) < 100  # what three windows hold


def test_receivers_trade_so_that_the_seeder_sends_little_more_than_one_copy() -> None:
    net = make_net(latency=0.002)
    cids = [cid_of(index) for index in range(512)]
    swarm = SimSwarm(net, cids, MIB, receivers=5, upload=50 * MIB, seeder_upload=100 * MIB)
    assert net.run(lambda: swarm.union_complete, seconds=100)
    assert net.bytes_sent[swarm.seeders[0].peer] < 1.3 * 512 * MIB
    assert max(len(receiver.blocks) for receiver in swarm.receivers) <= 0.9 * 512
    seeder = swarm.seeders[0]
    for receiver in swarm.receivers:
        receiver.disconnect(seeder)
    assert net.run(lambda: swarm.done, seconds=100)


def test_eight_receivers_of_a_slow_seeder_take_little_longer_than_one() -> None:
    net = make_net(latency=0.002)
    cids = [cid_of(index) for index in range(64)]
    swarm = SimSwarm(net, cids, MIB, receivers=8, upload=4_000_000)
    assert net.run(lambda: swarm.union_complete, seconds=100)
    assert net.bytes_sent[swarm.seeders[0].peer] < 1.3 * 64 * MIB
    for receiver in swarm.receivers:
        receiver.disconnect(swarm.seeders[0])
    assert net.run(lambda: swarm.done, seconds=100)
    assert net.now < 1.4 * 64 * MIB / 4_000_000


def test_receivers_trade_where_leaves_have_no_numbers_too() -> None:
    net = make_net(latency=0.002)
    cids = [cid_of(index) for index in range(512)]
    swarm = SimSwarm(net, cids, MIB, receivers=4, upload=50 * MIB, seeder_upload=100 * MIB, numbered=False)
    assert net.run(lambda: swarm.union_complete, seconds=100)
    assert net.bytes_sent[swarm.seeders[0].peer] < 2 * 512 * MIB
    for receiver in swarm.receivers:
        receiver.disconnect(swarm.seeders[0])
    assert net.run(lambda: swarm.done, seconds=100)


@pytest.mark.parametrize("receivers", [1, 3, 5])
def test_more_receivers_take_hardly_longer_than_one(receivers: int) -> None:
    net = make_net(latency=0.002)
    cids = [cid_of(index) for index in range(256)]
    swarm = SimSwarm(net, cids, MIB, receivers=receivers, upload=32 * MIB)
    assert net.run(lambda: swarm.done, seconds=200)
    assert net.now < 1.6 * 8


def test_a_swarm_survives_peers_that_come_and_go() -> None:
    net = make_net(latency=0.02)
    cids = [cid_of(index) for index in range(256)]
    swarm = SimSwarm(net, cids, 256 * KIB, seeders=2, receivers=4, upload=4 * MIB)
    random = Random(7)

    def shake() -> None:
        first, second = random.sample([*swarm.seeders, *swarm.receivers], 2)
        if second.peer in first.others:
            first.disconnect(second)
        else:
            first.connect(second)
        if not swarm.done:
            net.call_later(0.3, shake)

    shake()
    assert net.run(lambda: swarm.done, seconds=600)
    assert all(len(receiver.blocks) == 256 for receiver in swarm.receivers)


def test_broadcast_finds_who_has_it_and_asks_nobody_else_for_blocks() -> None:
    net = make_net()
    cids = [cid_of(index) for index in range(100)]
    receiver = SimPeer(net, "receiver")
    strangers = [SimPeer(net, f"stranger {index}") for index in range(5)]
    strangers[3].share(cids, SIZE)
    for stranger in strangers:
        receiver.connect(stranger)
    receiver.fetch(cids, broadcast=True)
    assert net.run(lambda: receiver.done, seconds=10)
    assert all(not stranger.sent_blocks for stranger in strangers if stranger is not strangers[3])
    for stranger in strangers:
        if stranger is not strangers[3]:
            assert sum(peer == stranger.peer for _, peer, _ in receiver.asked) <= 4


def test_without_broadcast_strangers_hear_nothing() -> None:
    net = make_net()
    receiver, stranger = SimPeer(net, "receiver"), SimPeer(net, "stranger")
    stranger.share([cid_of(1)], SIZE)
    receiver.connect(stranger)
    receiver.fetch([cid_of(1)])
    assert not net.run(lambda: receiver.done, seconds=10)
    assert receiver.asked == []
