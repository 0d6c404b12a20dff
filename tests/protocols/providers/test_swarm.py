"""The swarm machine by itself, and two of them talking."""

import pytest

from stack.errors import RemoteProtocolError
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.providers.interfaces import RangeBook, announce_key
from stack.protocols.providers.messages import RUNS_MAX, Member, RangesUpdate, Status, Update
from stack.protocols.providers.places import STREAMS_PER_ROOT_MAX
from stack.protocols.providers.ranges import LEAVES_MAX, LeafRanges
from stack.protocols.providers.subscription import (
    LOG_MAX,
    NAME_SECONDS,
    NAMES_BURST,
    TELLERS_MAX,
    PeerFound,
    RangeLog,
    RangesChanged,
    SendUpdates,
    SubscriptionId,
)
from stack.protocols.providers.swarm import (
    MEMBERS_MAX,
    STREAMS_PER_PEER_MAX,
    TICK_SECONDS,
    SwarmEffect,
    SwarmMachine,
)
from tests.bitswap.simulation import cid_of, peer_named

ROOT = cid_of(1)
KEY = announce_key(ROOT.multihash)
KEYS: list[PrivateKey] = [generate() for _ in range(MEMBERS_MAX + 3)]
PEERS = [PeerId.of(key.public) for key in KEYS]
ADDRESS = Multiaddr.parse("/ip4/10.1.2.3/tcp/4000")


def record(number: int, sequence: int = 1) -> bytes:
    return PeerRecord(PEERS[number], sequence, (ADDRESS,)).seal(KEYS[number])


RECORDS = [record(number) for number in range(len(KEYS))]
OURS = RECORDS[-1]


def ranges(count: int, *runs: tuple[int, int]) -> LeafRanges:
    made = LeafRanges(count)
    for start, end in runs:
        made.add(start, end)
    return made


def stream(number: int) -> SubscriptionId:
    return SubscriptionId(number)


class Side:
    """A machine and its effects."""

    def __init__(self, own: LeafRanges | None = None, *, joined: bool = False) -> None:
        self.book = RangeBook()
        if own is not None:
            self.book.add(ROOT, own)
        self.machine = SwarmMachine(self.book)
        if joined:
            self.machine.join(ROOT)
        self.now = 0.0

    def effects(self) -> list[SwarmEffect]:
        effects = []
        while (effect := self.machine.next_effect()) is not None:
            effects.append(effect)
        return effects

    def updates(self) -> dict[int, list[Update]]:
        """What is to be sent on each stream; it is sent."""
        updates: dict[int, list[Update]] = {}
        for effect in self.effects():
            if isinstance(effect, SendUpdates):
                updates.setdefault(effect.id, []).extend(effect.updates)
                self.machine.sent(effect.id)
        return updates

    def receive(self, id: int, peer: int, update: Update) -> None:
        self.machine.receive_update(stream(id), PEERS[peer], update, OURS, self.now)

    def ask(self, id: int, peer: int, own: RangesUpdate | None = None) -> None:
        """A peer asks about the root."""
        self.receive(id, peer, Update(key=KEY, record=RECORDS[peer], ranges=own))

    def subscribe(self, id: int, peer: int) -> None:
        self.machine.subscribe(stream(id), PEERS[peer], ROOT, OURS, self.now)

    def tick(self) -> dict[int, list[Update]]:
        self.now += TICK_SECONDS
        self.machine.handle_timeout(self.now)
        return self.updates()


# who may ask


def test_a_root_that_is_not_shared_here_is_unknown() -> None:
    side = Side()
    side.receive(1, 0, Update(key=KEY, record=RECORDS[0]))
    assert side.effects() == [SendUpdates(id=stream(1), updates=(Update(status=Status.UNKNOWN),), close=True)]
    assert side.machine.streams == 0
    assert side.machine._roots == {}
    assert repr(side.machine) == "<SwarmMachine 0 roots, 0 streams>"


def test_whoever_asks_hears_what_we_have_and_who_we_are() -> None:
    side = Side(ranges(10, (0, 3)))
    side.ask(1, 0)
    assert side.updates() == {1: [Update(record=OURS, ranges=RangesUpdate(leaves=10, bitmap=b"\x07\x00"))]}
    assert side.machine.streams == 1
    assert side.machine.knows(ROOT, PEERS[0])
    assert not side.machine.knows(ROOT, PEERS[1])
    assert not side.machine.knows(cid_of(2), PEERS[0])


def test_a_root_that_is_being_fetched_is_known_before_its_leaves_are() -> None:
    side = Side(joined=True)
    side.ask(1, 0)
    assert side.updates() == {1: [Update(record=OURS)]}


def test_files_with_too_many_leaves_are_told_without_ranges() -> None:
    class Huge(RangeBook):
        def ranges(self, root: object) -> LeafRanges | None:
            made = LeafRanges(0)
            made.count = LEAVES_MAX + 1
            return made

    side = Side()
    side.book = Huge()
    side.book.add(ROOT, LeafRanges(0))
    side.machine = SwarmMachine(side.book)
    side.ask(1, 0)
    assert side.updates() == {1: [Update(record=OURS)]}


def busy(id: int) -> SendUpdates:
    return SendUpdates(id=stream(id), updates=(Update(status=Status.BUSY),), close=True)


def crowded(*, own: LeafRanges | None = None, roots: int = 1) -> Side:
    """A side that shares several roots, each with as many strangers as may ask; their streams are 0, 1, ..."""
    side = Side(own)
    for number in range(1, roots + 1):
        side.book.add(cid_of(number), ranges(1))
    return side


def ask_as(side: Side, id: int, name: str, group: str | None = None, root: int = 1) -> list[SwarmEffect]:
    """Somebody without a record asks, from this group of addresses; returns what is to be done."""
    side.machine.receive_update(
        stream(id), peer_named(name), Update(key=announce_key(cid_of(root).multihash)), OURS, side.now, group=group
    )
    return [effect for effect in side.effects() if isinstance(effect, SendUpdates) and effect.close]


def test_streams_of_one_peer_are_bounded() -> None:
    side = crowded(roots=STREAMS_PER_PEER_MAX + 1)
    for index in range(STREAMS_PER_PEER_MAX):
        assert ask_as(side, index, "somebody", root=index + 1) == []
    assert ask_as(side, 100, "somebody", root=STREAMS_PER_PEER_MAX + 1) == [busy(100)]
    assert ask_as(side, 101, "another", root=STREAMS_PER_PEER_MAX + 1) == []
    assert side.machine.streams == STREAMS_PER_PEER_MAX + 1


def test_streams_of_one_root_are_bounded() -> None:
    side = crowded()
    for index in range(STREAMS_PER_ROOT_MAX):
        assert ask_as(side, index, f"peer {index}") == []
    assert ask_as(side, 100, "one more") == [busy(100)]
    side.machine.stream_closed(stream(100))
    side.machine.stream_closed(stream(5))
    assert ask_as(side, 101, "one more") == []


def test_one_peer_has_two_streams_about_a_root_at_most() -> None:
    side = crowded()
    assert [ask_as(side, index, "somebody") for index in range(3)] == [[], [], [busy(2)]]
    assert ask_as(side, 3, "another") == []
    side.machine.stream_closed(stream(0))
    assert ask_as(side, 4, "somebody") == []


def test_no_two_peers_keep_a_root_to_themselves() -> None:
    """With 32 streams each they had all 64 places, and everybody else heard BUSY."""
    side = crowded()
    for index in range(STREAMS_PER_ROOT_MAX):
        ask_as(side, index, f"liar {index % 2}")
    assert ask_as(side, 100, "honest") == []


def test_when_all_places_are_taken_the_newest_stream_of_who_holds_most_goes() -> None:
    side = crowded()
    for index in range(STREAMS_PER_ROOT_MAX - 4):
        ask_as(side, index, f"peer {index}")
    for index in range(4):
        ask_as(side, 100 + index, f"twice {index // 2}")
    assert ask_as(side, 200, "honest") == [busy(101)]
    assert ask_as(side, 201, "another") == [busy(103)]
    assert ask_as(side, 202, "one more") == [busy(202)]
    assert side.machine.streams == STREAMS_PER_ROOT_MAX


def test_when_all_places_are_taken_a_group_of_addresses_counts_as_one() -> None:
    side = crowded()
    for index in range(STREAMS_PER_ROOT_MAX):
        assert ask_as(side, index, f"liar {index}", "192.0.2.1/32") == []
    for index in range(STREAMS_PER_ROOT_MAX // 2):
        assert ask_as(side, 100 + index, f"honest {index}", f"10.0.0.{index}/32") == [
            busy(STREAMS_PER_ROOT_MAX - 1 - index)
        ]
    assert ask_as(side, 200, "liar again", "192.0.2.1/32") == [busy(200)]
    assert side.machine.streams == STREAMS_PER_ROOT_MAX


def test_who_had_to_go_is_told_so_and_what_it_says_meanwhile_is_passed_over() -> None:
    side = crowded()
    for index in range(STREAMS_PER_ROOT_MAX):
        ask_as(side, index, f"liar {index}", "192.0.2.1/32")
    last = STREAMS_PER_ROOT_MAX - 1
    assert ask_as(side, 100, "honest") == [busy(last)]
    said = Update(key=KEY, ranges=RangesUpdate(leaves=1, complete=True))
    side.machine.receive_update(stream(last), peer_named(f"liar {last}"), said, OURS, side.now)
    side.machine.sent(stream(last))
    assert side.effects() == [] and side.machine.told(stream(last)) is None
    side.machine.stream_closed(stream(last))
    assert side.machine._parting == set()
    assert side.machine.streams == STREAMS_PER_ROOT_MAX


def test_streams_that_we_open_take_no_place_of_those_who_ask_and_none_of_them_goes() -> None:
    side = crowded()
    side.machine.join(ROOT)
    for index in range(STREAMS_PER_ROOT_MAX):
        side.machine.subscribe(stream(1000 + index), peer_named(f"named {index}"), ROOT, OURS, side.now)
    for index in range(STREAMS_PER_ROOT_MAX):
        assert ask_as(side, index, f"liar {index}", "192.0.2.1/32") == []
    assert ask_as(side, 100, "honest", "10.0.0.1/32") == [busy(STREAMS_PER_ROOT_MAX - 1)]


def test_a_refused_stream_leaves_no_root_behind() -> None:
    side = crowded(roots=STREAMS_PER_PEER_MAX + 1)
    for index in range(STREAMS_PER_PEER_MAX):
        ask_as(side, index, "somebody", root=index + 1)
    assert ask_as(side, 99, "somebody", root=STREAMS_PER_PEER_MAX + 1) == [busy(99)]
    assert len(side.machine._roots) == STREAMS_PER_PEER_MAX


def test_a_flood_of_updates_is_an_offence() -> None:
    side = Side(ranges(10))
    side.ask(1, 0)
    with pytest.raises(RemoteProtocolError, match="updates a second"):
        for _ in range(300):
            side.receive(1, 0, Update())
    patient = Side(ranges(10))
    patient.ask(1, 0)
    for _ in range(1000):
        patient.now += 0.011
        patient.receive(1, 0, Update())


def test_a_refusal_ends_a_stream_that_we_opened() -> None:
    side = Side(joined=True)
    side.subscribe(1, 0)
    with pytest.raises(RemoteProtocolError, match="BUSY"):
        side.receive(1, 0, Update(status=Status.BUSY))


# what is told


def test_changes_are_told_at_each_tick_and_only_once() -> None:
    own = ranges(20, (0, 3))
    side = Side(own)
    side.ask(1, 0)
    side.updates()
    assert side.tick() == {}
    own.add(5, 7)
    own.add(3, 4)
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=20, runs=((3, 4), (5, 7))))]}
    assert side.tick() == {}
    own.add(0, 20)
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=20, complete=True))]}
    assert side.tick() == {}


def test_who_has_all_hears_that_and_no_bitmap() -> None:
    side = Side(ranges(1000, (0, 1000)))
    side.ask(1, 0)
    assert side.updates()[1][0].ranges == RangesUpdate(leaves=1000, complete=True)


def test_a_slow_reader_hears_all_that_it_missed_at_once() -> None:
    own = ranges(20)
    side = Side(own)
    side.ask(1, 0)
    side.effects()  # nothing is reported as sent
    for index in range(5):
        own.add(index, index + 1)
        side.machine.handle_timeout(side.now)
    assert side.effects() == []
    side.machine.sent(stream(1))
    side.machine.sent(stream(77))
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=20, runs=((0, 5),)))]}


def test_who_is_too_far_behind_hears_the_bitmap() -> None:
    log = RangeLog(ranges(1000))
    for index in range(LOG_MAX + 1):
        log.replace(ranges(1000, (0, 2 * index + 1)))
    assert log.version == LOG_MAX + 2
    assert log.since(log.version) is None
    behind = log.since(1)
    assert behind is not None and behind.bitmap is not None
    enough = log.since(2)
    assert enough is not None and enough.runs == ((1, 2 * LOG_MAX + 1),)
    first = log.since(0)
    assert first is not None and first.bitmap == bytes(log.ranges)


def test_too_many_runs_are_told_as_a_bitmap() -> None:
    log = RangeLog(ranges(4 * RUNS_MAX))
    some = ranges(4 * RUNS_MAX)
    for index in range(RUNS_MAX):
        some.add(2 * index, 2 * index + 1)
    log.replace(some.copy())
    update = log.since(1)
    assert update is not None and len(update.runs) == RUNS_MAX
    some.add(4 * RUNS_MAX - 1, 4 * RUNS_MAX)
    log.replace(some)
    update = log.since(1)
    assert update is not None and update.runs == () and update.bitmap is not None


def test_nothing_new_is_no_new_version() -> None:
    log = RangeLog(ranges(10, (0, 1)))
    log.replace(ranges(10, (0, 1)))
    assert log.version == 1


def test_another_number_of_leaves_is_told_whole() -> None:
    side = Side(ranges(1))
    side.ask(1, 0)
    side.updates()
    side.book.add(ROOT, ranges(10, (2, 3)))
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=10, bitmap=b"\x04\x00"))]}


def test_leaves_that_become_known_later_are_told_then() -> None:
    side = Side(joined=True)
    side.ask(1, 0)
    assert side.updates() == {1: [Update(record=OURS)]}
    side.book.add(ROOT, ranges(3, (0, 1)))
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=3, bitmap=b"\x01"))]}


def test_members_of_the_swarm_are_told_with_records_and_ranges() -> None:
    side = Side(ranges(10, (0, 10)))
    side.ask(1, 0, RangesUpdate(leaves=10, bitmap=b"\x01\x00"))
    side.updates()
    side.ask(2, 1)
    mine, theirs = side.updates()[2]
    assert mine.record == OURS
    assert theirs == Update(
        member=Member(peer=PEERS[0], record=RECORDS[0], ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00"))
    )
    assert side.tick() == {1: [Update(member=Member(peer=PEERS[1], record=RECORDS[1]))]}
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, runs=((4, 6),))))
    assert side.tick() == {2: [Update(member=Member(peer=PEERS[0], ranges=RangesUpdate(leaves=10, runs=((4, 6),))))]}
    newer = record(0, 2)
    side.receive(1, 0, Update(record=newer))
    side.receive(1, 0, Update(record=newer))
    assert side.tick() == {2: [Update(member=Member(peer=PEERS[0], record=newer))]}
    side.machine.stream_closed(stream(1))
    side.machine.stream_closed(stream(1))
    assert side.tick() == {2: [Update(member=Member(peer=PEERS[0], gone=True))]}
    assert side.tick() == {}


def test_peers_that_do_not_say_where_they_are_are_not_told() -> None:
    side = Side(ranges(10))
    side.receive(1, 0, Update(key=KEY))
    side.updates()
    side.ask(2, 1)
    assert len(side.updates()[2]) == 1


def test_no_more_than_twenty_members_are_told() -> None:
    side = Side(ranges(10))
    for index in range(MEMBERS_MAX + 2):
        side.ask(index, index)
    side.updates()
    told = side.tick()
    assert all(len(updates) <= MEMBERS_MAX for updates in told.values())
    side.machine.stream_closed(stream(0))
    told = side.tick()
    last = told[MEMBERS_MAX + 1]
    assert [update.member.gone for update in last if update.member is not None] == [True, False]


def test_members_are_told_only_to_those_who_asked() -> None:
    side = Side(ranges(10), joined=True)
    side.ask(1, 0)
    side.subscribe(2, 1)
    side.receive(2, 1, Update(record=RECORDS[1]))
    side.updates()
    told = side.tick()
    assert 2 not in told
    assert [update.member.peer for update in told[1] if update.member is not None] == [PEERS[1]]


def test_all_is_told_once_more_when_the_peer_asks_for_it() -> None:
    side = Side(ranges(10, (0, 2)))
    side.ask(1, 0, RangesUpdate(leaves=10, bitmap=b"\x01\x00"))
    side.ask(2, 1)
    side.updates()
    side.receive(2, 1, Update(resend=True))
    updates = side.tick()[2]
    assert updates == [
        Update(ranges=RangesUpdate(leaves=10, bitmap=b"\x03\x00")),
        Update(member=Member(peer=PEERS[0], ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00"))),
    ]


# what we are told


def test_asking_tells_the_key_and_not_the_root() -> None:
    side = Side(ranges(10, (0, 1)), joined=True)
    side.subscribe(1, 0)
    assert side.updates() == {1: [Update(key=KEY, record=OURS, ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00"))]}
    assert side.machine.next_timeout() == 0.0
    side.tick()
    assert side.machine.next_timeout() == 2 * TICK_SECONDS
    side.machine.stream_closed(stream(1))
    assert side.machine.next_timeout() is None


def test_peers_and_their_ranges_are_told_to_whoever_joined() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    side.updates()
    side.receive(1, 0, Update(record=RECORDS[0], ranges=RangesUpdate(leaves=10, bitmap=b"\x07\x00")))
    assert side.effects() == [
        PeerFound(root=ROOT, peer=PEERS[0], addresses=(ADDRESS,)),
        RangesChanged(root=ROOT, peer=PEERS[0], ranges=ranges(10, (0, 3))),
    ]
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, runs=((5, 6),))))
    assert side.effects() == [RangesChanged(root=ROOT, peer=PEERS[0], ranges=ranges(10, (0, 3), (5, 6)))]
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, complete=True)))
    assert side.effects() == [RangesChanged(root=ROOT, peer=PEERS[0], ranges=None)]


def test_who_joins_later_is_told_of_all_that_came_before() -> None:
    side = Side(ranges(10))
    side.ask(1, 0, RangesUpdate(leaves=10, bitmap=b"\x01\x00"))
    side.receive(2, 1, Update(key=KEY))
    side.updates()
    side.machine.join(ROOT)
    assert side.effects() == [
        PeerFound(root=ROOT, peer=PEERS[0], addresses=(ADDRESS,)),
        RangesChanged(root=ROOT, peer=PEERS[0], ranges=ranges(10, (0, 1))),
    ]


def test_a_sharer_that_fetches_nothing_is_told_nothing() -> None:
    side = Side(ranges(10, (0, 10)))
    side.ask(1, 0, RangesUpdate(leaves=10, bitmap=b"\x01\x00"))
    side.receive(1, 0, Update(member=Member(peer=PEERS[3], record=RECORDS[3])))
    assert [type(effect) for effect in side.effects()] == [SendUpdates]


def test_members_at_second_hand_are_found_by_their_signed_records() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    side.effects()
    side.receive(
        1,
        0,
        Update(member=Member(peer=PEERS[1], record=RECORDS[1], ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00"))),
    )
    assert side.effects() == [
        PeerFound(root=ROOT, peer=PEERS[1], addresses=(ADDRESS,)),
        RangesChanged(root=ROOT, peer=PEERS[1], ranges=ranges(10, (0, 1)), hearsay=True),
    ]
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], ranges=RangesUpdate(leaves=10, runs=((3, 4),)))))
    assert side.effects() == [RangesChanged(root=ROOT, peer=PEERS[1], ranges=ranges(10, (0, 1), (3, 4)), hearsay=True)]
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], ranges=RangesUpdate(leaves=10, complete=True))))
    assert side.effects() == [RangesChanged(root=ROOT, peer=PEERS[1], ranges=None, hearsay=True)]
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], gone=True)))
    side.receive(1, 0, Update(member=Member(peer=PEERS[2], gone=True)))
    side.receive(1, 0, Update(member=Member(peer=PEERS[1])))
    assert side.effects() == []


@pytest.mark.parametrize("claim", [RangesUpdate(leaves=10, bitmap=bytes(2)), RangesUpdate(leaves=10, complete=True)])
def test_nothing_is_heard_of_whom_no_signed_record_has_shown_on_that_stream(claim: RangesUpdate) -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    side.subscribe(2, 2)
    side.receive(2, 2, Update(member=Member(peer=PEERS[1], record=RECORDS[1])))
    side.effects()
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], ranges=claim)))
    assert side.effects() == []
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], record=RECORDS[1])))
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], gone=True)))
    side.effects()
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], ranges=claim)))
    assert side.effects() == []


def name_and_take_back(side: Side, id: int, teller: int, times: int) -> int:
    """A peer names others, one after the other; returns how many of them are found."""
    for index in range(times):
        member = PEERS[1 + index % MEMBERS_MAX]
        side.receive(id, teller, Update(member=Member(peer=member, record=RECORDS[1 + index % MEMBERS_MAX])))
        side.receive(id, teller, Update(member=Member(peer=member, gone=True)))
        side.now += 0.02
    return sum(isinstance(effect, PeerFound) for effect in side.effects())


def test_a_peer_names_others_only_so_often_on_however_many_streams() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    assert NAMES_BURST <= name_and_take_back(side, 1, 0, 100) <= NAMES_BURST + 2
    side.machine.stream_closed(stream(1))
    side.subscribe(2, 0)
    assert name_and_take_back(side, 2, 0, 50) <= 1
    side.now += 3 * NAME_SECONDS
    assert 3 <= name_and_take_back(side, 2, 0, 50) <= 4
    side.subscribe(3, 22)
    assert name_and_take_back(side, 3, 22, 20) == 20


def test_who_names_others_is_remembered_within_a_bound() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    name_and_take_back(side, 1, 0, 5)
    root = next(iter(side.machine._roots.values()))
    for index in range(2 * TELLERS_MAX):
        root.may_name(peer_named(f"teller {index}"), side.now)
    assert len(root.tellers) == TELLERS_MAX


def test_what_a_peer_says_itself_counts_more_than_what_others_say_of_it() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    side.ask(2, 1, RangesUpdate(leaves=10, bitmap=b"\x03\x00"))
    side.effects()
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00"))))
    assert side.effects() == []


def test_what_is_heard_of_others_is_not_told_further() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], record=RECORDS[1])))
    side.ask(2, 2)
    updates = side.updates()
    assert [update.member for update in updates[2]] == [None]


def test_those_who_ask_us_tell_us_of_nobody() -> None:
    side = Side(ranges(10), joined=True)
    side.ask(1, 0)
    side.effects()
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], record=RECORDS[1])))
    assert side.effects() == []


def test_a_record_of_somebody_else_is_an_offence() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    for update in (
        Update(record=RECORDS[1]),
        Update(record=b"nonsense"),
        Update(member=Member(peer=PEERS[1], record=RECORDS[2])),
        Update(member=Member(peer=PEERS[1], record=RECORDS[1][:-1] + bytes([RECORDS[1][-1] ^ 1]))),
    ):
        with pytest.raises(RemoteProtocolError):
            side.receive(1, 0, update)


def test_more_members_than_allowed_are_an_offence() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    for index in range(1, MEMBERS_MAX + 1):
        side.receive(1, 0, Update(member=Member(peer=PEERS[index], record=RECORDS[index])))
    more = MEMBERS_MAX + 1
    with pytest.raises(RemoteProtocolError, match="members"):
        side.receive(1, 0, Update(member=Member(peer=PEERS[more], record=RECORDS[more])))


def test_ranges_of_another_number_of_leaves_are_not_kept_but_asked_for_later() -> None:
    side = Side(joined=True)
    side.subscribe(1, 0)
    side.updates()
    side.receive(1, 0, Update(record=RECORDS[0], ranges=RangesUpdate(leaves=LEAVES_MAX, bitmap=bytes(LEAVES_MAX // 8))))
    claim = RangesUpdate(leaves=10, bitmap=b"\x01\x00")
    side.receive(1, 0, Update(member=Member(peer=PEERS[1], record=RECORDS[1], ranges=claim)))
    assert [type(effect) for effect in side.effects()] == [PeerFound, PeerFound]
    assert side.machine.bytes_kept(stream(1)) == 0
    assert side.tick() == {}
    side.book.add(ROOT, ranges(1))
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=1, bitmap=b"\x00"), resend=True)]}
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00")))
    assert side.tick() == {}
    side.book.add(ROOT, ranges(10))
    assert side.tick() == {1: [Update(ranges=RangesUpdate(leaves=10, bitmap=b"\x00\x00"), resend=True)]}
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, bitmap=b"\x01\x00")))
    assert side.effects() == [RangesChanged(root=ROOT, peer=PEERS[0], ranges=ranges(10, (0, 1)))]
    assert side.tick() == {}


def test_a_peer_that_has_all_is_believed_before_leaves_are_known() -> None:
    side = Side(joined=True)
    side.subscribe(1, 0)
    side.effects()
    side.receive(1, 0, Update(record=RECORDS[0], ranges=RangesUpdate(leaves=999, complete=True)))
    assert side.effects() == [
        PeerFound(root=ROOT, peer=PEERS[0], addresses=(ADDRESS,)),
        RangesChanged(root=ROOT, peer=PEERS[0], ranges=None),
    ]


def test_what_a_stream_may_make_us_keep_is_known() -> None:
    side = Side(ranges(801), joined=True)
    side.subscribe(1, 0)
    side.ask(2, 1)
    assert side.machine.bytes_kept(stream(1)) == 101 * (1 + MEMBERS_MAX) + 101 * 64
    assert side.machine.bytes_kept(stream(2)) == 101 + 101 * 64  # the largest log of changes
    assert side.machine.bytes_kept(stream(3)) == 0


# coming and going


def test_leaving_names_the_streams_to_be_closed_and_forgets_the_root() -> None:
    side = Side(joined=True)
    side.machine.join(ROOT)
    side.subscribe(1, 0)
    side.ask(2, 1)
    assert side.machine.leave(ROOT) == []
    assert side.machine.leave(ROOT) == [stream(1)]
    side.machine.stream_closed(stream(1))
    assert len(side.machine._roots) == 1
    side.machine.stream_closed(stream(2))
    assert side.machine._roots == {}


def test_a_root_nobody_talks_about_is_forgotten_when_left() -> None:
    side = Side(joined=True)
    assert side.machine.leave(ROOT) == []
    assert side.machine._roots == {}


def test_two_machines_agree() -> None:
    first, second = Side(ranges(50, (0, 50))), Side(ranges(50), joined=True)
    second.subscribe(1, -1)
    fetched = second.book.ranges(ROOT)
    assert fetched is not None
    for step in range(12):
        for here, there in ((first, second), (second, first)):
            for effect in here.effects():
                if isinstance(effect, SendUpdates):
                    for update in effect.updates:
                        there.receive(1, -1, update)
                    here.machine.sent(effect.id)
        if step < 10:
            fetched.add(5 * step, 5 * step + 5)
        for side in (first, second):
            side.now += TICK_SECONDS
            side.machine.handle_timeout(side.now)
    for side in (first, second):
        log = side.machine._streams[stream(1)].log
        assert log is not None and log.ranges.complete


# the end of a fetch


def test_finding_16_who_has_all_of_it_says_so_before_it_leaves() -> None:
    own = ranges(10, (0, 9))
    side = Side(own, joined=True)
    side.subscribe(1, 0)
    assert len(side.effects()) == 1  # and this is still being sent
    own.add(9, 10)
    assert side.machine.leave(ROOT) == [] and side.machine.leaving
    assert side.effects() == []
    side.machine.sent(stream(1))
    told = (Update(ranges=RangesUpdate(leaves=10, complete=True)),)
    assert side.effects() == [SendUpdates(id=stream(1), updates=told, close=True, linger=True)]
    assert side.tick() == {}
    side.machine.stream_closed(stream(1))
    assert not side.machine.leaving and side.machine.streams == 0


def test_who_leaves_before_it_has_all_ends_its_streams() -> None:
    side = Side(ranges(10, (0, 9)), joined=True)
    side.subscribe(1, 0)
    side.updates()
    assert side.machine.leave(ROOT) == [stream(1)] and not side.machine.leaving


def test_a_stream_that_comes_after_the_fetch_is_for_one_word() -> None:
    side = Side(ranges(10, (0, 10)))
    side.subscribe(1, 0)
    (first,) = side.effects()
    assert isinstance(first, SendUpdates) and first.updates[0].ranges == RangesUpdate(leaves=10, complete=True)
    side.machine.sent(stream(1))
    assert side.effects() == [SendUpdates(id=stream(1), updates=(), close=True, linger=True)]


def test_what_a_receiver_tells_can_be_asked_for() -> None:
    side = Side(ranges(10, (0, 10)))
    side.ask(1, 0)
    assert side.machine.told(stream(1)) is None and side.machine.told(stream(9)) is None
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, runs=((0, 1),))))
    assert side.machine.told(stream(1)) == (ROOT, False)
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10, complete=True)))
    assert side.machine.told(stream(1)) == (ROOT, True)
