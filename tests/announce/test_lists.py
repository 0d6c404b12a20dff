"""Lists of further keys: whose is fetched, and who waits. No author, and no address group, keeps others' from being fetched."""

import pytest

from stack.announce.events import FetchKeys
from stack.announce.fetching import UNDER_WAY_MAX, WAITING_MAX
from stack.announce.keyspace import WHOLE, announce_key, topic_of
from stack.announce.records import Record
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from tests.announce.build import NOW, a_record, keys_of
from tests.announce.network import peer_of, root_of
from tests.announce.test_machine import Lab

NUMBERS: dict[PeerId, int] = {}
KEY = announce_key(root_of("in a list").multihash)


def settled() -> Lab:
    lab = Lab()
    lab.settle()
    return lab


def record_of(author: int, network: int, **options: object) -> Record:
    """Of somebody with a list, at an address of a network."""
    options.setdefault("more", Cid.of(b"list %d" % author))
    options.setdefault("address", f"/ip4/9.{network // 256}.{network % 256}.{author % 250 + 1}/tcp/1")
    return a_record(author, **options)


def told(lab: Lab, record: Record) -> list[int]:
    """It comes by gossip; whose lists are to be fetched now."""
    NUMBERS[record.author] = next(n for n in range(700) if peer_of(n) == record.author)
    lab.machine.receive_gossip(topic_of(WHOLE), record.data, peer_of(90), lab.now, NOW + lab.now)
    return fetches(lab)


def fetches(lab: Lab) -> list[int]:
    """Authors, by their numbers."""
    return [NUMBERS[effect.record.author] for effect in lab.drain() if isinstance(effect, FetchKeys)]


def fetched(lab: Lab, author: int, data: bytes | None = KEY) -> list[int]:
    """Its list has come, or will not; whose are fetched next."""
    asked = [effect.record for effect in lab.effects if isinstance(effect, FetchKeys)]
    lab.machine.keys_fetched([record for record in asked if record.author == peer_of(author)][-1], data)
    return fetches(lab)


def test_identities_at_one_address_whose_lists_nobody_brings_do_not_keep_others_from_being_fetched() -> None:
    """Four of them had all places for 60 s at a time, and what found none was dropped for good."""
    lab = settled()
    stuck = [author for number in range(1, 9) for author in told(lab, record_of(number, 1))]
    assert stuck == [1]  # of one network there is one at a time
    for number in range(100, 105):
        assert told(lab, record_of(number, number)) == [number]
        fetched(lab, number)
    assert len(lab.machine.table.find(KEY, NOW)) == 5


def test_who_waits_is_taken_in_turns_by_network() -> None:
    lab = settled()
    many = [author for number in range(1, 10) for author in told(lab, record_of(number, number))]
    assert many == list(range(1, 1 + UNDER_WAY_MAX))
    assert [told(lab, record_of(number, 300)) for number in range(20, 40)] == [[]] * 20
    assert told(lab, record_of(40, 301)) == []
    assert fetched(lab, 1, None) == [9]
    assert fetched(lab, 2, None) == [20]
    assert fetched(lab, 3, None) == [40]
    assert fetched(lab, 4, None) == []  # one of the crowd's is under way
    assert fetched(lab, 20) == [21]


def test_who_found_no_place_is_taken_when_there_is_one_and_none_is_lost() -> None:
    lab = settled()
    under_way = [author for number in range(1, 61) for author in told(lab, record_of(number, number))]
    while under_way:
        under_way += fetched(lab, under_way.pop(0))
    assert len(lab.machine.table.find(KEY, NOW)) == 60


def test_who_waits_is_bounded_and_the_network_with_most_gives_way() -> None:
    lab = settled()
    for number in range(1, WAITING_MAX + 20):
        told(lab, record_of(number, 1))
    state = lab.machine._state
    assert state.fetching.waiting == WAITING_MAX
    under_way = [author for number in range(500, 507) for author in told(lab, record_of(number, number))]
    assert len(under_way) == UNDER_WAY_MAX - 1
    assert told(lab, record_of(600, 600)) == []
    assert state.fetching.waiting == WAITING_MAX
    assert fetched(lab, 500, None) == [600]
    assert told(lab, record_of(WAITING_MAX + 19, 1)) == []  # it gave way, and comes again
    assert state.fetching.waiting == WAITING_MAX


def test_a_list_that_could_not_be_had_is_fetched_when_its_record_is_heard_again() -> None:
    lab = settled()
    record = record_of(1, 1)
    assert told(lab, record) == [1]
    assert told(lab, record) == []  # it is under way
    assert fetched(lab, 1, None) == []
    assert told(lab, record) == [1]
    assert fetched(lab, 1) == []
    assert told(lab, record) == []  # it is here


def test_what_came_and_is_of_no_use_is_not_fetched_again() -> None:
    """Else whoever repeats the record of another has everybody ask that one for a MiB again and again."""
    lab = settled()
    assert told(lab, record_of(1, 1)) == [1]
    assert fetched(lab, 1, b"odd") == []
    assert told(lab, record_of(1, 1)) == []
    assert told(lab, record_of(1, 1, sequence=2, issued=NOW + 60)) == [1]


def test_attack_whose_lists_came_is_remembered_of_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.announce.fetching.CAME_MAX", 2)
    lab = settled()
    for number in (1, 2, 3):
        assert told(lab, record_of(number, number)) == [number]
        fetched(lab, number, b"odd")
    assert [told(lab, record_of(number, number)) for number in (1, 2, 3)] == [[1], [], []]


def test_a_newer_record_waits_for_the_list_of_the_older_one() -> None:
    lab = settled()
    assert told(lab, record_of(1, 1)) == [1]
    assert told(lab, record_of(1, 2, sequence=2, issued=NOW + 60, more=Cid.of(b"newer"))) == []
    assert fetched(lab, 1) == [1]
    assert fetched(lab, 1) == [] and len(lab.machine.table.find(KEY, NOW)) == 1


def test_who_has_moved_or_is_gone_when_its_turn_comes_is_passed_over() -> None:
    lab = settled()
    assert [told(lab, record_of(number, 1)) for number in (1, 2, 3)] == [[1], [], []]
    assert told(lab, record_of(2, 2, sequence=2, issued=NOW + 60)) == [2]
    told(lab, record_of(3, 1, sequence=2, issued=NOW + 60, more=None))
    assert fetched(lab, 1) == []
    assert lab.machine._state.fetching.waiting == 0


def test_a_list_outlives_a_split_and_is_fetched_again_for_a_merge() -> None:
    """With each change of the shard all lists were forgotten, and fetched again only for later records."""
    lab = settled()
    keys = sorted(keys_of(8))
    told(lab, record_of(1, 1))
    fetched(lab, 1, b"".join(keys))
    machine = lab.machine
    membership, table = machine._membership, machine.table
    half = machine._state.home_shard(1)
    here = [key for key in keys if key[0] >> 7 == half & 1]
    membership._move(half, lab.now, NOW + lab.now)
    assert fetches(lab) == []
    assert [key for key in keys if table.find(key, NOW)] == here
    load = table.load
    membership._move(WHOLE, lab.now, NOW + lab.now)
    assert fetches(lab) == [1]
    fetched(lab, 1, b"".join(keys))
    assert [key for key in keys if table.find(key, NOW)] == keys
    assert table.load > load
    machine.close()
    assert table.bytes_held == 0
