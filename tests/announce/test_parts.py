"""The parts of the machine by themselves: our own records, contacts, walks, ranks, budgets, parameters."""

from random import Random

import pytest

from stack.announce.contacts import CONTACT_BYTES_MAX, OTHER_SHARD_MAX, Contacts
from stack.announce.events import AskId
from stack.announce.keyspace import WHOLE, Home, Shard, home_of_key, home_of_peer, shard_at, word_key
from stack.announce.messages import Response, Status
from stack.announce.own import Announcement, NewRecord, OwnAnnouncements, check_name
from stack.announce.params import AnnounceParams
from stack.announce.quota import Quota
from stack.announce.records import KEYS_MAX, Record, decode_record
from stack.announce.reputation import PEERS_MAX, SCORE_MAX, Reputation
from stack.announce.walk import Walk
from stack.errors import ConfigError, DecodeError, LocalProtocolError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from tests.announce.build import HOUR, NOW, a_record, keys_of
from tests.announce.network import address_of, key_of, peer_of, root_of

PARAMS = AnnounceParams(refresh_jitter=0)


class Own:
    """What one author writes."""

    def __init__(self, *, is_member: bool = False) -> None:
        self.lists: list[bytes] = []
        self.own = OwnAnnouncements(key_of(0), PARAMS, Random(1), is_member=is_member, keep_list=self.keep)
        self.own.addresses_changed((address_of(0),), 0.0)

    def keep(self, data: bytes) -> Cid:
        self.lists.append(data)
        return Cid.of(data)

    def add(self, name: object, public: str | None = None, now: float = 0.0) -> Cid:
        root = root_of(name)
        self.own.announce(Announcement(root=root, name=public, size=5), now)
        return root

    def due(self, now: float, level: int = 0) -> list[Record]:
        return [decode_record(new.data) for new in self.own.due(level, now, NOW + now)]


def test_the_first_change_goes_out_at_once_and_the_next_after_thirty_seconds() -> None:
    own = Own()
    own.add(1)
    own.add(2)
    [record] = own.due(0.0)
    assert len(record.keys) == 32 and record.addresses == (address_of(0),)
    own.add(3, now=1.0)
    own.add(3, now=1.0)
    assert own.due(1.0) == [] and own.own.is_pending
    assert own.own.next_timeout(1.0, NOW + 1.0) == 30.0
    [record] = own.due(30.0)
    assert len(record.keys) == 48 and record.sequence == NOW + 30
    own.add(4, now=100.0)
    assert len(own.due(100.0)) == 1


def test_a_record_is_refreshed_with_twice_its_ttl_up_to_a_day() -> None:
    own = Own()
    own.add(1)
    now, ttls = 0.0, []
    for _ in range(6):
        [record] = own.due(now)
        ttls.append(record.ttl // HOUR)
        at = own.own.next_timeout(now, NOW + now)
        assert at == now + record.ttl / 2
        now = at
    assert ttls == [2, 4, 8, 16, 24, 24]
    own.add(2, now=now - 60)
    [record] = own.due(now - 60)
    assert record.ttl == 24 * HOUR


def test_what_is_withdrawn_is_taken_back_for_as_long_as_it_would_have_been_good() -> None:
    own = Own()
    root = own.add(1)
    own.due(0.0)
    assert own.own.withdraw(root, 50.0) and not own.own.withdraw(root, 50.0)
    [record] = own.due(50.0)
    assert record.keys == b"" and record.expires == NOW + 2 * HOUR
    assert own.own.next_timeout(60.0, NOW + 60) is None
    assert own.own.due(0, 100.0, NOW + 100) == []
    own.add(2, now=3 * HOUR)
    [record] = own.due(3 * HOUR)
    assert len(record.keys) == 16


def test_shards_that_lost_all_their_content_are_told_so_at_any_level() -> None:
    own = Own()
    roots = [own.add(number) for number in range(8)]
    assert len(own.due(0.0, level=1)) == 2
    for root in roots[1:]:
        own.own.withdraw(root, 40.0)
    records = own.due(40.0, level=2)
    assert sum(len(record.keys) for record in records) == 16
    assert all(record.shard >= 4 for record in records) and len(records) >= 2


def test_a_public_name_is_told_in_the_shards_of_its_words() -> None:
    own = Own()
    root = own.add(1, "some rare film")
    own.own.set_directory(root_of("all"), 0.0)
    own.own.set_directory(root_of("all"), 0.0)
    records = own.due(0.0, level=3)
    named = {record.shard for record in records if record.names}
    assert named == {shard_at(home_of_key(word_key(word)), 3) for word in ("some", "rare", "film")}
    assert all(record.directory == root_of("all") for record in records if record.names)
    own.add(1, None, 40.0)
    assert any(not record.names for record in own.due(40.0, level=3))
    assert [item.root for item in own.own.items] == [root]


def test_names_that_do_not_fit_are_left_to_the_directory() -> None:
    own = Own()
    for number in range(60):
        own.add(number, f"{'long' * 50} film{number}")
    [record] = own.due(0.0)
    assert 20 < len(record.names) <= 32 and len(record.keys) == 16 * 60
    own = Own()
    for number in range(60):
        own.add(number, f"film{number}")
    [record] = own.due(0.0)
    assert len(record.names) == 32


def test_further_keys_are_a_list() -> None:
    own = Own()
    for number in range(KEYS_MAX + 10):
        own.add(number)
    [record] = own.due(0.0)
    assert len(record.keys) == KEYS_MAX * 16 and len(own.lists[0]) == 160
    assert record.more == Cid.of(own.lists[0])


def test_a_member_tells_that_it_is_one_and_goes_on_telling() -> None:
    own = Own(is_member=True)
    [record] = own.due(0.0)
    assert record.is_presence and record.member and record.shard == home_of_peer(peer_of(0))
    [record] = own.due(HOUR)
    assert record.is_presence and record.ttl == 4 * HOUR


def test_new_addresses_are_told_once_they_have_settled() -> None:
    own = Own()
    own.own.addresses_changed((address_of(0),), 0.0)
    own.add(1)
    own.due(0.0)
    own.own.addresses_changed((address_of(1),), 50.0)
    assert own.due(50.0) == []
    [record] = own.due(52.0)
    assert record.addresses == (address_of(1),) and record.ttl == 2 * HOUR


def test_what_was_announced_before_a_restart_is_announced_again_with_a_higher_sequence() -> None:
    own = Own()
    own.add(1, "a film")
    own.own.set_directory(root_of("all"), 0.0)
    [before] = own.due(0.0)
    again = Own()
    again.own.load(own.own.saved(), 0.0)
    assert again.own.items == own.own.items
    [after] = [decode_record(new.data) for new in again.own.due(0, 0.0, NOW - 500.0)]
    assert after.sequence == before.sequence + 1 and after.directory == root_of("all")
    empty = Own()
    empty.own.load(Own().own.saved(), 0.0)
    assert empty.own.items == ()
    with pytest.raises(DecodeError):
        empty.own.load(b"\xff", 0.0)


@pytest.mark.parametrize(
    "announcement",
    [
        Announcement(root=root_of(1), name="x" * 256),
        Announcement(root=root_of(1), name="."),
        Announcement(root=root_of(1), name=""),
        Announcement(root=root_of(1), size=-1),
        Announcement(root=Cid.of(bytes(200), hash="identity")),
    ],
    ids=["long", "no word", "empty", "size", "root"],
)
def test_what_cannot_be_announced_is_refused(announcement: Announcement) -> None:
    with pytest.raises(LocalProtocolError):
        Own().own.announce(announcement, 0.0)


def test_announcements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.announce.own.ANNOUNCEMENTS_MAX", 1)
    own = Own()
    own.add(1)
    with pytest.raises(LocalProtocolError):
        own.add(2)
    assert isinstance(own.own.due(0, 0.0, NOW)[0], NewRecord)


# contacts


def contacts(level: int = 0) -> Contacts:
    made = Contacts(peer_of(0), Reputation(), Random(1))
    made.move(shard_at(home_of_peer(peer_of(0)), level))
    return made


def member(number: int, **options: object) -> Record:
    return a_record(number, member=True, **options)


def in_shard(shard: int, level: int, count: int) -> list[int]:
    """Numbers of peers whose home is in a shard."""
    found = [n for n in range(1, 400) if shard_at(home_of_peer(peer_of(n)), level) == shard]
    return found[:count]


def test_only_members_that_can_be_dialled_are_remembered_and_never_ourselves() -> None:
    known = contacts()
    assert known.learn(member(1)) and not known.learn(member(1))
    assert not known.learn(a_record(2)) and not known.learn(member(0))
    assert not known.learn(member(3, address=""))
    assert len(known) == 1 and "1 known" in repr(known)
    assert not known.learn(member(1, sequence=2))
    [record] = known.in_shard(WHOLE, NOW)
    assert record.sequence == 2
    assert not known.learn(member(1, sequence=3, keys=keys_of(200)))
    assert known.in_shard(WHOLE, NOW)[0].sequence == 2 and known.in_shard(WHOLE, NOW + 3 * HOUR) == []


def test_of_another_shard_three_are_remembered_and_who_failed_makes_room() -> None:
    known = contacts(level=1)
    other = shard_at(home_of_peer(peer_of(0)), 1) ^ 1
    numbers = in_shard(other, 1, 5)
    assert [known.learn(member(n)) for n in numbers[:4]] == [True] * OTHER_SHARD_MAX + [False]
    known._reputation.failed(peer_of(numbers[1]))
    assert known.learn(member(numbers[3]))
    assert {record.author for record in known.in_shard(Shard(other), NOW)} == {peer_of(numbers[n]) for n in (0, 2, 3)}
    assert known.learn(member(numbers[4], issued=NOW + 3 * HOUR))
    assert known.missing() == []
    for n in numbers:
        known.forget(peer_of(n))
    assert known.missing() == [other] and len(known) == 0


def test_of_another_shard_the_first_stays_and_others_give_way_to_who_has_written_since() -> None:
    known = contacts(level=1)
    other = Shard(shard_at(home_of_peer(peer_of(0)), 1) ^ 1)
    numbers = in_shard(other, 1, 7)

    def there() -> list[int]:
        return [numbers.index(n) for n in numbers for r in known.in_shard(other, NOW) if r.author == peer_of(n)]

    assert all(known.learn(member(numbers[index], issued=NOW + at)) for index, at in ((0, 0), (1, 2), (2, 1)))
    assert not known.learn(member(numbers[3], issued=NOW + 1))
    assert known.learn(member(numbers[3], issued=NOW + 3)) and there() == [0, 1, 3]
    known._reputation.delivered(peer_of(numbers[1]))
    assert known.learn(member(numbers[4], issued=NOW + 4)) and there() == [0, 1, 4]
    known._reputation.delivered(peer_of(numbers[4]))
    assert not known.learn(member(numbers[5], issued=NOW + 5)) and there() == [0, 1, 4]
    known.forget(peer_of(numbers[0]))
    known.forget(peer_of(numbers[6]))
    assert known.learn(member(numbers[5])) and there() == [1, 4, 5]


def test_the_nearest_are_found_however_sparse_they_are() -> None:
    known = contacts(level=4)
    for number in range(1, 40):
        known.learn(member(number))
    for number in range(40, 60):
        place = home_of_peer(peer_of(number))
        best = known.nearest(place, lambda peer: False, NOW)[0]
        nearest = max(
            16 - (place ^ record.home).bit_length() for others in known._known.values() for record in others.values()
        )
        assert min(16 - (place ^ best.home).bit_length(), 4) == min(nearest, 4)
        assert len(known.closer(place, 6, NOW)) <= 6
    sparse = contacts(level=6)
    sparse.learn(member(1))
    assert [c.peer for c in sparse.nearest(home_of_peer(peer_of(7)), lambda peer: False, NOW)] == [peer_of(1)]


def test_connected_members_come_first_and_those_that_failed_last() -> None:
    known = contacts()
    for number in (1, 2, 3):
        known.learn(member(number))
    known.connected(peer_of(3), "g")
    known._reputation.failed(peer_of(1))
    order = known.nearest(Home(Shard(1 << 16)), lambda peer: False, NOW)
    assert [candidate.peer for candidate in order] == [peer_of(3), peer_of(2), peer_of(1)]
    assert (order[0].record, order[0].group, order[0].connected) == (None, "g", True)
    assert known.connected_peers() == (peer_of(3),) and known.is_connected(peer_of(3))
    assert peer_of(1) not in [decode_record(d).author for d in known.closer(Home(Shard(1 << 16)), 6, NOW)]
    # Who is connected answers sooner than who has proven itself but would have to be dialled.
    known._reputation.delivered(peer_of(2))
    again = known.nearest(Home(Shard(1 << 16)), lambda peer: False, NOW)
    assert [candidate.peer for candidate in again] == [peer_of(3), peer_of(2), peer_of(1)]
    known.disconnected(peer_of(3))
    assert not known.is_connected(peer_of(3))
    assert known.nearest(Home(Shard(1 << 16)), lambda peer: True, NOW) == []


def test_shards_of_which_members_are_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.announce.contacts.SHARDS_MAX", 2)
    known = contacts(level=8)
    assert sum(known.learn(member(number)) for number in range(1, 20)) <= 2 * OTHER_SHARD_MAX
    assert CONTACT_BYTES_MAX < 64 * 1024


# walks


class Walker:
    """A walk whose questions are written down."""

    def __init__(self, count: int, wanted: int = 2, groups: int = 100) -> None:
        self.contacts = contacts()
        for number in range(1, count + 1):
            self.contacts.connected(peer_of(number), f"group {number % groups}")
        self.asked: list[PeerId] = []
        self.walk = Walk(Home(Shard(1 << 16)), wanted, self.contacts, AnnounceParams(), self.send)
        self.walk.start(0.0, NOW)

    def send(self, candidate: object) -> AskId:
        self.asked.append(candidate.peer)  # type: ignore[attr-defined]
        return AskId(len(self.asked))

    def answer(self, id: int, status: Status = Status.OK) -> bool:
        return self.walk.answered(AskId(id), Response(status=status), 0.1, NOW)


def test_a_walk_ends_when_enough_have_answered() -> None:
    walker = Walker(10)
    assert len(walker.asked) == 2 and walker.walk.deadline == 0.75
    assert walker.answer(1) and not walker.walk.done
    assert walker.answer(2) and walker.walk.done
    assert len(walker.asked) == 2


def test_a_walk_asks_another_for_each_that_does_not_answer_for_the_place() -> None:
    walker = Walker(5)
    assert not walker.answer(1, Status.NOT_MINE)
    walker.walk.failed(AskId(2), 0.1, NOW)
    assert len(walker.asked) == 4
    for id in (3, 4, 5):
        walker.answer(id, Status.LOADING)
    assert walker.walk.done and walker.walk.answers == 0 and len(walker.asked) == 5


def test_a_walk_asks_another_when_members_are_slow_and_gives_them_up_at_last() -> None:
    walker = Walker(20)
    assert walker.walk.handle_timeout(0.75, NOW) == [] and len(walker.asked) == 3
    timeout = AnnounceParams().ask_timeout
    late = walker.walk.handle_timeout(timeout, NOW)
    assert late == [AskId(1), AskId(2)] and len(walker.asked) == 4
    for step in range(60):
        walker.walk.handle_timeout(timeout + 1.0 + step, NOW)
    assert len(walker.asked) == AnnounceParams().asked_max and walker.walk.done


def test_a_walk_prefers_address_groups_that_have_not_answered() -> None:
    walker = Walker(40, wanted=2, groups=2)
    walker.answer(1)
    walker.walk.failed(AskId(2), 0.2, NOW)
    numbers = {peer_of(number): number for number in range(1, 41)}
    assert numbers[walker.asked[2]] % 2 != numbers[walker.asked[0]] % 2


def test_a_walk_without_anybody_to_ask_is_over_at_once() -> None:
    assert Walker(0).walk.done


# ranks and budgets


def test_ranks_are_bounded_in_height_and_number() -> None:
    ranks = Reputation()
    for _ in range(9):
        ranks.delivered(peer_of(1))
        ranks.failed(peer_of(2))
    assert (ranks.score(peer_of(1)), ranks.score(peer_of(2)), ranks.score(peer_of(3))) == (SCORE_MAX, -SCORE_MAX, 0)
    assert ranks.is_proven(bytes(peer_of(1))) and not ranks.is_proven(bytes(peer_of(3)))
    for number in range(PEERS_MAX):
        ranks.failed(PeerId.decode(b"\x12\x20" + number.to_bytes(32, "big")))
    assert ranks.score(peer_of(1)) == 0


def test_loopback_is_no_address_group() -> None:
    records = [a_record(n, address="/ip4/127.0.0.1/tcp/1") for n in range(5)]
    other = a_record(9, address="/ip4/8.8.8.8/tcp/1")
    best = Reputation().best([*records, other], 6, Random(1))
    assert len(best) == 6


def test_a_budget_fills_again_with_time() -> None:
    quota: Quota[str] = Quota(10.0, 100.0)
    assert quota.take("a", 100, 0.0) and not quota.take("a", 1, 0.0)
    assert quota.take("a", 10, 1.0) and not quota.take("a", 1, 1.0) and quota.take("b", 100, 1.0)
    assert quota.take("a", 100, 1000.0) and len(quota) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl_first": 10},
        {"ttl": 100_000},
        {"merge_bytes": 600 * 1024},
        {"members_few": 32},
        {"refresh_jitter": 1.0},
        {"level_jitter": -0.1},
        {"copies": 0},
        {"asks": 13},
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AnnounceParams(**wrong)  # type: ignore[arg-type]


def test_an_address_may_name_its_author_only() -> None:
    assert Multiaddr.parse("/ip4/1.0.1.1/tcp/1000") == address_of(1)


@pytest.mark.parametrize("name", ["", "?", "a", "x" * 256, "a/film", "film\0", "\ud800film"])
def test_a_name_that_nobody_could_find_or_no_directory_hold_is_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        check_name(name)


def test_a_name_is_text_with_a_word_in_it() -> None:
    check_name("Film (2026), ünïcode.mkv")
