"""The machine by itself: what it asks, what it makes of answers, what it does with time."""

from random import Random

import pytest

from stack.announce.events import (
    Ask,
    Connect,
    FetchKeys,
    Found,
    KeepKeys,
    ListsNamed,
    RoundEnded,
    Save,
    StopAsking,
    Subscribe,
    Unsubscribe,
)
from stack.announce.keyspace import WHOLE, Shard, announce_key, home_of_peer, shard_at, topic_of, word_key
from stack.announce.machine import AnnounceMachine
from stack.announce.messages import Kind, Request, Response, Status
from stack.announce.own import Announcement
from stack.announce.params import AnnounceParams
from stack.announce.records import PublicName, Record
from stack.errors import LocalProtocolError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.sansio.budget import Scope
from tests.announce.build import NOW, a_record, keys_of, record_bytes
from tests.announce.network import address_of, key_of, peer_of, root_of

ROOT = root_of("wanted")
KEY = announce_key(ROOT.multihash)


class Lab:
    """A machine, a clock, and what it wants done."""

    def __init__(self, *, is_member: bool = True, **options: object) -> None:
        self.now = 0.0
        self.machine = AnnounceMachine(
            key_of(0),
            random=Random(1),
            now=0.0,
            budget=Scope("lab", {}),
            params=AnnounceParams(**options),  # type: ignore[arg-type]
            is_member=is_member,
        )
        self.machine.addresses_changed((address_of(0),), 0.0)
        self.effects: list[object] = []

    def drain(self) -> list[object]:
        fresh = []
        while (effect := self.machine.next_effect()) is not None:
            fresh.append(effect)
        self.effects += fresh
        return fresh

    def asks(self, kind: Kind | None = None) -> list[Ask]:
        """Questions since the last look."""
        return [e for e in self.drain() if isinstance(e, Ask) and (kind is None or e.request.kind is kind)]

    def at(self, now: float) -> None:
        """Let time pass, deadline by deadline."""
        while (due := self.machine.next_timeout()) <= now:
            self.now = max(due, self.now)
            self.machine.handle_timeout(self.now, NOW + self.now)
        self.now = now

    def answer(self, ask: Ask, response: Response | None) -> None:
        self.machine.answered(ask.id, ask.peer, response, self.now, NOW + self.now)

    def connect(self, number: int) -> PeerId:
        peer = peer_of(number)
        self.machine.peer_connected(peer, f"group {number}", self.now, NOW + self.now)
        return peer

    def settle(self, shard: int = WHOLE) -> None:
        """Be told by a member what it keeps, and that it knows of nothing."""
        if shard == WHOLE:
            self.at(11.0)
        else:
            self.connect(1)
            for ask in self.asks(Kind.MEMBERS):
                self.answer(ask, Response(shard=Shard(shard)))
            self.at(self.now + 11.0)
            for ask in self.asks(Kind.PAGE):
                self.answer(ask, None)
            self.at(self.now + 11.0)
        self.drain()


def neighbour_in(shard: int, skip: tuple[int, ...] = ()) -> int:
    """The number of a peer whose home is in a shard."""
    level = shard.bit_length() - 1
    return next(n for n in range(1, 5000) if n not in skip and shard_at(home_of_peer(peer_of(n)), level) == shard)


def test_a_node_takes_the_depth_that_most_tell_it() -> None:
    lab = Lab()
    for number in (1, 2, 3):
        lab.connect(number)
    asks = lab.asks(Kind.MEMBERS)
    assert len(asks) == 3 and lab.machine.shard is None
    for ask, shard in zip(asks, (0b101, 0b110, 0b10), strict=True):
        lab.answer(ask, Response(shard=Shard(shard)))
    own = shard_at(home_of_peer(peer_of(0)), 2)
    assert lab.machine.shard == own and Subscribe(topic_of(own)) in lab.drain()
    assert not lab.machine.loaded and "shard" in repr(lab.machine)


def test_a_node_that_is_alone_keeps_everything() -> None:
    lab = Lab()
    lab.at(4.9)
    assert lab.machine.shard is None
    lab.at(5.1)
    assert lab.machine.shard == WHOLE
    lab.at(20.0)
    assert lab.machine.loaded


def test_who_is_asked_too_late_does_not_change_what_was_settled() -> None:
    lab = Lab()
    lab.connect(1)
    [ask] = lab.asks()
    lab.at(6.0)
    assert lab.machine.shard == WHOLE and StopAsking(ask.id) in lab.drain()
    lab.answer(ask, Response(shard=Shard(8)))
    assert lab.machine.shard == WHOLE


def test_pages_go_on_with_another_member_where_the_last_one_ended() -> None:
    lab = Lab()
    for number in (1, 2):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    [first] = lab.asks(Kind.PAGE)
    lab.answer(first, Response(shard=WHOLE, records=(record_bytes(5),), next=bytes(peer_of(5))))
    [second] = lab.asks(Kind.PAGE)
    assert second.request.after == bytes(peer_of(5))
    lab.answer(second, None)
    [third] = lab.asks(Kind.PAGE)
    assert third.peer != second.peer and third.request.after == bytes(peer_of(5))
    # One that goes backwards is at its end.
    lab.answer(third, Response(shard=WHOLE, records=(record_bytes(6), b"bad"), next=b"\x00"))
    assert lab.machine.loaded and len(lab.machine.table) == 2
    lab.at(lab.now + 1.1)
    [compare] = lab.asks(Kind.PAGE)
    assert compare.request.digests
    lab.answer(compare, Response(shard=WHOLE, records=(record_bytes(7),)))
    assert len(lab.machine.table) == 4


def test_of_members_that_know_nothing_either_what_there_is_is_taken() -> None:
    lab = Lab()
    lab.connect(1)
    [ask] = lab.asks()
    lab.answer(ask, Response(shard=WHOLE))
    [page] = lab.asks(Kind.PAGE)
    lab.answer(page, Response(status=Status.LOADING, shard=WHOLE, records=(record_bytes(5),)))
    assert lab.machine.loaded and len(lab.machine.table) == 1


def test_a_member_that_keeps_a_part_leaves_the_rest_to_be_fetched() -> None:
    lab = Lab()
    quarter, other = neighbour_in(0b100), neighbour_in(0b11)
    for number in (quarter, other):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    [page] = lab.asks(Kind.PAGE)
    lab.answer(page, Response(shard=Shard(0b100)))
    assert lab.machine._state.missing == [0b11, 0b101]
    regions = []
    for _ in range(40):
        for ask in lab.asks(Kind.PAGE):
            regions.append(ask.request.shard)
            lab.answer(ask, Response(status=Status.NOT_MINE, shard=Shard(0b100)))
        lab.at(lab.now + 0.5)
    assert lab.machine.loaded and regions[0] == 0b11


def test_an_answer_about_another_part_is_no_answer() -> None:
    lab = Lab()
    lab.settle(0b10)
    own = lab.machine.shard
    assert own is not None
    lab.machine._state.missing = [own]
    lab.connect(neighbour_in(own, (1,)))
    pages = lab.asks(Kind.PAGE)
    lab.answer(pages[0], Response(shard=Shard(own ^ 1)))
    assert not lab.machine.loaded
    lab.machine._membership._sync(lab.now, NOW)


def test_tables_are_compared_first_with_those_who_have_connected_since() -> None:
    lab = Lab()
    lab.settle()
    for number in range(1, 9):
        lab.connect(number)
    compared = []
    for _ in range(8):
        lab.at(lab.now + 30)
        [ask] = lab.asks(Kind.PAGE)
        # Meanwhile nobody else is asked, though there would be somebody.
        lab.at(lab.now + 30)
        assert lab.asks(Kind.PAGE) == []
        compared.append(ask.peer)
        lab.answer(ask, Response(shard=WHOLE))
    assert sorted(compared) == sorted(map(peer_of, range(1, 9)))
    # Then there is nothing to hurry for.
    lab.at(lab.now + 31)
    assert lab.asks(Kind.PAGE) == []
    lab.connect(9)
    lab.machine.peer_disconnected(peer_of(9))
    lab.at(lab.now + 1)
    assert peer_of(9) not in [ask.peer for ask in lab.asks(Kind.PAGE)]


def test_comparing_waits_for_a_page_that_is_under_way() -> None:
    lab = Lab()
    lab.connect(1)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    for ask in lab.asks(Kind.PAGE):
        lab.answer(ask, Response(shard=WHOLE))
    assert lab.machine.loaded
    lab.at(lab.now + 2)
    assert len(lab.asks(Kind.PAGE)) == 1
    lab.at(lab.now + 2000)
    assert lab.asks(Kind.PAGE) == []


def test_a_page_that_comes_after_the_shard_has_changed_is_asked_for_anew() -> None:
    lab = Lab()
    lab.connect(1)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    [page] = lab.asks(Kind.PAGE)
    half = shard_at(home_of_peer(peer_of(0)), 1)
    lab.machine._membership._move(half, lab.now, NOW + lab.now)
    assert lab.machine._state.missing == [half]
    lab.answer(page, Response(shard=WHOLE))
    assert not lab.machine.loaded
    [again] = lab.asks(Kind.PAGE)
    assert again.request.shard == half
    lab.at(lab.now + 300)
    assert Unsubscribe(topic_of(WHOLE)) in lab.drain()


def test_a_node_that_merges_fetches_the_other_half() -> None:
    lab = Lab()
    lab.settle(0b10)
    own = lab.machine.shard
    assert own is not None and lab.machine.loaded
    lab.machine._membership._move(WHOLE, lab.now, NOW)
    assert lab.machine._state.missing == [own ^ 1]
    lab.machine._membership._move(own, lab.now, NOW)
    assert lab.machine.loaded and lab.machine._state.missing == []


@pytest.mark.parametrize(("told", "change"), [(0b111, 1), (0b1, -1)])
def test_who_is_behind_the_others_of_its_shard_follows_them(told: int, change: int) -> None:
    lab = Lab(level_interval=20, merge_bytes=1, members_few=1, sync_interval=1e9, level_jitter=0)
    lab.settle(0b10)
    own = lab.machine.shard
    assert own is not None
    skip: tuple[int, ...] = ()
    for _ in range(3):
        number = neighbour_in(own, skip)
        skip += (number,)
        lab.connect(number)
        for ask in lab.asks():
            lab.answer(ask, None)
        lab.machine._membership.told(peer_of(number), Shard(told))
    lab.machine._membership.told(peer_of(neighbour_in(own ^ 1)), Shard(told))
    lab.at(lab.now + 50)
    assert lab.machine.shard is not None
    assert lab.machine.shard.bit_length() - own.bit_length() == change
    lab.machine.peer_disconnected(peer_of(skip[0]))


def test_who_would_run_ahead_of_the_others_waits() -> None:
    lab = Lab(merge_bytes=1_000, members_few=1)
    lab.settle(0b10)
    own = lab.machine.shard
    assert own is not None
    membership = lab.machine._membership
    assert membership._wanted() == -1
    membership._told = {peer_of(number): 2 for number in range(3)}
    assert membership._wanted() == 0
    lab.machine._state.missing = [own]
    membership._look(lab.now, NOW)
    assert lab.machine.shard == own


def test_members_of_our_shard_are_dialled_until_there_are_enough() -> None:
    lab = Lab(degree=3)
    lab.settle()
    for number in range(1, 8):
        data = record_bytes(number, shard=home_of_peer(peer_of(number)))
        lab.machine.receive_gossip(topic_of(WHOLE), data, peer_of(90), lab.now, NOW + lab.now)
    lab.at(lab.now + 6)
    dials = [effect for effect in lab.drain() if isinstance(effect, Connect)]
    assert len(dials) == 2 and all(dial.addresses for dial in dials)
    lab.machine.dial_failed(dials[0].peer)
    lab.connect(next(n for n in range(1, 8) if peer_of(n) == dials[1].peer))
    lab.at(lab.now + 6)
    assert len([effect for effect in lab.drain() if isinstance(effect, Connect)]) == 1


def test_one_member_of_each_other_shard_is_dialled_where_shards_are_few() -> None:
    lab = Lab(degree=1)
    lab.settle()
    membership, contacts = lab.machine._membership, lab.machine._state.contacts
    for number in range(1, 40):
        data = record_bytes(number, shard=home_of_peer(peer_of(number)))
        lab.machine.receive_gossip(topic_of(WHOLE), data, peer_of(90), lab.now, NOW + lab.now)
    membership._move(lab.machine._state.home_shard(2), lab.now, NOW + lab.now)
    dialled: list[PeerId] = []
    for _ in range(4):
        lab.at(lab.now + 6)
        fresh = [effect.peer for effect in lab.drain() if isinstance(effect, Connect)]
        assert len(fresh) <= 2 + 2
        dialled += fresh
        for peer in fresh:
            lab.connect(next(number for number in range(1, 40) if peer_of(number) == peer))
    assert sorted(contacts.reached().items()) == [(shard, 1) for shard in range(4, 8)]
    assert len(dialled) == 4


def test_no_connections_are_kept_in_other_shards_where_they_are_many() -> None:
    lab = Lab(degree=1, standing=2)
    lab.settle()
    for number in range(1, 40):
        data = record_bytes(number, shard=home_of_peer(peer_of(number)))
        lab.machine.receive_gossip(topic_of(WHOLE), data, peer_of(90), lab.now, NOW + lab.now)
    lab.machine._membership._move(lab.machine._state.home_shard(2), lab.now, NOW + lab.now)
    lab.at(lab.now + 6)
    assert len([effect for effect in lab.drain() if isinstance(effect, Connect)]) == 1


def test_members_of_shards_that_are_not_known_are_asked_for_now_and_then() -> None:
    lab = Lab()
    lab.settle(0b1000)
    for effect in lab.effects:
        if isinstance(effect, Ask):
            lab.answer(effect, Response(shard=Shard(0b1000)))
    lab.at(lab.now + 400)
    asks = lab.asks(Kind.MEMBERS)
    assert len(asks) == 1
    lab.answer(asks[0], Response(shard=Shard(0b1000), closer=(record_bytes(9, member=True),)))
    lab.at(lab.now + 100)
    assert lab.asks(Kind.MEMBERS)


def put_asks(lab: Lab) -> list[Ask]:
    return lab.asks(Kind.PUT)


def test_a_record_goes_to_two_members_and_to_others_where_those_do_not_answer() -> None:
    lab = Lab(is_member=False)
    for number in range(1, 6):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    lab.machine.announce(Announcement(root=ROOT), lab.now)
    lab.at(lab.now)
    first = put_asks(lab)
    assert len(first) == 2 and lab.machine.waiting == 1
    lab.answer(first[0], Response(shard=WHOLE))
    lab.answer(first[1], Response(status=Status.REFUSED, shard=WHOLE))
    [third] = put_asks(lab)
    lab.at(lab.now + 1.0)
    [fourth] = put_asks(lab)
    lab.answer(fourth, Response(shard=WHOLE))
    assert lab.machine.waiting == 0
    lab.answer(third, Response(shard=WHOLE))
    assert lab.machine.table.shard == WHOLE and len(lab.machine.table) == 0


def test_a_record_that_nobody_takes_is_handed_in_again_and_at_once_when_somebody_comes() -> None:
    lab = Lab(is_member=False)
    lab.at(5.0)
    lab.machine.announce(Announcement(root=ROOT), lab.now)
    lab.at(20.0)
    assert put_asks(lab) == [] and lab.machine.waiting == 1
    lab.connect(1)
    lab.at(lab.now)
    [ask] = put_asks(lab)
    lab.at(lab.now + AnnounceParams().ask_timeout + 0.1)
    assert any(isinstance(effect, StopAsking) and effect.id == ask.id for effect in lab.drain())
    lab.answer(ask, Response(shard=WHOLE))
    assert lab.machine.waiting == 1
    lab.at(lab.now + 30)
    assert put_asks(lab)


def test_a_newer_record_takes_the_place_of_one_under_way() -> None:
    lab = Lab(is_member=False, update_interval=1)
    lab.connect(1)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    lab.machine.announce(Announcement(root=ROOT), lab.now)
    lab.at(lab.now)
    [old] = put_asks(lab)
    lab.machine.announce(Announcement(root=root_of(2)), lab.now)
    lab.at(lab.now + 1.1)
    fresh = lab.drain()
    assert StopAsking(old.id) in fresh
    [new] = [effect for effect in fresh if isinstance(effect, Ask) and effect.request.kind is Kind.PUT]
    lab.answer(new, Response(shard=WHOLE))
    assert lab.machine.waiting == 0


def test_a_newer_record_takes_the_place_of_one_that_waits() -> None:
    lab = Lab(is_member=False, update_interval=1)
    lab.at(5.0)
    lab.machine.announce(Announcement(root=ROOT), lab.now)
    lab.at(6.0)
    lab.machine.announce(Announcement(root=root_of(2)), lab.now)
    lab.at(8.0)
    assert lab.machine.waiting == 1


def test_so_many_records_are_handed_in_at_a_time_and_deeper_members_get_their_parts() -> None:
    lab = Lab(is_member=False, jobs=2, copies=1)
    for number in (1, 2, 3):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=Shard(0b1000)))
    for number in range(40):
        lab.machine.announce(Announcement(root=root_of(number)), lab.now)
    lab.at(lab.now)
    assert len(put_asks(lab)) == 2 and lab.machine.waiting > 4
    lab.machine._own.due(0, lab.now, NOW)
    asked = 0
    for _ in range(200):
        lab.at(lab.now + 0.01)
        asks = [effect for effect in lab.effects if isinstance(effect, Ask) and effect.request.kind is Kind.PUT]
        for ask in asks[asked:]:
            lab.answer(ask, Response(shard=Shard(0b10000) if asked % 2 else None))
            asked += 1
        lab.drain()
    assert lab.machine.waiting == 0 and asked >= 8


def find(lab: Lab) -> object:
    return lab.machine.find(KEY, lab.now, NOW + lab.now)


def found(lab: Lab) -> list[Found]:
    return [effect for effect in lab.effects if isinstance(effect, Found)]


def test_a_lookup_tells_each_author_once_and_again_when_its_record_is_newer() -> None:
    lab = Lab(is_member=False)
    for number in (1, 2):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    lookup = find(lab)
    one, two = lab.asks(Kind.FIND)
    data = record_bytes(5, keys=[KEY])
    lab.answer(one, Response(shard=WHOLE, records=(data, record_bytes(0, keys=[KEY]))))
    newer = record_bytes(5, keys=[KEY], sequence=2)
    expired = record_bytes(6, keys=[KEY], issued=NOW - 10_000)
    lab.answer(two, Response(shard=WHOLE, records=(data, newer, expired, record_bytes(7))))
    lab.drain()
    assert [(each.record.author, each.record.sequence) for each in found(lab)] == [(peer_of(5), 1), (peer_of(5), 2)]
    assert RoundEnded(lookup, 2) in lab.effects  # type: ignore[arg-type]
    lab.machine.pushed(one.id, one.peer, Response(records=(record_bytes(8, keys=[KEY]),)), NOW)
    lab.drain()
    assert found(lab)[-1].record.author == peer_of(8) and found(lab)[-1].source == one.peer
    assert lab.machine.reputation.score(two.peer) == -1
    lab.machine.stop(lookup)  # type: ignore[arg-type]
    assert {StopAsking(one.id), StopAsking(two.id)} <= set(lab.drain())


def test_a_lookup_asks_others_when_members_are_slow_and_again_after_a_while() -> None:
    lab = Lab(is_member=False)
    for number in range(1, 5):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    lookup = find(lab)
    assert len(lab.asks()) == 2
    lab.at(lab.now + 0.8)
    [third] = lab.asks()
    lab.answer(third, Response(status=Status.BUSY))
    lab.at(lab.now + 0.8)
    [fourth] = lab.asks()
    lab.answer(fourth, None)
    lab.at(lab.now + AnnounceParams().ask_timeout + 1)
    assert any(isinstance(effect, RoundEnded) and effect.lookup == lookup for effect in lab.drain())
    lab.at(lab.now + 5)
    assert lab.asks()


def test_what_is_slow_is_not_waited_for_when_there_is_enough() -> None:
    lab = Lab(is_member=False, asks=1)
    for number in range(1, 5):
        lab.connect(number)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    find(lab)
    [slow] = lab.asks()
    lab.at(lab.now + 0.8)
    [quick] = lab.asks()
    lab.answer(quick, Response(shard=WHOLE))
    assert StopAsking(slow.id) in lab.drain()
    lab.answer(slow, Response(shard=WHOLE))


def test_a_lookup_for_which_there_is_nobody_ends_its_round_and_goes_on_when_somebody_comes() -> None:
    lab = Lab(is_member=False)
    lookup = find(lab)
    assert RoundEnded(lookup, 0) in lab.drain()  # type: ignore[arg-type]
    lab.connect(1)
    lab.at(lab.now)
    [ask] = lab.asks(Kind.FIND)
    lab.answer(ask, Response(shard=WHOLE, records=(record_bytes(5, keys=[KEY]),)))
    lab.connect(2)
    lab.drain()
    assert len(found(lab)) == 1


def test_what_we_keep_ourselves_is_told_at_once() -> None:
    lab = Lab()
    lab.settle()
    name = PublicName("rare film", 5, ROOT)
    data = record_bytes(5, keys=[KEY], names=[name])
    lab.machine.receive_gossip(topic_of(WHOLE), data, peer_of(90), lab.now, NOW + lab.now)
    find(lab)
    lab.machine.search("FILM rare", lab.now, NOW + lab.now)
    lab.drain()
    assert [(each.record.author, each.source) for each in found(lab)] == [(peer_of(5), None)] * 2
    with pytest.raises(LocalProtocolError):
        lab.machine.search("-", lab.now, NOW)
    answer, _ = lab.machine.receive_request(
        peer_of(9), Request(kind=Kind.SEARCH, key=word_key("rare"), words=("rare", "film")), lab.now, NOW + lab.now
    )
    assert answer.records == (data,)


def test_a_lookup_that_twenty_providers_did_not_help_asks_for_all_of_them_page_by_page() -> None:
    lab = Lab(is_member=False)
    lab.connect(1)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    find(lab)
    data = [record_bytes(n, keys=[KEY]) for n in range(5, 30)]
    [ask] = lab.asks()
    assert ask.request.after == b""
    lab.answer(ask, Response(shard=WHOLE, records=tuple(data)))
    lab.drain()
    assert len(found(lab)) == 20
    for seconds, response, after in (
        (3, Response(shard=WHOLE, records=tuple(data[20:]), next=b"\0\x24last"), b"\0"),
        (5, Response(shard=WHOLE), b"\0\x24last"),
        (9, Response(shard=WHOLE), b"\0"),
    ):
        lab.at(lab.now + seconds)
        [ask] = lab.asks(Kind.FIND)
        assert ask.request.after == after
        lab.answer(ask, response)
    lab.drain()
    assert len(found(lab)) == 25


def test_a_member_finds_twenty_in_its_own_table_and_all_when_they_were_of_no_help() -> None:
    lab = Lab()
    lab.settle()
    for number in range(5, 30):
        lab.machine._state.insert(a_record(number, keys=[KEY]), None, NOW + lab.now)
    find(lab)
    lab.drain()
    assert len(found(lab)) == 20
    lab.at(lab.now + 60)
    lab.drain()
    assert len(found(lab)) == 25


def test_all_who_have_a_key_are_told_in_the_order_of_their_ids_as_far_as_a_page_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = Lab()
    lab.settle()
    data = {peer_of(number): record_bytes(number, keys=[KEY]) for number in range(5, 30)}
    for each in data.values():
        lab.machine._state.insert(lab.machine._state.reader.read(each), None, NOW + lab.now)
    ordered = sorted(data, key=bytes)
    told: list[bytes] = []
    after = b"\0"
    monkeypatch.setattr("stack.announce.serving.PAGE_BYTES", 10 * (max(map(len, data.values())) + 4))
    while after:
        request = Request(kind=Kind.FIND, key=KEY, after=after)
        answer, _ = lab.machine.receive_request(peer_of(9), request, lab.now, NOW + lab.now)
        told += answer.records
        assert answer.next in (b"", bytes(ordered[len(told) - 1]))
        after = answer.next
    assert told == [data[peer] for peer in ordered]


def test_a_lookup_tells_of_so_many_authors_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.announce.lookups.FOUND_MAX", 2)
    lab = Lab(is_member=False)
    lab.connect(1)
    for ask in lab.asks():
        lab.answer(ask, Response(shard=WHOLE))
    find(lab)
    [ask] = lab.asks()
    lab.answer(ask, Response(shard=WHOLE, records=tuple(record_bytes(n, keys=[KEY]) for n in range(5, 10))))
    lab.drain()
    assert len(found(lab)) == 2


def test_what_is_not_ours_to_keep_is_answered_with_who_is_nearer() -> None:
    lab = Lab()
    lab.settle(0b10)
    own = lab.machine.shard
    assert own is not None
    other = own ^ 1
    number = neighbour_in(other)
    near = record_bytes(number, member=True)
    lab.machine._state.read(near, None, NOW)
    key = next(key for key in keys_of(50) if (key[0] >> 7) == (other & 1))
    for request in (
        Request(kind=Kind.FIND, key=key),
        Request(kind=Kind.SEARCH, key=key, words=("word",)),
        Request(kind=Kind.PAGE, shard=Shard(other)),
        Request(kind=Kind.PUT, record=record_bytes(3, shard=other)),
    ):
        answer, interest = lab.machine.receive_request(peer_of(9), request, lab.now, NOW + lab.now)
        assert (answer.status, interest, answer.closer) == (Status.NOT_MINE, None, (near,))
    lab.at(lab.now + 1)
    answer, _ = lab.machine.receive_request(peer_of(9), Request(kind=Kind.MEMBERS), lab.now, NOW + lab.now)
    assert answer.shard == own and len(answer.closer) == 2


def test_a_client_serves_nobody() -> None:
    lab = Lab(is_member=False)
    lab.at(6.0)
    put = Request(kind=Kind.PUT, record=record_bytes(3))
    answer, _ = lab.machine.receive_request(peer_of(9), put, lab.now, NOW + lab.now)
    assert answer.status is Status.NOT_MINE and answer.shard is None and lab.machine.shard is None
    answer, _ = lab.machine.receive_request(peer_of(9), Request(kind=Kind.MEMBERS), lab.now, NOW + lab.now)
    assert answer.closer == ()


def test_while_the_table_is_fetched_answers_say_so() -> None:
    lab = Lab()
    lab.at(6.0)
    answer, _ = lab.machine.receive_request(peer_of(9), Request(kind=Kind.FIND, key=KEY), lab.now, NOW + lab.now)
    assert answer.status is Status.LOADING
    answer, _ = lab.machine.receive_request(peer_of(9), Request(kind=Kind.PAGE), lab.now, NOW + lab.now)
    assert answer.status is Status.LOADING


def list_of(record: Record, lab: Lab) -> FetchKeys:
    lab.machine.receive_gossip(topic_of(WHOLE), record.data, peer_of(90), lab.now, NOW + lab.now)
    [fetch] = [effect for effect in lab.drain() if isinstance(effect, FetchKeys)]
    return fetch


def test_further_keys_are_fetched_and_what_is_no_list_is_dropped() -> None:
    lab = Lab()
    lab.settle()
    fetch = list_of(a_record(1, more=Cid.of(KEY)), lab)
    assert fetch.cid == Cid.of(KEY)
    lab.machine.keys_fetched(fetch.record, KEY)
    assert [record.author for record in lab.machine.table.find(KEY, NOW)] == [peer_of(1)]
    fetch = list_of(a_record(2, more=Cid.of(b"odd")), lab)
    lab.machine.keys_fetched(fetch.record, b"odd")
    fetch = list_of(a_record(3, more=Cid.of(b"gone")), lab)
    lab.machine.keys_fetched(fetch.record, None)
    assert lab.machine.reputation.score(peer_of(3)) == -1


def test_our_own_announcements_are_saved_and_a_long_list_is_kept() -> None:
    lab = Lab()
    lab.settle()
    roots = [root_of(number) for number in range(300)]
    for root in roots:
        lab.machine.announce(Announcement(root=root), lab.now)
    lab.at(lab.now)
    effects = lab.drain()
    assert any(isinstance(effect, Save) for effect in effects)
    [kept] = [effect for effect in effects if isinstance(effect, KeepKeys)]
    assert [effect.cids for effect in effects if isinstance(effect, ListsNamed)][-1] == {kept.cid}
    assert not any(isinstance(effect, FetchKeys) for effect in effects)
    again = Lab()
    again.machine.load(lab.machine.saved(), 0.0)
    assert [item.root for item in again.machine.items] == roots
    for root in roots[1:]:
        lab.machine.withdraw(root, lab.now)
    lab.at(lab.now + 40.0)
    assert [effect.cids for effect in lab.drain() if isinstance(effect, ListsNamed)] == [frozenset()]
    assert lab.machine.withdraw(roots[0], lab.now) and not lab.machine.withdraw(roots[0], lab.now)
    lab.machine.set_directory(root_of("all"), lab.now)
    lab.machine.close()
    assert lab.machine.table.bytes_held == 0


def test_without_a_trace_nothing_is_told() -> None:
    lab = Lab()
    lab.settle()
    lab.machine.receive_gossip(topic_of(WHOLE), b"bad", peer_of(90), lab.now, NOW)
    lab.machine.receive_gossip(topic_of(WHOLE), record_bytes(1, issued=1), peer_of(90), lab.now, NOW)
    lab.machine.receive_request(peer_of(9), Request(kind=Kind.PUT, record=b"bad"), lab.now, NOW)
    assert lab.drain() == []
