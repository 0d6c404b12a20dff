"""The small tables: seen ids, the message cache, back-offs, pending messages, what waits to be written."""

from stack.gossipsub.backoff import Backoffs
from stack.gossipsub.cache import MESSAGE_OVERHEAD_BYTES, Fate, MessageCache, SeenCache
from stack.gossipsub.messages import PROTOCOL_1_2, Control, IHave, Prune, Rpc
from stack.gossipsub.outbox import (
    BATCH_BYTES,
    CONTROL_BYTES_MAX,
    GOSSIP_BYTES_MAX,
    WAITING_BYTES_MAX,
    Kind,
    Outbox,
    kind_of,
)
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.peers import Peer
from stack.gossipsub.scoring import PeerStats
from stack.gossipsub.validation import PendingMessages
from stack.sansio.budget import Scope
from tests.gossipsub.lab import id_of, message, peer_id


def peer(number: int) -> Peer:
    return Peer(
        peer_id(number),
        PROTOCOL_1_2,
        outbound=False,
        direct=False,
        stats=PeerStats(None),
        budget=Scope("peer", {}),
    )


def test_a_peer_tells_what_it_is_but_not_all() -> None:
    assert repr(peer(1)) == f"<Peer {peer_id(1)} /meshsub/1.2.0, in 0 meshes>"


def test_ids_are_seen_for_their_time() -> None:
    cache = SeenCache(10, 100)
    cache.add(b"a", Fate.VALID, None, 0)
    cache.add(b"b", Fate.VALID, None, 5)
    assert b"a" in cache
    cache.expire(9.9)
    assert len(cache) == 2
    cache.expire(10)
    assert (b"a" in cache, b"b" in cache) == (False, True)
    assert cache.get(b"a") is None
    cache.expire(99)
    assert len(cache) == 0


def test_only_so_many_ids_are_seen_and_the_oldest_go_first() -> None:
    cache = SeenCache(10, 3)
    for number in range(5):
        cache.add(b"%d" % number, Fate.VALID, None, number)
    assert [b"%d" % number in cache for number in range(5)] == [False, False, True, True, True]


def test_messages_are_kept_for_some_heartbeats_and_told_of_for_fewer() -> None:
    cache = MessageCache(5, 3, 10**6)
    told = []
    first = message(1)
    cache.put(b"first", first)
    for number in range(6):
        told.append((cache.get(b"first") is first, cache.gossip_ids("topic")))
        cache.shift()
        cache.put(b"%d" % number, message(number, topic="other"))
    assert told == [
        (True, [b"first"]),
        (True, [b"first"]),
        (True, [b"first"]),
        (True, []),
        (True, []),
        (False, []),
    ]
    assert cache.gossip_ids("other") == [b"5", b"4", b"3"]
    assert len(cache) == 5


def test_a_message_is_put_once() -> None:
    cache = MessageCache(5, 3, 10**6)
    cache.put(b"a", message(1))
    size = cache.size
    cache.put(b"a", message(1))
    assert cache.size == size
    assert cache.gossip_ids("topic") == [b"a"]


def test_the_message_cache_is_bounded_in_bytes() -> None:
    size = message(1, size=1000).size + MESSAGE_OVERHEAD_BYTES
    cache = MessageCache(5, 3, 10 * size)
    for number in range(30):
        cache.put(b"%d" % number, message(number, size=1000))
    assert len(cache) == 10
    assert cache.size == 10 * size
    assert len(cache.gossip_ids("topic")) == 10
    for _ in range(5):
        cache.shift()
    assert (len(cache), cache.size) == (0, 0)


def test_the_cache_counts_how_often_a_peer_was_given_a_message() -> None:
    cache = MessageCache(5, 3, 10**6)
    cache.put(b"a", message(1))
    one, other = peer(1), peer(2)
    assert [cache.take_for(b"a", one), cache.take_for(b"a", one)] == [(message(1), 1), (message(1), 2)]
    assert cache.take_for(b"a", other) == (message(1), 1)
    assert cache.take_for(b"b", one) is None


def test_a_back_off_blocks_us_a_little_longer_than_the_peer() -> None:
    backoffs = Backoffs(10, slack=2)
    backoffs.add("t", peer_id(1), 60)
    assert backoffs.until("t", peer_id(1)) == 60
    assert backoffs.until("u", peer_id(1)) is None
    assert [backoffs.blocks_us("t", peer_id(1), now) for now in (0, 59, 61, 62)] == [True, True, True, False]
    assert not backoffs.blocks_us("t", peer_id(2), 0)


def test_a_shorter_back_off_does_not_end_a_longer_one() -> None:
    backoffs = Backoffs(10, slack=0)
    backoffs.add("t", peer_id(1), 60)
    backoffs.add("t", peer_id(1), 10)
    assert backoffs.until("t", peer_id(1)) == 60
    backoffs.add("t", peer_id(1), 70)
    assert backoffs.until("t", peer_id(1)) == 70


def test_back_offs_end_and_are_bounded_in_number() -> None:
    backoffs = Backoffs(10, slack=2)
    for number in range(30):
        backoffs.add("t", peer_id(number), number)
    assert len(backoffs) == 10
    backoffs.expire(26)
    assert len(backoffs) == 5


def test_the_same_message_is_pending_once_and_others_of_its_id_beside_it() -> None:
    pending = PendingMessages(GossipsubParams())
    true, forged = message(1), message(1, size=11)
    one, other = peer(1), peer(2)
    first = pending.add(true, b"id", one)
    assert pending.find(b"id", message(1)) is first
    assert pending.find(b"id", forged) is None
    second = pending.add(forged, b"id", other)
    assert (b"id" in pending, len(pending), one.pending, other.pending) == (True, 2, 1, 1)
    assert pending.take(second.token) is second
    assert pending.find(b"id", true) is first
    assert pending.take(first.token) is first
    assert (b"id" in pending, len(pending), one.pending) == (False, 0, 0)
    assert pending.take(first.token) is None


def test_pending_messages_are_bounded_in_number_bytes_and_for_each_peer() -> None:
    one, other = peer(1), peer(2)
    pending = PendingMessages(GossipsubParams(pending_max=3, pending_per_peer=2))
    for number in range(2):
        assert pending.has_room(one, message(number))
        pending.add(message(number), id_of(message(number)), one)
    assert not pending.has_room(one, message(3))
    pending.add(message(3), b"3", other)
    assert not pending.has_room(other, message(4))
    small = PendingMessages(GossipsubParams(pending_bytes=1000))
    assert not small.has_room(one, message(1, size=1000))


def test_our_rpcs_have_a_kind() -> None:
    assert kind_of(Rpc(publish=(message(1),))) is Kind.MESSAGE
    assert kind_of(Rpc(subscriptions=((True, "t"),))) is Kind.CONTROL
    assert kind_of(Rpc(control=Control(graft=("t",)))) is Kind.CONTROL
    assert kind_of(Rpc(control=Control(prune=(Prune("t"),)))) is Kind.CONTROL
    assert kind_of(Rpc(control=Control(idontwant=(b"id",)))) is Kind.URGENT
    assert kind_of(Rpc(control=Control(iwant=(b"id",)))) is Kind.GOSSIP
    assert kind_of(Rpc(control=Control(ihave=(IHave("t", (b"id",)),)))) is Kind.GOSSIP


def test_control_is_written_first_and_small_things_together() -> None:
    outbox = Outbox()
    assert not outbox
    for kind, data in ((Kind.MESSAGE, b"m1"), (Kind.GOSSIP, b"g"), (Kind.URGENT, b"u"), (Kind.CONTROL, b"c")):
        assert outbox.push(kind, data)
    assert outbox
    assert outbox.size == 3
    assert outbox.take() == b"ucm1g"
    assert outbox.take() == b""
    assert not outbox


def test_what_is_written_at_once_is_bounded_but_a_large_message_goes_whole() -> None:
    outbox = Outbox()
    large = bytes(BATCH_BYTES + 1)
    for data in (large, bytes(BATCH_BYTES // 2), bytes(BATCH_BYTES // 2), b"rest"):
        outbox.push(Kind.MESSAGE, data)
    outbox.push(Kind.CONTROL, bytes(BATCH_BYTES))
    outbox.push(Kind.CONTROL, b"control")
    sizes = [len(outbox.take()) for _ in range(5)]
    assert sizes == [BATCH_BYTES, 7, BATCH_BYTES + 1, BATCH_BYTES, 4]


def test_gossip_is_the_first_to_be_dropped() -> None:
    outbox = Outbox()
    while outbox.push(Kind.GOSSIP, bytes(1000)):
        pass
    assert GOSSIP_BYTES_MAX - 1000 < outbox.size <= GOSSIP_BYTES_MAX
    count = 0
    while outbox.push(Kind.MESSAGE, bytes(100_000)):
        count += 1
    assert count == (WAITING_BYTES_MAX - GOSSIP_BYTES_MAX // 1000 * 1000) // 100_000
    while outbox.push(Kind.MESSAGE, bytes(100_000)):
        count += 1
    assert count == WAITING_BYTES_MAX // 100_000 - 1  # the one that drove the gossip out reports the loss
    assert outbox.size == (count + 1) * 100_000
    assert not outbox.overflown


def test_control_is_kept_until_a_peer_reads_nothing_at_all() -> None:
    outbox = Outbox()
    while outbox.push(Kind.MESSAGE, bytes(100_000)):
        pass
    assert outbox.push(Kind.CONTROL, bytes(CONTROL_BYTES_MAX - 10))
    assert not outbox.push(Kind.URGENT, bytes(100))
    assert not outbox.overflown
    assert not outbox.push(Kind.CONTROL, bytes(100))
    assert outbox.overflown
