"""Memory for messages: a small part for each, in turn, and taken back from whoever sends nothing. Simulated, no event loop."""

import itertools
from random import Random

import pytest

from stack.bitswap.lending import (
    LEAST_BYTES,
    LOOKS,
    LOOKS_ASKED,
    PATIENCE_LOOKS,
    PEER_BYTES_MAX,
    Borrowing,
    Granted,
    Lender,
)
from stack.bitswap.shell.buffers import SIZES
from stack.identity.peer_id import PeerId
from stack.sansio.budget import Resource, Scope
from tests.bitswap.simulation import peer_named

KIB = 1024
MIB = 1024 * 1024
FIRST = SIZES[0]


class Desk:
    """A lender, its scopes and a clock."""

    def __init__(self, total: int = 24 * MIB, unasked: int = 8 * MIB, system: int = 64 * MIB) -> None:
        self.system = Scope("host", {Resource.BYTES: system})
        self.receiving = self.system.child("receiving", {Resource.BYTES: total})
        self.unasked = self.receiving.child("unasked", {Resource.BYTES: unasked})
        self.lender = Lender(self.receiving, self.unasked)
        self.own: dict[PeerId, Scope] = {}
        self.now = 0.0
        self.lost: list[Borrowing] = []
        self.granted: list[Borrowing] = []

    def begin(self, peer: PeerId, amount: int = FIRST, *, asked: bool = False, group: str | None = None) -> Borrowing:
        own = self.own.setdefault(peer, self.system.child("peer", {Resource.BYTES: 64 * MIB}))
        borrowing = self.lender.begin(peer, group, own, asked=asked, now=self.now)
        self.ask(borrowing, amount)
        return borrowing

    def ask(self, borrowing: Borrowing, amount: int) -> None:
        self.lender.ask(borrowing, amount, self.now)
        self.settle()

    def release(self, borrowing: Borrowing) -> None:
        self.lender.release(borrowing, self.now)
        self.settle()

    def bring(self, borrowing: Borrowing, count: int) -> None:
        self.lender.progress(borrowing, count, self.now)

    def settle(self) -> None:
        while (effect := self.lender.next_effect()) is not None:
            (self.granted if isinstance(effect, Granted) else self.lost).append(effect.borrowing)

    def wait(self, seconds: float, bringing: dict[Borrowing, int] | None = None) -> None:
        """Time passes; `bringing` says how many bytes a second come of which."""
        for _ in range(round(seconds)):
            self.now += 1.0
            for borrowing, count in (bringing or {}).items():
                self.bring(borrowing, count)
            self.lender.look(self.now)
            self.settle()

    @property
    def used(self) -> int:
        return self.receiving.used(Resource.BYTES)


ALICE, BOB = peer_named("alice"), peer_named("bob")
CROWD = [peer_named(f"attacker {number}") for number in range(300)]


def test_a_message_is_lent_what_it_asks_for_and_gives_it_back() -> None:
    desk = Desk()
    borrowing = desk.begin(ALICE)
    assert desk.granted == [borrowing] and desk.used == FIRST
    desk.ask(borrowing, SIZES[2])
    assert desk.used == desk.own[ALICE].used(Resource.BYTES) == SIZES[2]
    assert repr(desk.lender).startswith("<Lender 1 messages")
    desk.release(borrowing)
    assert desk.used == desk.system.used(Resource.BYTES) == 0
    assert desk.lender._peers == desk.lender._groups == {} == desk.lender._turns


def test_finding_4_one_stranger_holds_a_small_part_however_many_streams_it_has() -> None:
    desk = Desk()
    hoarded = [desk.begin(ALICE) for _ in range(1000)]
    assert desk.used == 8 * MIB // 16
    honest = desk.begin(BOB)
    assert honest in desk.granted
    for borrowing in hoarded:
        desk.release(borrowing)
    desk.release(honest)
    assert desk.used == 0


def test_finding_4_an_address_group_holds_no_more_than_one_peer() -> None:
    desk = Desk()
    for peer in CROWD:
        desk.begin(peer, group="192.0.2.1/32")
    assert desk.used == 8 * MIB // 16
    assert desk.begin(BOB, group="198.51.100.7/32") in desk.granted
    assert len(desk.lender._groups) == 2


def test_finding_4_when_all_is_lent_who_brings_nothing_goes_and_not_the_newcomer() -> None:
    desk = Desk()
    crowd = [desk.begin(peer) for peer in CROWD]
    assert desk.used == 8 * MIB
    desk.wait(1, dict.fromkeys(crowd[1:], 20 * KIB))
    honest = desk.begin(BOB)
    assert crowd[0] in desk.lost  # the only one that brought nothing
    desk.wait(2)
    assert honest in desk.granted


def test_finding_4_many_identities_that_drip_keep_a_newcomer_out_for_a_few_seconds_at_most() -> None:
    desk = Desk()
    crowd = [desk.begin(peer) for peer in CROWD]
    drip = dict.fromkeys(crowd, 1100)
    desk.wait(4, drip)
    honest = desk.begin(BOB)
    for _ in range(10):
        desk.wait(1, {borrowing: count for borrowing, count in drip.items() if not borrowing.taken_back})
        for borrowing in desk.lost:
            desk.lender.release(borrowing, desk.now)
    assert honest in desk.granted


@pytest.mark.parametrize(("asked", "looks"), [(False, LOOKS), (True, LOOKS_ASKED)])
def test_finding_5_memory_of_a_message_that_stands_still_is_taken_back_though_nobody_needs_it(
    asked: bool, looks: int
) -> None:
    desk = Desk(unasked=16 * FIRST * 16)
    silent, drips, slow = (desk.begin(peer, asked=asked) for peer in CROWD[:3])
    for second in range(looks - 1):
        desk.wait(1, {drips: second % 2, slow: LEAST_BYTES // looks + 1})
    assert not desk.lost
    desk.wait(2, {slow: LEAST_BYTES // looks + 1})
    assert desk.lost == [silent, drips]
    assert desk.used == FIRST
    desk.release(silent)
    desk.release(drips)
    desk.release(slow)
    assert desk.used == 0


def test_our_own_loop_that_stood_still_is_not_held_against_anybody() -> None:
    desk = Desk()
    borrowing = desk.begin(ALICE)
    for _ in range(LOOKS - 1):
        desk.now += 100.0
        desk.lender.look(desk.now)
        desk.lender.look(desk.now + 0.5)  # more often does no harm
    desk.settle()
    assert desk.lost == []
    desk.bring(borrowing, LEAST_BYTES)
    desk.wait(1)
    assert desk.lost == []


def test_a_message_that_we_do_not_read_is_not_held_against_its_peer() -> None:
    desk = Desk()
    borrowing = desk.begin(ALICE, asked=True)
    borrowing.held_up = True
    desk.wait(3 * LOOKS)
    whole = desk.begin(BOB)
    desk.lender.arrived(whole)
    desk.wait(3 * LOOKS)
    assert desk.lost == []


def test_finding_5_liars_leave_room_for_whoever_delivers() -> None:
    desk = Desk()
    liars = [desk.begin(peer, asked=True) for peer in CROWD[:60] for _ in range(2)]
    for liar in liars:
        desk.bring(liar, FIRST)
        desk.ask(liar, SIZES[1])
    honest = desk.begin(ALICE, SIZES[2], asked=True)
    desk.wait(3)
    assert honest in desk.granted
    assert desk.used <= 24 * MIB


def test_one_fast_provider_has_what_it_needs_and_leaves_as_much_for_others() -> None:
    desk = Desk(total=32 * MIB)
    for _ in range(20):
        desk.begin(ALICE, SIZES[2], asked=True)
    assert PEER_BYTES_MAX - SIZES[2] < desk.used <= PEER_BYTES_MAX
    small = Desk(total=6 * MIB)
    for _ in range(20):
        small.begin(ALICE, SIZES[2], asked=True)
    assert 2 * MIB <= small.used <= 3 * MIB + SIZES[2]


def test_who_waits_is_served_in_turn_by_peer() -> None:
    desk = Desk(total=4 * SIZES[2])
    first = [desk.begin(CROWD[number], SIZES[2], asked=True) for number in range(4)]
    for borrowing in first:
        desk.lender.arrived(borrowing)  # being hashed
    greedy = [desk.begin(ALICE, SIZES[2], asked=True) for _ in range(3)]
    modest = desk.begin(BOB, SIZES[2], asked=True)
    assert desk.lender.waiting == 4
    desk.granted.clear()
    desk.release(first[0])
    desk.release(first[1])
    assert desk.granted == [greedy[0], modest]


def test_those_who_wait_for_a_small_thing_do_not_overtake_for_ever() -> None:
    desk = Desk(total=4 * MIB)
    held = [desk.begin(CROWD[number], MIB, asked=True) for number in range(4)]
    for borrowing in held:
        desk.lender.arrived(borrowing)
    large = desk.begin(ALICE, 2 * MIB, asked=True)
    small = desk.begin(BOB, KIB, asked=True)
    desk.release(held[0])
    assert small not in desk.granted
    desk.release(held[1])
    assert large in desk.granted


def test_messages_that_all_wait_for_more_do_not_wait_for_each_other() -> None:
    desk = Desk(total=8 * FIRST, unasked=8 * FIRST)
    half = [desk.begin(peer, asked=True) for peer in CROWD[:8]]
    for borrowing in half:
        desk.bring(borrowing, FIRST)
        desk.ask(borrowing, 2 * FIRST)
    for _ in range(40):
        desk.wait(1)
        for borrowing in half:
            if borrowing.charged == 2 * FIRST and not borrowing.whole:
                desk.lender.arrived(borrowing)
                desk.release(borrowing)
            elif borrowing.taken_back:
                desk.lender.release(borrowing, desk.now)
    assert desk.used == 0
    assert any(borrowing.whole for borrowing in half)


def test_two_messages_of_one_peer_that_wait_for_more_are_whole_one_after_the_other() -> None:
    desk = Desk()
    pair = [desk.begin(ALICE, SIZES[1]) for _ in range(2)]
    for borrowing in pair:
        desk.bring(borrowing, SIZES[1])
        desk.ask(borrowing, SIZES[2])
    assert (pair[0].charged, pair[1].charged) == (SIZES[2], 0)
    desk.lender.arrived(pair[0])
    desk.release(pair[0])
    assert pair[1].charged in (0, SIZES[2])


def test_finding_23_what_others_of_the_node_hold_is_waited_for_and_then_it_is_not_the_peers_fault() -> None:
    desk = Desk(system=2 * MIB)
    others = desk.system.reserve(Resource.BYTES, 2 * MIB)
    waiting = desk.begin(ALICE)
    desk.wait(PATIENCE_LOOKS - 1)
    assert desk.lost == []
    others.shrink(FIRST)
    desk.wait(1)
    assert waiting in desk.granted
    again = desk.begin(BOB)
    desk.bring(waiting, 10)
    desk.lender.arrived(waiting)
    desk.wait(PATIENCE_LOOKS + 2)
    assert desk.lost == [again] and again.ours
    desk.release(again)
    desk.release(waiting)
    assert desk.used == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_books_are_right_and_nobody_waits_for_ever(seed: int) -> None:
    random = Random(seed)
    desk = Desk(total=random.choice((2, 6, 24)) * MIB, unasked=MIB)
    alive: list[Borrowing] = []
    targets: dict[Borrowing, int] = {}
    for step in range(600):
        action = random.random()
        if action < 0.3 and step < 400:
            borrowing = desk.begin(
                random.choice(CROWD[:20]),
                asked=random.random() < 0.5,
                group=random.choice((None, "group a", "group b")),
            )
            targets[borrowing] = random.choice(SIZES)
            alive.append(borrowing)
        elif action < 0.8 and alive:
            borrowing = random.choice(alive)
            if borrowing.taken_back or borrowing.whole:
                desk.release(borrowing)
                alive.remove(borrowing)
            elif not borrowing.wants:
                desk.bring(borrowing, random.choice((1, 100, borrowing.charged)))
                if borrowing.charged < targets[borrowing]:
                    desk.ask(borrowing, next(size for size in SIZES if size > borrowing.charged))
                else:
                    desk.lender.arrived(borrowing)
        else:
            desk.wait(1)
        assert desk.used == sum(borrowing.charged for borrowing in alive)
        assert desk.used <= (desk.receiving.limit(Resource.BYTES) or 0)
        assert desk.unasked.used(Resource.BYTES) <= MIB
        assert desk.lender.waiting == sum(borrowing.wants > 0 for borrowing in alive)
    for _ in itertools.takewhile(lambda _: alive, range(300)):
        desk.wait(1)
        for borrowing in tuple(alive):
            if not borrowing.wants:
                desk.release(borrowing)
                alive.remove(borrowing)
    assert alive == [] and desk.used == desk.system.used(Resource.BYTES) == 0
    assert desk.lender._peers == desk.lender._groups == desk.lender._turns == {}
