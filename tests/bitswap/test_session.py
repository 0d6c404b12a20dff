"""The session machine by itself: facts in, effects out."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.bitswap.effects import Ask, Connect, Effect, PeerDropped, Withdraw
from stack.bitswap.interfaces import Order
from stack.bitswap.session import SessionMachine
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_peers import SessionPeers
from stack.bitswap.session_pool import WantPool
from stack.bitswap.session_want import PeerState, SessionWant
from stack.bitswap.size_estimate import SizeEstimate
from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.protocols.providers.ranges import LeafRanges
from tests.bitswap.simulation import KIB, MIB, cid_of, peer_named

ALICE, BOB, CAROL, DAVE = (peer_named(name) for name in ("alice", "bob", "carol", "dave"))
CIDS = [cid_of(index) for index in range(3000)]
NUMBER = {cid.multihash: index for index, cid in enumerate(CIDS)}
SIZE = 256 * KIB


class Fetch:
    """A session whose effects are applied to plain books."""

    def __init__(
        self,
        count: int,
        *ready: PeerId,
        order: Order = Order.FILE,
        broadcast: bool | float = False,
        leaves: bool = False,
        **parameters: float,
    ) -> None:
        self.machine = SessionMachine(
            Random(5),
            order=order,
            broadcast=None if broadcast is False else 0.0 if broadcast is True else broadcast,
            parameters=SessionParameters(**{"window_first": 1 << 30, "window_together": 0, **parameters}),  # type: ignore[arg-type]
        )
        self.now = 100.0
        self.owed: dict[PeerId, dict[int, None]] = defaultdict(dict)
        self.log: list[Effect] = []
        for peer in ready:
            self.machine.peer_connected(peer)
            self.machine.add_peer(peer)
        self.machine.want(CIDS[:count], range(count) if leaves else None)

    def drain(self) -> list[Effect]:
        """All effects of now."""
        fresh: list[Effect] = []
        while (effect := self.machine.next_effect(self.now)) is not None:
            fresh.append(effect)
            match effect:
                case Ask(peer=peer, cids=cids, have=False):
                    self.owed[peer].update((NUMBER[cid.multihash], None) for cid in cids)
                case Withdraw(peer=peer, cids=cids):
                    for cid in cids:
                        self.owed[peer].pop(NUMBER[cid.multihash], None)
                case PeerDropped(peer=peer):
                    self.owed[peer].clear()
        self.log += fresh
        return fresh

    def peer(self, peer: PeerId) -> SessionPeer:
        """What the session knows of one that it knows."""
        known = self.machine._peers.get(peer)
        assert known is not None
        return known

    def asked(self) -> dict[PeerId, list[int]]:
        """Whom the session asks now, and for what."""
        asked: dict[PeerId, list[int]] = defaultdict(list)
        for effect in self.drain():
            if isinstance(effect, Ask) and not effect.have:
                asked[effect.peer] += [NUMBER[cid.multihash] for cid in effect.cids]
        return dict(asked)

    def withdrawn(self) -> dict[PeerId, list[int]]:
        withdrawn: dict[PeerId, list[int]] = defaultdict(list)
        for effect in self.drain():
            if isinstance(effect, Withdraw):
                withdrawn[effect.peer] += [NUMBER[cid.multihash] for cid in effect.cids]
        return dict(withdrawn)

    def block(self, peer: PeerId, number: int, size: int = SIZE, *, after: float = 0.0) -> None:
        self.now += after
        self.owed[peer].pop(number, None)
        self.machine.receive_block(peer, CIDS[number].multihash, size, self.now)

    def refuse(self, peer: PeerId, number: int) -> None:
        self.owed[peer].pop(number, None)
        self.machine.receive_presence(peer, CIDS[number].multihash, self.now, have=False)

    def have(self, peer: PeerId, number: int) -> None:
        self.machine.receive_presence(peer, CIDS[number].multihash, self.now, have=True)

    def ranges(self, peer: PeerId, count: int, *runs: tuple[int, int]) -> None:
        ranges = LeafRanges(count)
        for start, end in runs:
            ranges.add(start, end)
        self.machine.receive_ranges(peer, ranges)

    def wait(self, seconds: float) -> dict[PeerId, list[int]]:
        """Let time pass, with time-outs as they fall due; returns whom it asks meanwhile."""
        until = self.now + seconds
        asked: dict[PeerId, list[int]] = self.asked()
        for _ in range(10_000):
            deadline = self.machine.next_timeout()
            if deadline is None or deadline > until:
                break
            self.now = max(self.now, deadline)
            self.machine.handle_timeout(self.now)
            for peer, numbers in self.asked().items():
                asked.setdefault(peer, []).extend(numbers)
        else:
            raise AssertionError("time-outs do not move")
        self.now = until
        return asked


# whom to ask


def test_a_session_that_has_been_told_nothing_has_nothing_to_do() -> None:
    machine = SessionMachine(Random(5))
    assert machine.next_effect(0.0) is None
    assert machine.next_timeout() is None


def test_lacking_is_what_all_who_could_be_asked_say_they_have_not_got() -> None:
    fetch = Fetch(3, ALICE, BOB)

    def lacking(*numbers: int) -> bool:
        fetch.drain()
        return fetch.machine.lacking([CIDS[number].multihash for number in numbers])

    assert not lacking(1)
    fetch.refuse(ALICE, 1)
    assert not lacking(1), "Bob may have it"
    fetch.refuse(BOB, 1)
    assert lacking(1)
    assert not lacking(0, 1)
    assert fetch.wait(6.0), "it is asked for again"
    assert lacking(1)
    fetch.machine.peer_connected(CAROL)
    fetch.machine.add_peer(CAROL, full=False)
    assert lacking(1), "Carol has not said that she has it"
    fetch.have(CAROL, 1)
    assert not lacking(1)
    fetch.refuse(CAROL, 1)
    assert lacking(1)
    fetch.block(CAROL, 1)
    assert not lacking(1), "it is wanted no longer"


def test_nothing_is_lacking_while_somebody_is_connected_who_may_have_it() -> None:
    """`stack ls` did not know the size of what somebody had who was just being dialled."""
    fetch = Fetch(3, ALICE)

    def lacking(number: int) -> bool:
        fetch.drain()
        return fetch.machine.lacking([CIDS[number].multihash])

    fetch.drain()
    fetch.refuse(ALICE, 0)
    assert lacking(0)
    fetch.machine.add_peer(DAVE, full=False)
    assert lacking(0), "he has parts, and has not said which"
    fetch.machine.add_peer(BOB)
    assert Connect(peer=BOB) in fetch.drain()
    fetch.wait(20.0)
    assert not lacking(0), "however long that takes"
    fetch.machine.peer_unreachable(BOB, fetch.now)
    assert lacking(0)
    fetch.wait(1.0)
    assert fetch.peer(BOB).state is PeerState.DIALLING and lacking(0), "he was dialled in vain before"
    fetch.machine.peer_connected(BOB)
    fetch.drain()
    assert not lacking(0)
    fetch.block(BOB, 1)
    fetch.refuse(BOB, 0)
    assert lacking(0)
    fetch.machine.add_peer(CAROL)
    fetch.drain()
    fetch.machine.peer_connected(CAROL)
    assert not lacking(0)
    fetch.block(CAROL, 2)
    fetch.machine.peer_disconnected(CAROL, fetch.now)
    assert fetch.peer(CAROL).state is PeerState.KNOWN and lacking(0)
    fetch.wait(1.0)
    assert fetch.peer(CAROL).state is PeerState.DIALLING and not lacking(0), "the connection was lost"
    fetch.machine.peer_unreachable(CAROL, fetch.now)
    fetch.wait(1.0)
    assert lacking(0)


def test_a_new_session_asks_nobody() -> None:
    fetch = Fetch(3)
    assert fetch.drain() == []
    assert fetch.machine.next_timeout() is None
    assert fetch.machine.wanted == 3
    assert repr(fetch.machine) == "<SessionMachine 3 wants, 0 peers>"


def test_a_known_provider_is_connected_and_asked_at_once() -> None:
    fetch = Fetch(3)
    assert fetch.machine.add_peer(ALICE)
    assert fetch.drain() == [Connect(peer=ALICE)]
    assert fetch.drain() == []
    fetch.machine.peer_connected(ALICE)
    assert fetch.drain() == [Ask(peer=ALICE, cids=tuple(CIDS[:3]))]
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 1


def test_a_provider_that_is_connected_already_is_asked_at_once() -> None:
    fetch = Fetch(1)
    fetch.machine.peer_connected(ALICE)
    assert fetch.drain() == []
    fetch.machine.add_peer(ALICE)
    assert fetch.asked() == {ALICE: [0]}


def test_nobody_is_connected_while_nothing_is_wanted() -> None:
    fetch = Fetch(0)
    fetch.machine.add_peer(ALICE)
    assert fetch.drain() == []
    fetch.machine.want(CIDS[:1])
    assert fetch.drain() == [Connect(peer=ALICE)]


def test_a_want_that_stands_is_not_asked_again() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.machine.want(CIDS[:3])
    assert fetch.asked() == {ALICE: [2]}
    assert fetch.machine.wanted == 3


def test_the_first_window_is_four_mebibytes_of_the_guessed_size() -> None:
    fetch = Fetch(100, ALICE)
    assert fetch.asked() == {ALICE: list(range(16))}


def test_windows_count_the_sizes_that_have_been_seen() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    for number in range(16):
        fetch.block(ALICE, number, MIB, after=0.001)
    asked = fetch.asked()[ALICE]
    # the average moves by a tenth of the difference with each block
    assert 4 <= len(asked) <= 6


def test_large_blocks_are_reckoned_with_at_once() -> None:
    fetch = Fetch(3000, ALICE)
    fetch.drain()
    for number in range(16):
        fetch.block(ALICE, number, BLOCK_SIZE_MAX, after=0.0001)
    assert len(fetch.asked()[ALICE]) == 2


def test_small_blocks_are_reckoned_with_by_and_by() -> None:
    sizes = SizeEstimate(MIB)
    sizes.count(0)
    assert sizes.expected == int(0.9 * MIB)
    for _ in range(200):
        sizes.count(0)
    assert sizes.expected == 1
    sizes.count(5)
    assert sizes.expected == 5
    sizes.count(2 * BLOCK_SIZE_MAX)
    assert sizes.expected == BLOCK_SIZE_MAX


def test_the_small_nodes_at_the_top_of_a_dag_do_not_open_the_flood() -> None:
    fetch = Fetch(3000, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, 100, after=0.001)
    fetch.drain()
    fetch.block(ALICE, 1, MIB, after=0.001)
    asked = fetch.asked().get(ALICE, [])
    assert len(asked) <= 5


def test_one_peer_alone_is_asked_for_what_several_are_asked_for_together() -> None:
    alone = Fetch(3000, ALICE, window_min=4 * MIB, window_together=8 * MIB)
    assert len(alone.asked()[ALICE]) == 32
    both = Fetch(3000, ALICE, BOB, window_min=KIB, window_together=8 * MIB)
    assert {peer: len(asked) for peer, asked in both.asked().items()} == {ALICE: 16, BOB: 16}


def test_of_a_small_dag_a_part_is_asked_ahead_so_that_receivers_can_trade() -> None:
    little = Fetch(1600, ALICE, window_min=KIB, window_together=16 * MIB)
    assert len(little.asked()[ALICE]) == 25


def test_who_has_everything_is_spared_what_others_bring_fast_enough() -> None:
    full = SessionPeer(ALICE, SessionParameters(), full=True)
    part = SessionPeer(BOB, SessionParameters(), full=False)
    assert not full.may_be_spared(50.0)
    full.rate = part.rate = 100.0
    assert full.may_be_spared(50.0)
    assert not full.may_be_spared(49.0)
    assert not part.may_be_spared(50.0)


def test_what_those_with_parts_bring_counts_as_far_as_they_say_what_they_have_and_bring_it() -> None:
    peers = SessionPeers(SessionParameters())
    full, part, silent = (peers.add(peer, full=peer is ALICE) for peer in (ALICE, BOB, CAROL))
    assert full is not None and part is not None and silent is not None
    for peer in (full, part, silent):
        peer.state, peer.rate = PeerState.READY, 50.0
    part.ranges = full.ranges = LeafRanges(2)
    assert peers.parts_rate() == 50.0
    part.rate = None
    assert peers.parts_rate() == 0.0
    part.rate, part.stalled = 50.0, True
    assert peers.parts_rate() == 0.0


def test_finding_29_a_decision_looks_at_each_peer_a_few_times_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a peer is spared was reckoned from all peers, for each peer, with each batch of blocks."""
    looks = 0
    ready = SessionPeers.ready

    def count(peers: SessionPeers) -> Iterator[SessionPeer]:
        nonlocal looks
        for peer in ready(peers):
            looks += 1
            yield peer

    monkeypatch.setattr(SessionPeers, "ready", count)
    peers = [peer_named(f"peer {number}") for number in range(256)]
    fetch = Fetch(3000, *peers, order=Order.SPREAD, leaves=True, peers_max=256)
    for number, peer in enumerate(peers):
        fetch.ranges(peer, 3000, (0, 3000) if number % 4 == 0 else (number, 2 * number))
    fetch.drain()
    for peer in [peer for peer in peers if fetch.owed[peer]][:16]:
        looks = 0
        fetch.block(peer, next(iter(fetch.owed[peer])), after=0.001)
        fetch.drain()
        assert 0 < looks <= 8 * len(peers)


def test_only_what_nobody_else_has_is_picked_for_a_spared_peer() -> None:
    pool = WantPool(Order.SPREAD, 10)
    wants = [SessionWant(Cid.of(bytes([number])), number, number / 10) for number in range(3)]
    for want in wants:
        pool.add(want)
    pool.fill()
    others = LeafRanges(3)
    others.add(0, 2)
    pool.rank([others])
    full = SessionPeer(ALICE, SessionParameters(), full=True)
    assert [want.leaf for want in pool.pick(full, 10, 10, 1, rare_only=True)] == [2]
    assert pool.nothing_for(full)
    pool.rank([])
    assert not pool.nothing_for(full)
    assert [want.leaf for want in pool.pick(full, 10, 10, 1, rare_only=True)] == [0, 1]


@pytest.mark.parametrize("change", [WantPool.open_up, lambda pool: pool.rank([])])
def test_a_peer_for_which_nothing_was_found_is_looked_at_again_after_every_change(
    change: Callable[[WantPool], None],
) -> None:
    pool = WantPool(Order.SPREAD, 10)
    here, elsewhere = (SessionWant(CIDS[number], None, 0.0) for number in range(2))
    pool.add(here)
    pool.fill()
    partial = SessionPeer(ALICE, SessionParameters(), full=False)
    assert pool.pick(partial, 10, 10, 1) == []
    assert pool.nothing_for(partial)
    elsewhere.holders.add(partial)
    pool.reopen(elsewhere)
    assert not pool.nothing_for(partial)
    change(pool)
    assert not pool.nothing_for(partial)
    assert pool.pick(partial, 10, 10, 1) == [elsewhere]


def test_a_peer_without_rank_is_given_the_least_urgent_that_it_may_have() -> None:
    pool = WantPool(Order.FILE, 10)
    wants = [SessionWant(CIDS[number], None, float(number)) for number in range(3)]
    for want in wants:
        pool.add(want)
    pool.fill()
    pool.rank([])
    poor = SessionPeer(ALICE, SessionParameters(), full=True)
    poor.stalled = True
    wants[2].lacks.add(poor)
    assert pool.pick(poor, 1, 1, SIZE) == [wants[1]]


def test_a_window_is_filled_up_again_when_a_quarter_of_it_is_free() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    for number in range(3):
        fetch.block(ALICE, number, after=0.0001)
        assert fetch.asked() == {}
    fetch.block(ALICE, 3, after=0.0001)
    assert fetch.asked() == {ALICE: [16, 17, 18, 19]}


def test_no_peer_is_asked_for_more_wants_than_half_of_what_a_server_keeps() -> None:
    fetch = Fetch(3000, ALICE, wants_max=20, window_min=100 * MIB)
    assert len(fetch.asked()[ALICE]) == 20
    for number in range(4):
        fetch.block(ALICE, number, after=0.001)
    assert fetch.asked() == {}
    fetch.block(ALICE, 4, after=0.001)
    assert len(fetch.asked()[ALICE]) == 5


def test_the_fastest_peer_is_asked_first() -> None:
    fetch = Fetch(40, ALICE, BOB)
    assert {peer: len(numbers) for peer, numbers in fetch.asked().items()} == {ALICE: 16, BOB: 16}
    fetch.machine.pause()
    for number in range(16):
        fetch.block(BOB, 16 + number, after=0.02)
    for number in range(16):
        fetch.block(ALICE, number, after=0.1)
    fetch.machine.resume()
    assert fetch.asked() == {BOB: list(range(32, 40))}


def test_a_peer_of_unknown_speed_is_tried_before_a_known_one() -> None:
    fetch = Fetch(20, ALICE)
    fetch.drain()
    for number in range(16):
        fetch.block(ALICE, number, after=0.001)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    assert fetch.asked() == {BOB: [16, 17, 18, 19]}


def test_the_window_grows_with_bandwidth_times_delay_up_to_its_bound() -> None:
    fetch = Fetch(3000, ALICE)
    fetch.drain()
    sizes = []
    for _ in range(8):
        # everything that is asked comes 200 ms later, all at once
        waiting = list(fetch.owed[ALICE])
        sizes.append(len(waiting))
        fetch.now += 0.2
        for number in waiting:
            fetch.block(ALICE, number)
        fetch.drain()
    assert sizes[0] == 16
    assert sizes == sorted(sizes)
    assert sizes[-1] == 128  # 32 MiB
    assert fetch.peer(ALICE).window == 32 * MIB


def test_a_slow_peer_is_asked_for_ten_seconds_of_its_rate_at_most() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    for number in range(16):
        fetch.block(ALICE, number, after=4.0)  # 64 KiB a second
        fetch.drain()
    assert len(fetch.owed[ALICE]) <= 3


def test_a_peer_with_parts_is_asked_for_two_seconds_of_its_rate_at_most() -> None:
    fetch = Fetch(100, leaves=True)
    fetch.machine.peer_connected(ALICE)
    fetch.machine.add_peer(ALICE, full=False)
    fetch.ranges(ALICE, 100, (0, 99))
    fetch.drain()
    for number in range(16):
        fetch.block(ALICE, number, after=0.5)  # 512 KiB a second
        fetch.drain()
    assert len(fetch.owed[ALICE]) <= 5


def trading(order: Order = Order.SPREAD) -> Fetch:
    """Alice has everything and owes four leaves of eight; Bob has none yet, and is known to be fast."""
    fetch = Fetch(8, ALICE, order=order, leaves=True, window_min=4 * SIZE)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 8)
    fetch.drain()
    fetch.peer(ALICE).rate = fetch.peer(BOB).rate = 100.0 * MIB
    fetch.now += 1
    return fetch


def test_what_others_can_bring_by_now_is_withdrawn_from_who_has_everything() -> None:
    fetch = trading()
    number = next(iter(fetch.owed[ALICE]))
    fetch.ranges(BOB, 8, (number, number + 1))
    effects = fetch.drain()
    assert Withdraw(peer=ALICE, cids=(CIDS[number],)) in effects
    assert fetch.owed[BOB] == {number: None}
    assert number not in fetch.owed[ALICE]
    fetch.block(BOB, number)
    assert fetch.withdrawn() == {}


def test_who_has_everything_is_asked_only_for_what_is_rare_while_others_are_fast_enough() -> None:
    fetch = trading()
    fetch.ranges(BOB, 8, (0, 7))
    fetch.drain()
    assert len(fetch.owed[BOB]) == 4
    assert set(fetch.owed[ALICE]) == {7}


def test_who_watches_asks_all_who_have_it() -> None:
    fetch = trading(Order.FILE)
    for number in range(4):
        fetch.block(ALICE, number, after=0.001)
    fetch.machine.pause()
    fetch.ranges(BOB, 8, (4, 6))
    fetch.machine.resume()
    assert fetch.asked() == {BOB: [4, 5], ALICE: [6, 7]}


def test_who_watches_keeps_what_was_asked_where_it_was_asked() -> None:
    fetch = trading(Order.FILE)
    number = next(iter(fetch.owed[ALICE]))
    fetch.ranges(BOB, 8, (number, number + 1))
    assert fetch.withdrawn() == {}
    assert number in fetch.owed[ALICE]


def test_nothing_is_left_to_others_who_are_too_slow() -> None:
    fetch = trading()
    fetch.peer(BOB).rate = 49.0 * MIB
    number = next(iter(fetch.owed[ALICE]))
    fetch.ranges(BOB, 8, (number, number + 1))
    assert fetch.withdrawn() == {}


def test_numbered_leaves_may_come_in_any_order_and_nodes_may_not() -> None:
    spread = Fetch(2, ALICE, order=Order.SPREAD, leaves=True)
    assert [effect.any_order for effect in spread.drain() if isinstance(effect, Ask)] == [True]
    nodes = Fetch(2, ALICE, order=Order.SPREAD)
    assert [effect.any_order for effect in nodes.drain() if isinstance(effect, Ask)] == [False]
    watched = Fetch(2, ALICE, leaves=True)
    assert [effect.any_order for effect in watched.drain() if isinstance(effect, Ask)] == [False]


def test_nodes_and_leaves_that_are_asked_together_are_told_apart() -> None:
    fetch = Fetch(2, ALICE, order=Order.SPREAD, leaves=True)
    fetch.machine.want(CIDS[2:4])
    asks = [effect for effect in fetch.drain() if isinstance(effect, Ask)]
    assert [(effect.any_order, set(effect.cids)) for effect in asks] == [(False, {*CIDS[2:4]}), (True, {*CIDS[:2]})]


# orders


def test_in_the_order_of_the_file_wants_are_asked_as_given() -> None:
    fetch = Fetch(64, ALICE, BOB)
    asked = fetch.asked()
    assert sorted(asked[ALICE] + asked[BOB]) == list(range(32))
    assert asked[ALICE] == sorted(asked[ALICE])


def test_spread_asks_at_random_within_the_look_ahead() -> None:
    fetch = Fetch(3000, ALICE, order=Order.SPREAD)
    asked = fetch.asked()[ALICE]
    assert asked != sorted(asked)
    assert max(asked) < 1024
    assert max(asked) > 300


def test_spread_depends_on_the_seed_alone() -> None:
    first, second = Fetch(3000, ALICE, order=Order.SPREAD), Fetch(3000, ALICE, order=Order.SPREAD)
    assert first.asked() == second.asked()
    other = SessionMachine(Random(6), order=Order.SPREAD)
    other.peer_connected(ALICE)
    other.add_peer(ALICE)
    other.want(CIDS)
    effect = other.next_effect(0.0)
    assert isinstance(effect, Ask)
    assert [NUMBER[cid.multihash] for cid in effect.cids] != list(first.owed[ALICE])


def test_the_look_ahead_is_filled_when_half_of_it_is_gone() -> None:
    fetch = Fetch(100, ALICE, order=Order.SPREAD, look_ahead=32)
    assert all(number < 32 for number in fetch.asked()[ALICE])
    assert len(fetch.machine._pool.open) == 16
    for number in list(fetch.owed[ALICE])[:4]:
        fetch.block(ALICE, number, after=0.001)
    # sixteen are left, that is half: sixteen more are taken in
    assert all(number < 48 for number in fetch.asked()[ALICE])
    assert len(fetch.machine._pool.open) == 28
    for number in list(fetch.owed[ALICE])[:4]:
        fetch.block(ALICE, number, after=0.001)
    assert all(number < 48 for number in fetch.asked()[ALICE])


def test_the_rarest_leaves_are_asked_first() -> None:
    fetch = Fetch(100, ALICE, order=Order.SPREAD, leaves=True, window_min=10 * SIZE)
    fetch.machine.pause()
    for peer, runs in ((BOB, (0, 90)), (CAROL, (0, 50))):
        fetch.machine.peer_connected(peer)
        fetch.machine.add_peer(peer, full=False)
        fetch.ranges(peer, 100, runs)
    fetch.machine.resume()
    asked = fetch.asked()
    assert sorted(asked[ALICE]) == list(range(90, 100))
    assert all(50 <= number < 90 for number in asked[BOB])
    assert all(number < 50 for number in asked[CAROL])
    assert (len(asked[BOB]), len(asked[CAROL])) == (10, 10)


def test_peers_that_have_parts_take_before_those_that_have_all() -> None:
    fetch = Fetch(10, ALICE, order=Order.SPREAD, leaves=True)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 10, (0, 4))
    asked = fetch.asked()
    assert sorted(asked[BOB]) == [0, 1, 2, 3]
    assert sorted(asked[ALICE]) == [4, 5, 6, 7, 8, 9]


def test_peers_that_have_all_are_asked_for_more_ahead_than_those_with_parts() -> None:
    fetch = Fetch(2000, ALICE, order=Order.SPREAD, leaves=True, window_min=4 * SIZE, window_together=16 * SIZE)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 2000, (0, 1000))
    asked = fetch.asked()
    assert (len(asked[ALICE]), len(asked[BOB])) == (16, 4)


def test_rarity_does_not_disturb_the_order_of_the_file() -> None:
    fetch = Fetch(10, ALICE, leaves=True, window_min=SIZE)
    fetch.machine.pause()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 10, (0, 2))
    fetch.machine.resume()
    assert fetch.asked() == {BOB: [0], ALICE: [1]}


def test_ranks_are_counted_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Fetch(2000, ALICE, order=Order.SPREAD, leaves=True, window_min=SIZE)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.drain()
    calls: list[float] = []
    monkeypatch.setattr(WantPool, "rank", lambda pool, known: calls.append(fetch.now))
    for _ in range(10):
        fetch.ranges(BOB, 2000, (0, 10))
        fetch.drain()
        fetch.now += 0.04
    assert 3 <= len(calls) <= 5
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(calls))
    fetch.now += 1.0
    fetch.machine.resume()
    fetch.drain()
    known = len(calls)
    fetch.now += 1.0
    fetch.machine.resume()
    fetch.drain()
    assert len(calls) == known  # nobody has told anything since


# ranges and presences


def test_a_peer_with_parts_is_asked_only_for_what_it_has() -> None:
    fetch = Fetch(10, leaves=True)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    assert fetch.asked() == {}
    fetch.ranges(BOB, 10, (2, 4))
    assert fetch.asked() == {BOB: [2, 3]}
    fetch.ranges(BOB, 10, (2, 6))
    fetch.block(BOB, 2, after=0.01)
    assert fetch.asked() == {BOB: [4, 5]}


def test_a_peer_that_has_become_complete_is_asked_for_all() -> None:
    fetch = Fetch(4, leaves=True)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 4, (0, 4))
    assert fetch.peer(BOB).full
    assert fetch.peer(BOB).ranges is None
    assert fetch.asked() == {BOB: [0, 1, 2, 3]}


def test_a_peer_that_says_it_has_all_is_asked_for_all() -> None:
    fetch = Fetch(4)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.machine.receive_ranges(BOB, None)
    assert fetch.asked() == {BOB: [0, 1, 2, 3]}


def test_a_provider_that_turns_out_to_have_parts_is_asked_for_those() -> None:
    fetch = Fetch(4, leaves=True)
    fetch.machine.add_peer(BOB)
    fetch.ranges(BOB, 4, (1, 2))
    fetch.machine.peer_connected(BOB)
    assert fetch.asked() == {BOB: [1]}


def test_ranges_say_nothing_of_blocks_that_are_no_leaves() -> None:
    fetch = Fetch(2, ALICE)
    fetch.machine.add_peer(BOB, full=False)
    fetch.machine.peer_connected(BOB)
    fetch.ranges(BOB, 10, (0, 9))
    assert fetch.asked() == {ALICE: [0, 1]}


def test_ranges_of_strangers_are_ignored() -> None:
    fetch = Fetch(2, leaves=True)
    fetch.ranges(BOB, 10, (0, 9))
    assert fetch.drain() == []
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 0


def test_a_partial_peer_that_says_have_is_asked() -> None:
    fetch = Fetch(3)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.have(BOB, 1)
    assert fetch.asked() == {BOB: [1]}
    fetch.machine.add_peer(BOB)
    assert fetch.asked() == {BOB: [0, 2]}


def test_dont_have_moves_the_want_at_once() -> None:
    fetch = Fetch(1, ALICE, BOB)
    first = next(iter(fetch.asked()))
    other = BOB if first == ALICE else ALICE
    fetch.refuse(first, 0)
    assert fetch.asked() == {other: [0]}
    fetch.refuse(other, 0)
    assert fetch.asked() == {}


def test_have_after_dont_have_is_believed() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.refuse(ALICE, 0)
    assert fetch.asked() == {}
    fetch.have(ALICE, 0)
    assert fetch.asked() == {ALICE: [0]}


def test_what_all_refused_is_offered_to_all_again_after_a_while() -> None:
    fetch = Fetch(1, ALICE, BOB)
    fetch.drain()
    fetch.refuse(ALICE, 0)
    fetch.drain()
    fetch.refuse(BOB, 0)
    assert fetch.wait(4.9) == {}
    assert sum(map(len, fetch.wait(0.2).values())) == 1


def test_later_refusals_do_not_put_off_the_next_offer() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.refuse(ALICE, 0)
    fetch.drain()
    fetch.now += 4.0
    fetch.machine.receive_progress(ALICE, fetch.now)
    fetch.refuse(ALICE, 1)
    fetch.drain()
    assert sorted(fetch.wait(1.1)[ALICE]) == [0, 1]


def test_a_partial_peer_that_takes_back_what_it_said_is_not_asked_again() -> None:
    fetch = Fetch(1)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.have(BOB, 0)
    assert fetch.asked() == {BOB: [0]}
    fetch.refuse(BOB, 0)
    assert fetch.wait(60.0) == {}


def test_a_refused_want_that_stalls_elsewhere_is_offered_again_too() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.refuse(ALICE, 0)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    assert fetch.asked() == {BOB: [0]}
    fetch.wait(5.5)  # Alice's refusal has been forgotten in the pool, not here
    fetch.machine.peer_disconnected(BOB, fetch.now)
    asked = fetch.wait(5.1)
    assert asked.get(ALICE) == [0]


def test_eight_refusals_in_a_row_cost_a_peer_its_rank() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    for number in range(7):
        fetch.refuse(ALICE, number)
        assert not fetch.peer(ALICE).poor
    fetch.refuse(ALICE, 7)
    assert fetch.peer(ALICE).poor
    fetch.drain()
    for number in range(8, 16):
        fetch.refuse(ALICE, number)
    assert fetch.asked() == {}
    peer = fetch.peer(ALICE)
    assert peer.misses == 16
    assert peer.rest == 30.0  # 0.25 s, doubled seven times, and bounded


def test_a_peer_without_rank_gets_one_want_at_a_time_the_least_urgent_with_rests() -> None:
    fetch = Fetch(20, ALICE)
    fetch.drain()
    for number in range(16):
        if number == 8:
            fetch.block(ALICE, number, after=0.01)
        else:
            fetch.refuse(ALICE, number)
    assert not fetch.peer(ALICE).poor
    fetch.drain()
    for number in list(fetch.owed[ALICE]):
        fetch.refuse(ALICE, number)
    peer = fetch.peer(ALICE)
    assert peer.poor and peer.rest == 2.0  # eleven in a row
    assert fetch.wait(1.9) == {}
    assert [len(numbers) for numbers in fetch.wait(3.2).values()] == [1]


def test_a_block_gives_the_rank_back() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    for number in range(15):
        fetch.refuse(ALICE, number)
    assert fetch.peer(ALICE).poor
    fetch.block(ALICE, 15, after=0.1)
    peer = fetch.peer(ALICE)
    assert (peer.poor, peer.misses, peer.rest, peer.rest_until) == (False, 0, 0.0, 0.0)
    assert len(fetch.asked()[ALICE]) > 1


def test_a_refusal_of_what_was_not_asked_costs_no_rank() -> None:
    fetch = Fetch(3000, ALICE)
    fetch.drain()
    for number in range(100, 200):
        fetch.refuse(ALICE, number)
    assert not fetch.peer(ALICE).poor
    assert fetch.peer(ALICE).misses == 0


def test_A47_presences_of_what_is_not_wanted_leave_no_trace() -> None:
    fetch = Fetch(1, ALICE, broadcast=True)
    fetch.drain()
    for number in range(100, 1000):
        fetch.have(BOB, number)
        fetch.refuse(ALICE, number)
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 1
    assert fetch.drain() == []
    fetch.have(ALICE, 0)
    fetch.block(ALICE, 0)
    assert fetch.machine._wants == {}


# late peers


def test_B7_a_peer_that_sends_nothing_has_stalled_after_four_and_a_half_seconds() -> None:
    fetch = Fetch(4, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.peer(BOB).misses = 100
    fetch.peer(BOB).rest_until = 1e9
    assert fetch.wait(4.4) == {}
    fetch.peer(BOB).misses = 0
    assert sorted(fetch.wait(0.2)[BOB]) == [0, 1, 2, 3]
    report = fetch.machine.reports()[0]
    assert report.stalled and report.peer == ALICE


def test_a_peer_that_stalled_is_not_told_and_what_it_sends_after_all_counts() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.wait(4.6)
    assert not any(isinstance(effect, Withdraw) for effect in fetch.log)
    fetch.block(ALICE, 0)
    assert fetch.machine.wanted == 1
    assert not fetch.machine.reports()[0].stalled
    assert fetch.asked() == {ALICE: [1]}  # and not what has come


def test_asking_for_more_is_no_sign_of_life() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.now += 4.0
    fetch.machine.want(CIDS[1:2])
    assert fetch.asked() == {ALICE: [1]}
    fetch.wait(0.6)
    assert fetch.machine.reports()[0].stalled


def test_how_long_a_peer_will_take_is_reckoned_from_its_rate_delay_and_queue() -> None:
    parameters = SessionParameters()
    peer = SessionPeer(ALICE, parameters, full=True)
    assert peer.time_for(MIB) == parameters.time_guess
    want = SessionWant(CIDS[0], None, 0.0)
    peer.ask(want, 2 * MIB, 10.0)
    assert peer.time_left(want, 13.0) == 3.0  # as long again as it has been silent
    peer.rate = float(MIB)
    assert peer.time_for(MIB) == 3.0
    peer.delay = 0.5
    assert peer.time_for(MIB) == 3.5
    assert peer.time_left(want, 11.0) == 2.0
    assert peer.time_left(want, 15.0) == 5.0
    peer.progress(14.0)
    assert peer.time_left(want, 15.0) == 2.0


def test_patience_is_twenty_times_the_delay_and_two_seconds_at_least() -> None:
    for delay, patience in ((0.01, 2.0), (0.15, 3.0), (0.3, 4.5)):
        fetch = Fetch(100, ALICE)
        fetch.drain()
        fetch.block(ALICE, 0, after=delay)
        peer = fetch.peer(ALICE)
        assert peer.stall_at() - fetch.now == pytest.approx(patience)


def test_the_delay_is_the_least_that_was_seen() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, after=0.3)
    fetch.block(ALICE, 1, after=0.3)
    assert fetch.peer(ALICE).delay == pytest.approx(0.3)
    fetch.drain()
    for number in range(2, 16):
        fetch.block(ALICE, number)
    fetch.drain()
    fetch.block(ALICE, 16, after=0.1)
    assert fetch.peer(ALICE).delay == pytest.approx(0.1)


def test_bytes_of_an_unfinished_message_are_a_sign_of_life() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    for _ in range(9):
        fetch.now += 1.0
        fetch.machine.receive_progress(ALICE, fetch.now)
        fetch.machine.handle_timeout(fetch.now)
        fetch.drain()
    assert not fetch.machine.reports()[0].stalled
    fetch.machine.receive_progress(BOB, fetch.now)


def test_whatever_comes_that_was_asked_is_a_sign_of_life() -> None:
    for sign in ("second copy", "presence"):
        fetch = Fetch(8, ALICE, window_first=2 * SIZE)
        fetch.drain()
        for number in range(2, 8):
            fetch.now += 1.0
            if sign == "second copy":
                fetch.machine.receive_late_block(ALICE, 100, fetch.now)
            else:
                fetch.have(ALICE, number)
            fetch.machine.handle_timeout(fetch.now)
            fetch.drain()
        assert not fetch.machine.reports()[0].stalled, sign


def test_progress_wakes_a_peer_that_had_stalled() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.wait(4.6)
    assert fetch.machine.reports()[0].stalled
    fetch.machine.receive_progress(ALICE, fetch.now)
    assert not fetch.machine.reports()[0].stalled


def test_a_stalled_peer_is_probed_with_one_want_after_growing_rests() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    assert fetch.wait(4.6) == {}
    times = []
    for _ in range(600):
        asked = fetch.wait(0.1)
        if asked:
            assert [len(numbers) for numbers in asked.values()] == [1]
            times.append(fetch.now)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(4.5 + 0.5, abs=0.3)
    assert len(times) >= 4


def test_a_want_that_a_lively_peer_does_not_answer_is_moved_after_ten_seconds() -> None:
    fetch = Fetch(3000, ALICE)
    fetch.drain()
    forgotten = 0
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.drain()
    for _ in range(94):
        fetch.now += 0.1
        for peer in (ALICE, BOB):
            for number in list(fetch.owed[peer])[:4]:
                if number != forgotten:
                    fetch.block(peer, number)
        fetch.machine.handle_timeout(fetch.now)
        fetch.drain()
        assert forgotten in fetch.owed[ALICE] and forgotten not in fetch.owed[BOB]
    for _ in range(20):
        fetch.now += 0.1
        for peer in (ALICE, BOB):
            for number in list(fetch.owed[peer])[:4]:
                if number != forgotten:
                    fetch.block(peer, number)
        fetch.machine.handle_timeout(fetch.now)
        fetch.drain()
    assert forgotten in fetch.owed[BOB]


def test_a_want_is_overdue_after_three_times_its_queue_within_bounds() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    peer = fetch.peer(ALICE)
    assert peer.overdue_at(100.0) == 110.0
    peer.rate = float(MIB)
    assert peer.overdue_at(100.0) == 112.0  # 4 MiB
    peer.rate = 1000.0
    assert peer.overdue_at(100.0) == 130.0


def test_a_lone_provider_is_asked_again_for_what_it_forgot() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    for _ in range(99):
        fetch.now += 0.1
        fetch.machine.receive_progress(ALICE, fetch.now)
        fetch.machine.handle_timeout(fetch.now)
        assert fetch.asked() == {}
    fetch.now += 0.2
    fetch.machine.handle_timeout(fetch.now)
    assert fetch.asked() == {}
    assert sorted(fetch.wait(5.1)[ALICE]) == [0, 1]


def test_a_want_is_moved_at_the_very_moment_it_is_overdue() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.now += 8.0
    fetch.machine.receive_progress(ALICE, fetch.now)
    fetch.machine.handle_timeout(109.99)
    assert fetch.machine.reports()[0].misses == 0
    fetch.machine.handle_timeout(110.0)
    assert fetch.machine.reports()[0].misses == 1


def test_an_overdue_want_wakes_the_session_while_others_wait() -> None:
    fetch = Fetch(2000, ALICE)
    fetch.drain()
    fetch.now += 8.0
    fetch.machine.receive_progress(ALICE, fetch.now)
    assert fetch.machine.next_timeout() == 110.0


# the end


def test_an_idle_peer_takes_over_the_tail_of_a_slow_one() -> None:
    fetch = Fetch(32, ALICE, BOB)
    fetch.drain()
    slow, fast = ALICE, BOB
    fetch.block(slow, next(iter(fetch.owed[slow])), after=1.0)  # 256 KiB a second
    for number in list(fetch.owed[fast]):
        fetch.block(fast, number, after=0.01)
    fetch.drain()
    left = list(fetch.owed[slow])
    assert len(left) == 15
    fetch.machine.handle_timeout(fetch.now + 0.1)
    fetch.now += 0.1
    asked = fetch.asked()
    assert list(asked) == [fast]
    # the last of them first, and not those that the slow one brings soon anyway
    assert asked[fast][0] == left[-1]
    assert len(asked[fast]) > 5
    # nothing is asked for a third time
    fetch.machine.handle_timeout(fetch.now + 0.3)
    fetch.now += 0.3
    assert set(fetch.asked().get(fast, ())).isdisjoint(asked[fast])


def test_the_second_peer_that_was_asked_is_told_when_the_first_delivers() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    assert fetch.wait(1.0) == {BOB: [0]}
    fetch.block(BOB, 0)
    assert fetch.withdrawn() == {ALICE: [0]}
    assert fetch.machine.wanted == 0
    assert fetch.peer(ALICE).outstanding == {}
    assert fetch.peer(ALICE).outstanding_bytes == 0


def test_what_comes_soon_is_not_asked_for_twice() -> None:
    fetch = Fetch(32, ALICE, BOB)
    fetch.drain()
    for number in range(15):
        fetch.block(ALICE, number, after=0.005)
    for number in list(fetch.owed[BOB]):
        fetch.block(BOB, number, after=0.005)
    fetch.drain()
    assert fetch.wait(0.15) == {}


def test_nothing_is_asked_for_twice_while_wants_wait() -> None:
    fetch = Fetch(2000, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    while fetch.now < 104:
        for number in list(fetch.owed[BOB]):
            fetch.block(BOB, number, after=0.002)
        asked = fetch.wait(0.1)
        assert set(asked.get(BOB, ())).isdisjoint(fetch.owed[ALICE])


def test_a_peer_without_rank_takes_no_part_in_the_end() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.peer(BOB).misses = 8
    assert fetch.wait(4.0) == {}


def test_duplicates_go_only_to_peers_that_may_have_the_block() -> None:
    fetch = Fetch(2, ALICE, leaves=True)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 2, (1, 2))
    assert fetch.wait(4.0) == {BOB: [1]}


def test_the_end_comes_for_each_peer_when_nothing_is_left_for_it() -> None:
    fetch = Fetch(3, leaves=True)
    for peer, runs in ((ALICE, (0, 2)), (BOB, (1, 2))):
        fetch.machine.peer_connected(peer)
        fetch.machine.add_peer(peer, full=False)
        fetch.ranges(peer, 3, runs)
        fetch.drain()
    # leaf 2 waits for somebody who has it; Alice owes 0 and 1, Bob could help with 1
    assert sorted(fetch.owed[ALICE]) == [0, 1]
    assert fetch.wait(2.0) == {BOB: [1]}


def test_the_end_asks_for_no_more_than_the_window_and_looks_ten_times_a_second() -> None:
    fetch = Fetch(16, ALICE, endgame_least=0.0)
    fetch.drain()
    fetch.now += 3.0
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.peer(BOB).window = 3 * SIZE
    fetch.machine.handle_timeout(fetch.now)
    assert len(fetch.asked()[BOB]) == 3
    assert fetch.machine.next_timeout() == pytest.approx(fetch.now + 0.1)
    fetch.machine.peer_connected(CAROL)
    fetch.machine.add_peer(CAROL)
    assert fetch.asked() == {}
    fetch.machine.handle_timeout(fetch.now)
    assert fetch.asked() == {}
    assert list(fetch.wait(0.11)) == [CAROL]


# blocks, copies, wrong ones


def test_a_block_ends_its_want_and_is_reported() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, 1000, after=0.5)
    fetch.block(ALICE, 1, 3000, after=0.5)
    assert fetch.machine.wanted == 0
    assert fetch.drain() == []
    report = fetch.machine.reports()[0]
    assert (report.peer, report.blocks, report.bytes) == (ALICE, 2, 4000)
    assert report.rate == pytest.approx(0.6 * 2000 + 0.4 * 6000)
    assert not report.stalled and report.dropped is None
    assert fetch.machine.next_timeout() is None


def test_rates_are_measured_over_a_fifth_of_a_second() -> None:
    fetch = Fetch(100, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, 1000, after=0.1)
    assert fetch.machine.reports()[0].rate == pytest.approx(10_000)  # a first guess
    fetch.block(ALICE, 1, 500, after=0.05)
    assert fetch.machine.reports()[0].rate == pytest.approx(10_000)
    fetch.block(ALICE, 2, 3500, after=0.1)
    assert fetch.machine.reports()[0].rate == pytest.approx(20_000)
    fetch.block(ALICE, 3, 1000, after=0.125)
    assert fetch.machine.reports()[0].rate == pytest.approx(20_000)
    fetch.block(ALICE, 4, 9000, after=0.125)
    assert fetch.machine.reports()[0].rate == pytest.approx(0.6 * 20_000 + 0.4 * 40_000)


def test_a_pause_between_fetches_does_not_lower_the_rate() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, 1000, after=0.1)
    fetch.drain()
    fetch.now += 100
    fetch.machine.want(CIDS[1:2])
    fetch.drain()
    fetch.block(ALICE, 1, 2000, after=0.2)
    assert fetch.machine.reports()[0].rate == pytest.approx(10_000)


def test_second_copies_are_counted_and_nothing_else() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, 500, after=0.1)
    fetch.block(ALICE, 0, 500, after=0.1)
    fetch.machine.receive_late_block(ALICE, 70, fetch.now)
    fetch.machine.receive_late_block(BOB, 70, fetch.now)
    report = fetch.machine.reports()[0]
    assert (report.blocks, report.bytes, report.duplicate_bytes) == (1, 500, 570)


def test_finding_28_a_copy_that_was_not_owed_is_no_sign_of_life() -> None:
    fetch = Fetch(3, ALICE)
    fetch.drain()
    for _ in range(10):
        fetch.now += 0.5
        fetch.machine.receive_late_block(ALICE, 1000, fetch.now, owed=False)
        fetch.machine.handle_timeout(fetch.now)
    report = fetch.machine.reports()[0]
    assert report.stalled and report.duplicate_bytes == 10_000


def test_a_block_that_another_session_asked_for_ends_the_want_here_too() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.block(DAVE, 0)
    assert fetch.machine.wanted == 0
    assert fetch.withdrawn() == {ALICE: [0]}
    assert fetch.machine.reports()[0].blocks == 0


def test_B6_a_wrong_block_drops_the_peer_and_moves_its_wants() -> None:
    fetch = Fetch(4, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.machine.receive_wrong_block(ALICE, fetch.now)
    fetch.machine.receive_wrong_block(ALICE, fetch.now)
    fetch.machine.receive_wrong_block(CAROL, fetch.now)
    effects = fetch.drain()
    assert effects[0] == PeerDropped(peer=ALICE, reason="sent a wrong block")
    assert sorted(fetch.owed[BOB]) == [0, 1, 2, 3]
    assert len(effects) == 2
    report = fetch.machine.reports()[0]
    assert (report.wrong_blocks, report.dropped) == (2, "sent a wrong block")
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 1


def test_a_dropped_peer_never_comes_back() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.receive_wrong_block(ALICE, fetch.now)
    fetch.drain()
    assert not fetch.machine.add_peer(ALICE)
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    fetch.machine.peer_unreachable(ALICE, fetch.now, reason="again")
    fetch.machine.peer_connected(ALICE)
    fetch.have(ALICE, 0)
    assert fetch.wait(100) == {}
    assert fetch.drain() == []
    assert fetch.machine.reports()[0].dropped == "sent a wrong block"


def test_cancelled_wants_are_withdrawn_where_they_were_asked() -> None:
    fetch = Fetch(20, ALICE)
    fetch.drain()
    fetch.machine.cancel([CIDS[0], CIDS[17], CIDS[2000]])
    assert fetch.withdrawn() == {ALICE: [0]}
    assert fetch.machine.wanted == 18
    for number in range(1, 16):
        fetch.block(ALICE, number, after=0.01)
    assert fetch.asked() == {ALICE: [16, 18, 19]}


def test_a_cancelled_want_in_the_queue_is_passed_over() -> None:
    fetch = Fetch(6, ALICE, look_ahead=2)
    fetch.machine.cancel([CIDS[1]])
    assert fetch.asked() == {ALICE: [0, 2]}


def test_a_want_that_is_cancelled_and_wanted_again_is_asked_again() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.cancel(CIDS[:1])
    fetch.drain()
    fetch.machine.want(CIDS[:1])
    assert fetch.asked() == {ALICE: [0]}


def test_nothing_is_asked_while_paused() -> None:
    fetch = Fetch(4, ALICE)
    fetch.machine.pause()
    assert fetch.drain() == []
    fetch.machine.resume()
    assert fetch.asked() == {ALICE: [0, 1, 2, 3]}


# connections


def test_a_lost_peer_is_connected_again_after_growing_rests() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    assert fetch.drain() == []
    times = []
    for _ in range(1000):
        fetch.wait(0.1)
        if fetch.peer(ALICE).state is PeerState.DIALLING:
            times.append(fetch.now)
            fetch.machine.peer_unreachable(ALICE, fetch.now)
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(times)]
    assert times[0] == pytest.approx(100.25, abs=0.11)
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(0.5, abs=0.11)
    assert max(gaps) <= 30.1
    assert gaps[-1] >= 29


def test_what_a_lost_peer_owed_goes_to_others_at_once() -> None:
    fetch = Fetch(4, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB)
    fetch.drain()
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    assert sorted(fetch.asked()[BOB]) == [0, 1, 2, 3]
    fetch.block(BOB, 0)
    assert fetch.withdrawn() == {}  # Alice has forgotten it herself


def test_a_peer_that_returns_is_asked_again() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    fetch.drain()
    fetch.machine.peer_connected(ALICE)
    assert fetch.peer(ALICE).rest_until == 0.0
    assert sorted(fetch.asked()[ALICE]) == [0, 1]


def test_a_stranger_that_left_is_connected_when_it_turns_out_to_be_a_provider() -> None:
    fetch = Fetch(1, broadcast=True)
    fetch.machine.peer_connected(ALICE)
    fetch.machine.peer_disconnected(ALICE, fetch.now)
    assert fetch.drain() == []
    fetch.machine.add_peer(ALICE)
    assert fetch.drain() == [Connect(peer=ALICE)]


def test_losing_a_stranger_changes_nothing() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(DAVE)
    fetch.machine.peer_disconnected(DAVE, fetch.now)
    fetch.machine.peer_unreachable(DAVE, fetch.now)
    fetch.machine.peer_unreachable(DAVE, fetch.now, reason="x")
    assert fetch.drain() == []


def test_a_peer_that_can_never_be_asked_is_dropped_with_the_reason() -> None:
    fetch = Fetch(1, ALICE)
    fetch.drain()
    fetch.machine.peer_unreachable(ALICE, fetch.now, reason="does not speak bitswap")
    assert PeerDropped(peer=ALICE, reason="does not speak bitswap") in fetch.drain()
    assert fetch.machine.next_timeout() is None
    assert fetch.machine.reports()[0].dropped == "does not speak bitswap"


def test_no_more_than_eight_peers_are_dialled_at_a_time() -> None:
    fetch = Fetch(2, ALICE)
    fetch.drain()
    fetch.block(ALICE, 0)
    peers = [peer_named(str(index)) for index in range(12)]
    for peer in peers:
        fetch.machine.add_peer(peer)
    assert [effect.peer for effect in fetch.drain()] == peers[:8]
    fetch.machine.resume()
    assert fetch.drain() == []
    fetch.machine.peer_unreachable(peers[0], fetch.now)
    assert fetch.drain() == [Connect(peer=peers[8])]


def test_peers_are_bounded_and_those_of_no_use_make_way_for_others() -> None:
    fetch = Fetch(1, peers_max=1)
    peers = [peer_named(str(index)) for index in range(6)]
    assert [fetch.machine.add_peer(peer) for peer in peers[:5]] == [True, True, True, True, False]
    fetch.drain()
    for index, times in ((0, 1), (1, 2), (2, 2)):
        for _ in range(times):
            fetch.machine.peer_unreachable(peers[index], fetch.now)
    assert fetch.machine.add_peer(peers[4])  # in place of the first of those that rest longest
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 4
    assert [report.peer for report in fetch.machine.reports()] == [peers[0], peers[2], peers[3], peers[4]]
    assert [fetch.machine.add_peer(peer) for peer in (peers[5], peers[1])] == [True, True]
    assert [report.peer for report in fetch.machine.reports()] == [peers[3], peers[4], peers[5], peers[1]]
    assert not fetch.machine.add_peer(peer_named("one more"))


def test_who_owes_something_does_not_make_way() -> None:
    fetch = Fetch(1, ALICE, peers_max=1, stall_max=1.0, stall_min=1.0)
    fetch.wait(1.1)
    for index in range(3):
        assert fetch.machine.add_peer(peer_named(str(index)))
    assert fetch.peer(ALICE).useless
    fetch.wait(1.0)
    assert fetch.peer(ALICE).outstanding and fetch.peer(ALICE).useless
    assert not fetch.machine.add_peer(peer_named("one more"))
    fetch.refuse(ALICE, 0)
    assert fetch.machine.add_peer(peer_named("one more"))


def test_those_of_no_use_keep_nobody_from_being_dialled_who_was_not_tried() -> None:
    fetch = Fetch(2, ALICE, peers_max=3, dials=8)
    fetch.drain()
    fetch.block(ALICE, 0)
    peers = [peer_named(str(index)) for index in range(4)]
    for peer in peers:
        fetch.machine.add_peer(peer)
    assert fetch.drain() == [Connect(peer=peers[0]), Connect(peer=peers[1])]
    fetch.machine.peer_unreachable(peers[0], fetch.now)
    fetch.now += 1
    assert fetch.drain() == [Connect(peer=peers[2])]


# broadcast


def test_strangers_are_asked_for_have_only_when_no_provider_is_known() -> None:
    fetch = Fetch(10, broadcast=True)
    fetch.machine.peer_connected(ALICE)
    fetch.machine.peer_connected(BOB)
    effects = fetch.drain()
    assert effects == [Ask(peer=peer, cids=tuple(CIDS[:4]), have=True) for peer in (ALICE, BOB)]
    fetch.machine.peer_connected(CAROL)
    assert fetch.drain() == [Ask(peer=CAROL, cids=tuple(CIDS[:4]), have=True)]
    fetch.have(BOB, 0)
    assert fetch.asked() == {BOB: list(range(10))}
    fetch.machine.peer_connected(DAVE)
    assert fetch.drain() == []


def test_strangers_that_were_asked_are_told_when_it_is_over() -> None:
    fetch = Fetch(1, broadcast=True)
    for peer in (ALICE, BOB):
        fetch.machine.peer_connected(peer)
    fetch.drain()
    fetch.have(BOB, 0)
    fetch.drain()
    fetch.block(BOB, 0)
    assert fetch.withdrawn() == {ALICE: [0]}
    assert fetch.machine._neighbours._asked == {}


def test_strangers_are_told_when_what_was_sought_is_cancelled() -> None:
    fetch = Fetch(1, broadcast=True)
    fetch.machine.peer_connected(ALICE)
    fetch.drain()
    fetch.machine.cancel(CIDS[:1])
    assert fetch.withdrawn() == {ALICE: [0]}


def test_a_broadcast_does_not_go_to_who_has_lied() -> None:
    fetch = Fetch(2, ALICE, broadcast=True)
    fetch.machine.peer_connected(BOB)
    fetch.drain()
    fetch.machine.receive_wrong_block(ALICE, fetch.now)
    assert {effect.peer for effect in fetch.drain() if isinstance(effect, Ask)} == {BOB}


def test_a_broadcast_goes_to_a_bounded_number_of_peers() -> None:
    fetch = Fetch(1, broadcast=True, broadcast_peers=3)
    for index in range(5):
        fetch.machine.peer_connected(peer_named(str(index)))
    assert len(fetch.drain()) == 3
    fetch.machine.peer_connected(peer_named("5"))
    assert fetch.drain() == []


def test_thirty_two_strangers_at_most_are_told_what_is_sought_unless_it_is_said_otherwise() -> None:
    fetch = Fetch(1, broadcast=True)
    for index in range(40):
        fetch.machine.peer_connected(peer_named(str(index)))
    assert len(fetch.drain()) == 32


def test_a_known_provider_makes_a_broadcast_needless() -> None:
    fetch = Fetch(1, broadcast=True)
    fetch.machine.add_peer(ALICE)
    fetch.machine.peer_connected(BOB)
    assert fetch.drain() == [Connect(peer=ALICE)]
    fetch.machine.peer_unreachable(ALICE, fetch.now, reason="gone for good")
    assert Ask(peer=BOB, cids=(CIDS[0],), have=True) in fetch.drain()


def test_strangers_are_asked_once_the_only_provider_has_lied() -> None:
    fetch = Fetch(1, broadcast=True)
    for peer in (ALICE, BOB):
        fetch.machine.peer_connected(peer)
    fetch.machine.add_peer(ALICE, full=False)
    asked = Ask(peer=BOB, cids=(CIDS[0],), have=True)
    assert asked not in fetch.drain()
    fetch.machine.receive_wrong_block(ALICE, fetch.now)
    assert asked in fetch.drain()


def test_strangers_are_asked_after_a_head_start_for_those_who_find_providers() -> None:
    fetch = Fetch(1, broadcast=103.0)
    fetch.machine.peer_connected(BOB)
    assert fetch.drain() == []
    assert fetch.machine.next_timeout() == 103.0
    fetch.wait(2.9)
    assert fetch.log == []
    fetch.wait(0.2)
    assert fetch.log == [Ask(peer=BOB, cids=(CIDS[0],), have=True)]
    assert fetch.machine.next_timeout() is None


@pytest.mark.parametrize("broadcast", [False, 103.0])
def test_strangers_are_not_asked_before_that_nor_ever_where_it_is_not_wished(broadcast: bool | float) -> None:
    fetch = Fetch(1, broadcast=broadcast)
    fetch.machine.peer_connected(BOB)
    fetch.machine.handle_timeout(102.9)
    assert fetch.drain() == []


def test_providers_of_whom_nothing_is_to_be_hoped_do_not_keep_strangers_from_being_asked() -> None:
    fetch = Fetch(1, broadcast=True)
    for peer in (ALICE, BOB, CAROL):
        fetch.machine.add_peer(peer)
    fetch.machine.peer_connected(DAVE)
    fetch.machine.peer_connected(ALICE)
    fetch.drain()
    asked = Ask(peer=DAVE, cids=(CIDS[0],), have=True)
    fetch.refuse(ALICE, 0)
    fetch.machine.peer_unreachable(BOB, fetch.now)
    assert asked not in fetch.drain()  # CAROL is being dialled
    fetch.machine.peer_unreachable(CAROL, fetch.now)
    assert asked in fetch.drain()


def test_a_stranger_that_sends_the_block_in_place_of_have_is_a_provider() -> None:
    # Kubo does so with blocks of up to 1 KiB, the root of most files among them
    fetch = Fetch(10, broadcast=True)
    fetch.machine.peer_connected(ALICE)
    fetch.drain()
    fetch.block(ALICE, 0, 500)
    assert fetch.asked() == {ALICE: list(range(1, 10))}


def test_a_block_from_a_stranger_makes_no_provider_without_broadcast() -> None:
    fetch = Fetch(2)
    fetch.machine.peer_connected(ALICE)
    fetch.block(ALICE, 0)
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 0


def test_have_from_a_stranger_is_not_believed_without_broadcast() -> None:
    fetch = Fetch(1)
    fetch.machine.peer_connected(ALICE)
    fetch.have(ALICE, 0)
    assert sum(report.dropped is None for report in fetch.machine.reports()) == 0


# probes


def test_a_partial_peer_without_ranges_is_asked_for_have_and_then_for_what_it_has() -> None:
    fetch = Fetch(100, probes=8)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    assert fetch.drain() == [Ask(peer=BOB, cids=tuple(CIDS[:8]), have=True)]
    fetch.refuse(BOB, 0)
    fetch.have(BOB, 1)
    assert fetch.drain() == [Ask(peer=BOB, cids=(CIDS[1],))]
    fetch.have(BOB, 0)  # it has come there since
    assert fetch.asked() == {BOB: [0]}
    assert not fetch.peer(BOB).misses


def test_probes_go_in_batches_of_half_their_number() -> None:
    fetch = Fetch(100, probes=8)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.drain()
    for number in range(3):
        fetch.block(CAROL, number)
    assert fetch.withdrawn() == {BOB: [0, 1, 2]}
    fetch.block(CAROL, 3)
    assert [effect for effect in fetch.drain() if isinstance(effect, Ask)] == [
        Ask(peer=BOB, cids=tuple(CIDS[8:12]), have=True)
    ]


def test_a_peer_is_probed_once_for_a_want_and_again_after_a_new_connection() -> None:
    fetch = Fetch(2, probes=3)
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    assert len(fetch.drain()) == 1
    fetch.machine.resume()
    assert fetch.drain() == []
    fetch.machine.peer_disconnected(BOB, fetch.now)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    assert fetch.drain() == [Ask(peer=BOB, cids=tuple(CIDS[:2]), have=True)]
    fetch.block(CAROL, 0)
    fetch.machine.want(CIDS[2:3])
    assert Ask(peer=BOB, cids=tuple(CIDS[2:3]), have=True) in fetch.drain()


def test_what_ranges_tell_is_not_probed() -> None:
    fetch = Fetch(4, leaves=True)
    fetch.machine.want(CIDS[4:5])
    fetch.machine.peer_connected(BOB)
    fetch.machine.add_peer(BOB, full=False)
    fetch.ranges(BOB, 4, (1, 2))
    effects = fetch.drain()
    assert Ask(peer=BOB, cids=(CIDS[4],), have=True) in effects
    assert Ask(peer=BOB, cids=(CIDS[1],)) in effects
    assert len(effects) == 2


def test_who_has_all_is_not_probed() -> None:
    fetch = Fetch(2, ALICE)
    assert fetch.drain() == [Ask(peer=ALICE, cids=tuple(CIDS[:2]))]


def test_what_few_are_known_to_have_goes_first_where_leaves_have_no_numbers() -> None:
    fetch = Fetch(40, ALICE, order=Order.SPREAD, window_min=20 * SIZE, look_ahead=40)
    fetch.machine.pause()
    for peer in (BOB, CAROL):
        fetch.machine.peer_connected(peer)
        fetch.machine.add_peer(peer, full=False)
        for number in range(20):
            fetch.have(peer, number)
    for peer in (BOB, CAROL):
        fetch.peer(peer).misses = 100  # only Alice is asked
        fetch.peer(peer).rest_until = 1e9
    fetch.machine.resume()
    assert sorted(fetch.asked()[ALICE]) == list(range(20, 40))


# any order of facts


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(Order),
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["block", "refuse", "have", "lose", "return", "wrong", "wait", "ranges", "cancel", "pause", "resume"]
            ),
            st.integers(0, 3),
            st.integers(0, 39),
        ),
        max_size=80,
    ),
)
def test_any_order_of_facts_keeps_every_want_alive(
    order: Order, broadcast: bool, facts: list[tuple[str, int, int]]
) -> None:
    fetch = Fetch(40, ALICE, BOB, order=order, broadcast=broadcast, leaves=True, look_ahead=16)
    machine = fetch.machine
    for peer in (CAROL, DAVE):
        machine.add_peer(peer, full=False)
    for what, who, number in facts:
        peer = (ALICE, BOB, CAROL, DAVE)[who]
        if what == "block":
            fetch.block(peer, number)
        elif what == "refuse":
            fetch.refuse(peer, number)
        elif what == "have":
            fetch.have(peer, number)
        elif what == "lose":
            machine.peer_disconnected(peer, fetch.now)
        elif what == "return":
            machine.peer_connected(peer)
        elif what == "wrong" and number < 4:
            machine.receive_wrong_block(peer, fetch.now)
        elif what == "wait":
            fetch.wait(number / 4)
        elif what == "ranges":
            fetch.ranges(peer, 40, (0, number))
        elif what == "cancel":
            machine.cancel([CIDS[number]])
        elif what == "pause":
            machine.pause()
        elif what == "resume":
            machine.resume()
        fetch.drain()
        pool = set(machine._pool.open) | set(machine._pool._queue)
        for want in machine._wants.values():
            owing = {peer for peer in machine._peers.values() if want in peer.outstanding}
            assert want.askers == owing
            assert owing <= set(want.told)
            assert bool(owing) != (want in pool)
            assert len(owing) <= 2
        for peer_view in machine._peers.values():
            assert peer_view.outstanding_bytes == sum(size for _, size in peer_view.outstanding.values())
            assert all(machine._wants.get(want.multihash) is want for want in peer_view.outstanding)
            assert not peer_view.outstanding or peer_view.state is PeerState.READY
    # a peer that has everything finishes it, whatever came before
    machine.resume()
    machine.peer_connected(peer_named("eve"))
    machine.add_peer(peer_named("eve"))
    for _ in range(400):
        fetch.drain()
        for number in list(fetch.owed[peer_named("eve")]):
            fetch.block(peer_named("eve"), number)
        if not machine.wanted:
            break
        fetch.wait(0.5)
    assert machine.wanted == 0
    assert not machine._pool.open
    assert machine.next_timeout() is None
