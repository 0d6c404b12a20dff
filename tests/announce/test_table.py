"""The table of a shard: what replaces what, what is evicted, what is paged."""

import pytest

from stack.announce.keyspace import WHOLE, Shard, home_of_peer, word_key, word_keys_of
from stack.announce.lists import keys_within
from stack.announce.messages import PAGE_BYTES
from stack.announce.outcomes import UPDATE_SECONDS_MIN, Outcome
from stack.announce.records import PublicName, Record
from stack.announce.table import RECORDS_PER_AUTHOR_MAX, Table
from stack.multiformats.cid import Cid
from stack.sansio.budget import Resource, Scope
from tests.announce.build import HOUR, NOW, a_key, a_record, budget, keys_of
from tests.announce.network import key_of, peer_of, root_of

MIB = 1 << 20


def table(shard: int = WHOLE, size: int = MIB) -> Table:
    return Table(Shard(shard), budget(size))


def authors(found: list[Record]) -> list[object]:
    return [record.author for record in found]


def test_records_are_found_by_key() -> None:
    t = table()
    shared, other = keys_of(2)
    assert t.insert(a_record(1, keys=[shared]), NOW) is Outcome.NEW
    assert authors(t.find(shared, NOW)) == [peer_of(1)]
    assert t.insert(a_record(2, keys=[shared, other]), NOW) is Outcome.NEW
    assert authors(t.find(shared, NOW)) == [peer_of(1), peer_of(2)]
    assert authors(t.find(other, NOW)) == [peer_of(2)]
    assert t.find(a_key(1), NOW) == []
    assert t.find(shared, NOW + 2 * HOUR) == []
    assert len(t) == 2 and "2 authors" in repr(t)


def test_a_newer_record_takes_the_place_of_an_older_one() -> None:
    t = table()
    one, two = keys_of(2)
    old = a_record(1, keys=[one])
    t.insert(old, NOW)
    t.find(one, NOW)
    assert t.insert(old, NOW) is Outcome.KNOWN
    assert t.insert(a_record(1, keys=[two], sequence=2), NOW) is Outcome.TOO_SOON
    later = NOW + UPDATE_SECONDS_MIN
    assert t.insert(a_record(1, keys=[two], sequence=2, issued=later), NOW) is Outcome.NEW
    assert t.insert(old, NOW) is Outcome.OLD
    assert t.find(one, NOW) == [] and authors(t.find(two, NOW)) == [peer_of(1)]
    assert len(list(t)) == 1


def test_a_record_without_keys_takes_back_what_was_announced() -> None:
    t = table()
    [key] = keys_of(1)
    t.insert(a_record(1, keys=[key]), NOW)
    t.find(key, NOW)
    assert t.insert(a_record(1, sequence=2, issued=NOW + 30), NOW) is Outcome.NEW
    assert t.find(key, NOW) == []
    assert t.insert(a_record(1, keys=[key]), NOW) is Outcome.OLD


def test_expired_records_and_those_of_other_shards_are_not_taken() -> None:
    t = table(shard=2)
    assert t.insert(a_record(1, issued=NOW - 3 * HOUR), NOW) is Outcome.EXPIRED
    assert t.insert(a_record(1, shard=3), NOW) is Outcome.FOREIGN
    assert t.insert(a_record(1, shard=2), NOW) is Outcome.NEW
    assert t.insert(a_record(2, shard=4), NOW) is Outcome.NEW


def test_when_a_shard_is_split_the_newer_record_decides_about_its_half() -> None:
    t = table()
    low, high = a_key(0x10), a_key(0x90)
    t.insert(a_record(1, keys=[low, high]), NOW)
    t.insert(a_record(1, shard=2, sequence=2, issued=NOW + 30), NOW)
    assert t.find(low, NOW) == [] and authors(t.find(high, NOW)) == [peer_of(1)]
    t.insert(a_record(1, shard=3, sequence=3, issued=NOW + 30, keys=[a_key(0x91)]), NOW)
    assert t.find(high, NOW) == [] and authors(t.find(a_key(0x91), NOW)) == [peer_of(1)]
    # One about both halves that is older than a half's is taken for the other half only.
    assert t.insert(a_record(2, shard=2, sequence=5, issued=NOW + 30), NOW) is Outcome.NEW
    assert t.insert(a_record(2, keys=[low, high], sequence=4), NOW) is Outcome.NEW
    assert t.find(low, NOW) == [] and authors(t.find(high, NOW)) == [peer_of(2)]
    assert t.insert(a_record(2, sequence=6, issued=NOW + 60), NOW) is Outcome.NEW
    assert len(t.records_of(bytes(peer_of(2)))) == 1


def test_a_record_about_all_that_we_keep_replaces_one_that_is_about_more() -> None:
    t = table(shard=2)
    t.insert(a_record(1, keys=[a_key(0x10), a_key(0x90)]), NOW)
    t.insert(a_record(1, keys=[a_key(0x11)], shard=2, sequence=2, issued=NOW + 30), NOW)
    assert len(t.records_of(bytes(peer_of(1)))) == 1


def test_an_author_has_four_records_at_most() -> None:
    t = table()
    for number in range(6):
        t.insert(a_record(1, shard=8 + number, sequence=number + 1), NOW)
    kept = t.records_of(bytes(peer_of(1)))
    assert [record.sequence for record in kept] == [3, 4, 5, 6] and len(kept) == RECORDS_PER_AUTHOR_MAX


def test_that_an_author_is_a_member_is_kept_beside_its_keys() -> None:
    home = home_of_peer(peer_of(1))
    t = table()
    [key] = keys_of(1)
    t.insert(a_record(1, keys=[key]), NOW)
    assert t.members == 0
    assert t.insert(a_record(1, shard=home, sequence=2), NOW) is Outcome.NEW
    assert t.members == 1 and authors(t.find(key, NOW)) == [peer_of(1)]
    assert t.members_in(Shard(home >> 14)) == 1 and t.members_in(Shard(home >> 14 ^ 1)) == 0


def test_names_are_found_by_their_words() -> None:
    t = table()
    names = [PublicName("rare film", 1, root_of(1))]
    t.insert(a_record(1, names=names), NOW)
    assert (
        authors(t.search(word_keys_of("film"), NOW))
        == authors(t.search(word_keys_of("FILM rare"), NOW))
        == [peer_of(1)]
    )
    assert t.search(word_keys_of("film common"), NOW) == []
    assert t.search(word_keys_of("common"), NOW) == []
    assert t.search(word_keys_of("film"), NOW + 2 * HOUR) == []


def test_a_list_behind_a_record_is_found_like_its_keys() -> None:
    t = table(shard=2)
    record = a_record(1, shard=2, more=Cid.of(b"x"))
    inside, outside = a_key(0x33), a_key(0xCC)
    assert not t.add_list(record, inside)
    t.insert(record, NOW)
    held = t.bytes_held
    assert t.add_list(record, inside + outside)
    assert not t.add_list(record, inside)
    assert authors(t.find(inside, NOW)) == [peer_of(1)] and t.find(outside, NOW) == []
    assert t.load == 180 + 16 and t.bytes_held > held
    for half, load in ((4, 180 + 16), (5, 180)):
        halved = table(shard=2)
        halved.insert(record, NOW)
        halved.add_list(record, inside)
        halved.reshard(Shard(half))
        assert len(halved.find(inside, NOW)) == (load > 180) and halved.load == load
    t.insert(a_record(1, shard=2, sequence=2, issued=NOW + 30), NOW)
    assert t.find(inside, NOW) == [] and t.load == 180 and t.bytes_held < held + 16
    full = Table(WHOLE, budget(3000))
    full.insert(a_record(1, more=Cid.of(b"x")), NOW)
    assert not full.add_list(a_record(1), b"")
    [kept] = full.records_of(bytes(peer_of(1)))
    assert not full.add_list(kept, bytes(16 * 100))


def test_a_full_table_makes_room_from_the_group_that_has_most() -> None:
    t = table(size=10_000)
    flood = [a_record(number, address=f"/ip4/9.9.9.{number}/tcp/1") for number in range(10)]
    outcomes = [t.insert(record, NOW) for record in flood]
    assert outcomes.count(Outcome.NEW) == 5 and outcomes[-1] is Outcome.FULL
    assert t.insert(a_record(20), NOW) is Outcome.NEW
    assert len(t) == 5 and t.records_of(bytes(peer_of(4))) == ()
    # An update of what is there needs no room.
    assert t.insert(a_record(0, address="/ip4/9.9.9.0/tcp/1", sequence=2, issued=NOW + 30), NOW) is Outcome.NEW
    assert t.insert(a_record(0, sequence=3, issued=NOW + 60, keys=keys_of(30)), NOW) is Outcome.NEW
    assert t.bytes_held <= 10_000


def test_an_author_that_has_delivered_is_evicted_last() -> None:
    proven = bytes(peer_of(4))
    t = Table(WHOLE, budget(10_000), lambda author: author == proven)
    for number in range(5):
        t.insert(a_record(number, address=f"/ip4/9.9.9.{number}/tcp/1"), NOW)
    t.insert(a_record(20), NOW)
    assert t.records_of(proven) != () and t.records_of(bytes(peer_of(3))) == ()


def test_a_record_larger_than_all_room_is_refused() -> None:
    t = table(size=1000)
    assert t.insert(a_record(1), NOW) is Outcome.FULL
    t = table(size=2500)
    t.insert(a_record(1, address="/ip4/9.9.9.9/tcp/1"), NOW)
    assert t.insert(a_record(1, keys=keys_of(200), sequence=2, issued=NOW + 30), NOW) is Outcome.FULL
    t = table(size=1700)
    proven = Table(WHOLE, budget(4000), lambda author: True)
    proven.insert(a_record(1, address="/ip4/9.9.9.9/tcp/1"), NOW)
    proven.insert(a_record(2, address="/ip4/9.9.9.8/tcp/1"), NOW)
    assert proven.insert(a_record(3), NOW) is Outcome.NEW


def test_what_has_expired_is_forgotten_and_its_room_given_back() -> None:
    scope = Scope("test", {Resource.BYTES: MIB})
    t = Table(WHOLE, scope)
    t.insert(a_record(1, keys=keys_of(1), ttl=60), NOW)
    t.insert(a_record(2, keys=keys_of(1), ttl=120), NOW)
    t.find(keys_of(1)[0], NOW)
    t.expire(NOW + 60)
    assert len(t) == 1 and authors(t.find(keys_of(1)[0], NOW)) == [peer_of(2)]
    t.expire(NOW + 120)
    assert (len(t), t.load, scope.used(Resource.BYTES)) == (0, 0, 0)
    t.insert(a_record(3), NOW)
    t.close()
    assert scope.used(Resource.BYTES) == 0


def test_a_table_that_changes_its_shard_forgets_what_is_not_about_it() -> None:
    t = table()
    low, high = a_key(0x10), a_key(0x90)
    t.insert(a_record(1, keys=[low]), NOW)
    t.insert(a_record(2, keys=[high]), NOW)
    t.insert(a_record(3, keys=[low, high]), NOW)
    home = home_of_peer(peer_of(5))
    t.insert(a_record(5, shard=home), NOW)
    word = next(w for w in ("aa", "bb", "cc", "dd", "ee", "ff") if word_key(w)[0] < 0x80)
    t.insert(a_record(6, names=[PublicName(word, 1, root_of(1))]), NOW)
    t.insert(a_record(7, more=Cid.of(b"x")), NOW)
    t.reshard(Shard(2))
    left = {record.author for record in t}
    assert left == {peer_of(1), peer_of(3), peer_of(6), peer_of(7)} | ({peer_of(5)} if home >> 15 == 2 else set())
    assert t.load == 180 * len(left) + 2 * 16
    t.reshard(WHOLE)
    assert t.load == 180 * len(left) + 3 * 16


def test_keys_within_a_shard_are_cut_out() -> None:
    keys = a_key(0x10) + a_key(0x50) + a_key(0x90)
    assert keys_within(keys, WHOLE) == keys
    assert keys_within(keys, Shard(2)) == a_key(0x10) + a_key(0x50)
    assert keys_within(keys, Shard(5)) == a_key(0x50)
    assert keys_within(keys, Shard(3)) == a_key(0x90)
    assert keys_within(b"", Shard(3)) == b""


def test_pages_tell_everything_once_and_end() -> None:
    t = table(size=64 * MIB)
    for number in range(60):
        t.insert(a_record(number, keys=keys_of(100, number)), NOW)
    t.insert(a_record(60, ttl=60), NOW)
    got: list[bytes] = []
    after, pages = b"", 0
    while True:
        page, after = t.page(WHOLE, after, b"", NOW + 60)
        assert sum(map(len, page)) < PAGE_BYTES + 2000
        got += page
        pages += 1
        if not after:
            break
    assert pages == 2 and len(got) == len(set(got)) == 60


def test_only_what_differs_is_told_to_who_says_what_it_has() -> None:
    ours, theirs = table(), table()
    for number in range(40):
        record = a_record(number)
        ours.insert(record, NOW)
        if number != 7:
            theirs.insert(record, NOW)
    page, after = ours.page(WHOLE, b"", theirs.digests(WHOLE, NOW), NOW)
    assert after == b"" and a_record(7).data in page and len(page) < 5
    assert ours.page(WHOLE, b"", ours.digests(WHOLE, NOW), NOW) == ([], b"")


@pytest.mark.parametrize("shard", [2, 3])
def test_a_page_is_about_the_shard_that_was_asked_for(shard: int) -> None:
    t = table()
    t.insert(a_record(1, shard=2, keys=[a_key(0x10)]), NOW)
    t.insert(a_record(2, shard=3, keys=[a_key(0x90)]), NOW)
    page, _ = t.page(Shard(shard), b"", b"", NOW)
    assert page == [a_record(shard - 1, shard=shard, keys=[a_key(0x10 if shard == 2 else 0x90)]).data]
    assert key_of(1) is not key_of(2)


def test_digests_that_are_kept_are_those_of_the_records_that_are_there() -> None:
    def fresh(of: Table) -> bytes:
        """Of the same records, put into a table by themselves."""
        anew = table(of.shard)
        for record in of:
            anew.insert(record, NOW)
        return anew.digests(of.shard, NOW)

    t = table(2)
    low, high = a_key(0x10), a_key(0x90)
    empty = table(2).digests(Shard(2), NOW)
    # It says that its author has nothing here, and is kept because it takes back what was here.
    assert t.insert(a_record(1, keys=[high]), NOW) is Outcome.NEW and t.digests(Shard(2), NOW) == empty
    assert t.insert(a_record(1, keys=[low], sequence=2, issued=NOW + 60), NOW) is Outcome.NEW
    assert t.insert(a_record(2, keys=[low], ttl=60), NOW) is Outcome.NEW
    assert t.insert(a_record(3, keys=[high]), NOW) is Outcome.NEW
    before = t.digests(Shard(2), NOW)
    assert before == fresh(t) != empty
    assert t.digests(Shard(2), NOW + 61) == fresh(t) != before and len(t) == 2
    t.reshard(WHOLE)
    assert t.digests(WHOLE, NOW) == fresh(t)
    t.expire(NOW + 48 * HOUR)
    assert len(t) == 0 and t.digests(WHOLE, NOW) == empty
