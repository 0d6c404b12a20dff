"""Attacks by their number in the list of known ones, against the machine; those that need a wire are in test_service."""

import tracemalloc
from collections.abc import Iterator

import pytest

from stack.errors import RemoteProtocolError
from stack.gossipsub.decoding import decode_rpc
from stack.gossipsub.events import ControlIgnored, Deliver, MessageRejected, RejectReason, RpcGraylisted
from stack.gossipsub.messages import IHave, Message, Prune, Rpc
from stack.gossipsub.params import GossipsubParams, PeerScoreParams, PeerScoreThresholds, TopicScoreParams, score_decay
from stack.gossipsub.signing import Author, is_authentic
from stack.identity import keys
from stack.identity.peer_id import PeerId
from stack.multiformats import varint
from tests.flooding import quickest
from tests.gossipsub.lab import (
    SCORED,
    TOPIC,
    Lab,
    delivered,
    id_of,
    idontwants,
    iwants,
    message,
    of_kind,
    peer_id,
    prunes,
    receivers,
    sent_messages,
)

ATTACKER = 1
VICTIM_TIME = 0.05
"""Seconds of the event loop that one RPC may take."""


def field(number: int, data: bytes) -> bytes:
    return varint.encode(number << 3 | 2) + varint.encode(len(data)) + data


# A21: the author's key


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ecdsa", "rsa"])
@pytest.mark.parametrize("forgery", ["wrong key", "missing key", "garbage key", "bad signature"])
def test_A21_a_key_that_is_not_the_authors_is_rejected_and_costs_score(kind: str, forgery: str) -> None:
    key, other = keys.generate(kind), keys.generate()
    true = Author.of(key).write(TOPIC, b"data", 1)
    changed: dict[str, bytes | None] = {
        "wrong key": {"key": other.public.encode()},
        "missing key": {"key": None} if true.key is not None else {"author": bytes(PeerId.of(other.public))},
        "garbage key": {"key": b"\x08\x01\x12\xff"},
        "bad signature": {"signature": b"\x00" * 64},
    }[forgery]
    fields = {name: getattr(true, name) for name in ("data", "author", "seqno", "signature", "key")} | changed
    lab = Lab(SCORED, verify=is_authentic)
    lab.connect(ATTACKER, 2)
    assert lab.publish(ATTACKER, Message(TOPIC, **fields)) == []
    assert [event.reason for event in lab.told(MessageRejected)] == [RejectReason.INVALID_SIGNATURE]
    assert lab.machine.score(peer_id(ATTACKER)) < 0
    assert of_kind(lab.publish(2, true), Deliver)


# A36: back-offs


@pytest.mark.parametrize("backoff", [0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_A36_a_back_off_of_any_size_is_clamped(backoff: int) -> None:
    prune = field(1, TOPIC.encode()) + b"\x18" + _varint64(backoff)
    (control,) = [decode_rpc(field(3, field(4, prune))).control]
    assert control is not None
    for graft_first in (False, True):
        lab = Lab()
        lab.connect(*range(1, 6))
        if graft_first:
            lab.graft(ATTACKER)
        lab.control(ATTACKER, prune=control.prune)
        lab.advance(3600 + 60)
        assert ATTACKER in lab.mesh()


def _varint64(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# A37, A38: topics without end


def table_sizes(lab: Lab) -> dict[str, int]:
    """How much the machine holds, by table."""
    machine = lab.machine
    state = machine._state
    return {
        "peers": len(state.peers),
        "topics": len(state.topics),
        "topics of peers": sum(len(peer.topics) for peer in state.peers.values()),
        "mesh": len(state.mesh),
        "mesh members": sum(map(len, state.mesh.values())),
        "backoffs": len(machine._mesh._backoffs),
        "seen": len(machine._seen),
        "pending": len(machine._intake._pending),
        "promises": len(machine._gossip._promises),
        "unwanted": sum(len(peer.unwanted) for peer in state.peers.values()),
        "fanout": len(list(machine._fanout)),
        "cache": machine._cache.size,
        "scores": len(state.scores),
        "counters": sum(len(stats.topics) for stats in state.scores._peers.values()),
    }


def test_A37_a_million_grafts_of_random_topics_leave_no_state() -> None:
    lab = Lab(SCORED, trace=None)
    lab.connect(ATTACKER)
    before = table_sizes(lab)
    for start in range(0, 1_000_000, 5000):
        topics = tuple(str(number) for number in range(start, start + 5000))
        assert lab.control(ATTACKER, graft=topics) == []
    assert table_sizes(lab) == before


def test_A38_topics_of_peers_that_come_and_go_leave_no_state() -> None:
    lab = Lab(SCORED, trace=None)
    before = table_sizes(lab)
    topics = [(True, str(number)) for number in range(15_000)]
    for round_ in range(1000):
        lab.machine.peer_connected(peer_id(ATTACKER), "/meshsub/1.2.0", False, None, lab.now, lab.budget)
        lab.rpc(ATTACKER, Rpc(subscriptions=tuple(topics[10 * round_ : 10 * round_ + 5000])))
        assert table_sizes(lab)["topics"] == 100
        lab.disconnect(ATTACKER)
    assert lab.machine.known_topics() == ()
    assert table_sizes(lab) == before


# A39, A42: small bytes, large effect


@pytest.mark.parametrize(
    "item", [b"\x0a\x00", b"\x12\x00", b"\x1a\x00", b"\x1a\x02\x0a\x00", b"\x50\x00"], ids=bytes.hex
)
def test_A39_a_mebibyte_of_empty_fields_does_not_hold_the_loop(item: bytes) -> None:
    data = item * (1024 * 1024 // len(item))

    def read() -> None:
        with pytest.raises(RemoteProtocolError):
            decode_rpc(data)

    assert quickest(read) < 2 * VICTIM_TIME  # twice, for slow machines that share their processors


def shapes() -> Iterator[tuple[str, bytes]]:
    """Every list of an RPC, filled with as little as it takes."""
    topic = field(4, b"a")
    yield "empty subscriptions", field(1, b"") * 4000
    yield "subscriptions", b"".join(field(1, field(2, b"%04d" % number)) for number in range(4000))
    yield "empty messages", field(2, b"") * 30_000
    yield "messages", field(2, topic + field(2, b"")) * 12_000
    yield (
        "different messages",
        b"".join(field(2, field(4, b"%03x" % number) + field(2, b"%02x" % (number % 256))) for number in range(4000)),
    )
    yield "unsigned fields", field(2, topic + field(2, b"") + b"\x48\x01" * 30_000)
    yield "empty controls", field(3, b"") * 30_000
    for number in range(1, 7):
        yield f"control {number}, empty", field(3, field(number, b"") * 30_000)
        yield (
            f"control {number}, topics",
            field(3, b"".join(field(number, field(1, b"%04x" % i)) for i in range(19_000))),
        )
        yield (
            f"control {number}, ids",
            field(3, field(number, field(1, b"a") + b"".join(field(2, b"%02x" % (i % 256)) for i in range(30_000)))),
        )
        yield (
            f"control {number}, both",
            field(3, b"".join(field(number, field(1, b"a") + field(2, b"")) for i in range(12_000))),
        )
    yield (
        "named peers",
        field(3, b"".join(field(4, field(1, b"a") + field(2, field(1, bytes(34)))) for i in range(6000))),
    )
    yield "unknown fields", b"\x48\x01" * 30_000


@pytest.mark.apart
@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in shapes()])
def test_A42_an_rpc_takes_at_most_twenty_times_its_size(data: bytes) -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        try:
            decoded = decode_rpc(data)  # noqa: F841 - held while it is measured
        except RemoteProtocolError:
            pass
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak <= 20 * len(data)


# A40: floods of gossip, after go-libp2p-pubsub's gossipsub_spam_test.go


def test_A40_GossipsubAttackSpamIWANT_one_message_is_given_three_times() -> None:
    lab = Lab()
    lab.connect(ATTACKER)
    lab.graft(ATTACKER)
    lab.machine.publish(TOPIC, b"data", lab.now)
    count = len(sent_messages(lab.drain(), ATTACKER))
    (message_id,) = [effect.message_id for effect in lab.effects if isinstance(effect, Deliver)]
    for _ in range(100):
        count += len(sent_messages(lab.control(ATTACKER, iwant=(message_id,)), ATTACKER))
    assert count == 1 + 3


def test_A40_what_one_peer_may_ask_for_in_a_heartbeat_is_bounded() -> None:
    lab = Lab(GossipsubParams(max_ihave_length=100))
    lab.connect(ATTACKER, 2)
    messages = [message(number) for number in range(300)]
    lab.publish(2, *messages)
    wanted = tuple(map(id_of, messages))
    given = [len(sent_messages(lab.control(ATTACKER, iwant=wanted), ATTACKER)) for _ in range(3)]
    assert given == [100, 0, 0]
    lab.beat()
    assert len(sent_messages(lab.control(ATTACKER, iwant=wanted), ATTACKER)) == 100


def spam_scores(weight: float) -> GossipsubParams:
    return GossipsubParams(
        score=PeerScoreParams(
            other_topics=None,
            behaviour_penalty_weight=weight,
            behaviour_penalty_threshold=0,
            behaviour_penalty_decay=score_decay(60),
        ),
        thresholds=PeerScoreThresholds(gossip=-100, publish=-500, graylist=-1000),
    )


def test_A40_GossipsubAttackSpamIHAVE_is_asked_within_bounds_and_costs_score() -> None:
    lab = Lab(spam_scores(-1))
    lab.connect(ATTACKER)
    lab.graft(ATTACKER)

    def spam(offset: int) -> int:
        asked = 0
        for number in range(3 * 5000):
            told = (IHave(TOPIC, (b"some id %d" % (number + offset),)),)
            asked += len(iwants(lab.control(ATTACKER, ihave=told), ATTACKER))
        return asked

    assert spam(0) == 10
    assert lab.machine.score(peer_id(ATTACKER)) == 0
    lab.advance(1)
    assert 0 < spam(100) <= 5000
    lab.advance(10)
    assert lab.machine.score(peer_id(ATTACKER)) < 0


def test_A40_one_ihave_with_too_many_ids_is_asked_for_only_so_many() -> None:
    lab = Lab()
    lab.connect(ATTACKER)
    many = tuple(b"%d" % number for number in range(12_000))
    assert len(iwants(lab.control(ATTACKER, ihave=(IHave(TOPIC, many[:6000]),)), ATTACKER)) == 5000
    assert lab.control(ATTACKER, ihave=(IHave(TOPIC, many[6000:]),)) == []
    lab.beat()
    lab.control(ATTACKER, ihave=(IHave(TOPIC, many[:3000]),))
    assert len(iwants(lab.control(ATTACKER, ihave=(IHave(TOPIC, many[3000:8000]),)), ATTACKER)) == 2000


def test_A40_GossipsubAttackGRAFTNonExistentTopic_is_not_answered() -> None:
    lab = Lab()
    lab.connect(ATTACKER)
    lab.graft(ATTACKER)
    assert lab.control(ATTACKER, graft=("non-existent",)) == []


def test_A40_GossipsubAttackGRAFTDuringBackoff_is_penalized_and_in_the_end_ignored() -> None:
    params = spam_scores(-100)
    lab = Lab(
        GossipsubParams(prune_backoff=0.2, graft_flood_threshold=0.1, score=params.score, thresholds=params.thresholds)
    )
    lab.connect(ATTACKER)
    lab.graft(ATTACKER)
    assert prunes(lab.effects) == []
    assert prunes(lab.control(ATTACKER, prune=(Prune(TOPIC),))) == []
    lab.now += 0.12
    assert len(prunes(lab.control(ATTACKER, graft=(TOPIC,)))) == 1
    first = lab.machine.score(peer_id(ATTACKER))
    assert first == -100
    lab.now += 0.02
    assert len(prunes(lab.control(ATTACKER, graft=(TOPIC,)))) == 1
    second = lab.machine.score(peer_id(ATTACKER))
    assert second == -900
    assert len(prunes(lab.control(ATTACKER, graft=(TOPIC,)))) == 1
    assert lab.machine.score(peer_id(ATTACKER)) < -1000
    lab.now += 0.21
    assert lab.control(ATTACKER, graft=(TOPIC,)) == []
    assert lab.told(RpcGraylisted)
    assert lab.mesh() == set()


def test_A40_GossipsubAttackInvalidMessageSpam_gets_an_attacker_pruned() -> None:
    topic = TopicScoreParams(
        topic_weight=0.25,
        time_in_mesh_weight=0.0027,
        time_in_mesh_cap=3600,
        first_message_deliveries_weight=0.664,
        first_message_deliveries_decay=0.9916,
        first_message_deliveries_cap=1500,
        mesh_message_deliveries_weight=-0.25,
        mesh_message_deliveries_decay=0.97,
        mesh_message_deliveries_cap=400,
        mesh_message_deliveries_threshold=100,
        mesh_message_deliveries_window=300,
        mesh_failure_penalty_weight=-0.25,
        mesh_failure_penalty_decay=0.997,
        invalid_message_deliveries_weight=-99,
        invalid_message_deliveries_decay=0.9994,
    )
    score = PeerScoreParams(topics={TOPIC: topic}, ip_colocation_factor_weight=0, decay_interval=5, retain_score=10)
    thresholds = PeerScoreThresholds(gossip=-100, publish=-200, graylist=-300)
    lab = Lab(GossipsubParams(score=score, thresholds=thresholds))
    lab.connect(ATTACKER)
    assert lab.machine.score(peer_id(ATTACKER)) == 0
    for number in range(100):
        lab.publish(ATTACKER, Message(TOPIC, b"some data", bytes(peer_id(ATTACKER)), bytes([number + 1])))
    effects = lab.advance(0.2)
    assert lab.machine.score(peer_id(ATTACKER)) < -300
    assert {event.reason for event in lab.told(MessageRejected)} == {RejectReason.MISSING_SIGNATURE}
    assert len(prunes(effects, ATTACKER)) == 1


def test_A40_GossipsubAttackSpamIDONTWANT_counts_a_thousand_a_heartbeat() -> None:
    lab = Lab()
    lab.connect(ATTACKER, 2)
    for number in range(1001):
        lab.control(ATTACKER, idontwant=(id_of(message(number)),))
    assert receivers(lab.publish(2, message(999))) == set()
    assert receivers(lab.publish(2, message(1000))) == {ATTACKER}
    lab.beat()
    lab.control(ATTACKER, idontwant=(id_of(message(2000)),))
    assert receivers(lab.publish(2, message(2000))) == set()


def test_A40_GossipsubHandleIDontwantSpam_takes_ten_ids_of_one_rpc() -> None:
    lab = Lab()
    lab.connect(ATTACKER, 2)
    lab.control(ATTACKER, idontwant=tuple(id_of(message(number)) for number in range(11)))
    assert receivers(lab.publish(2, message(9))) == set()
    assert receivers(lab.publish(2, message(10))) == {ATTACKER}


def test_A40_idontwants_of_all_peers_together_are_bounded() -> None:
    lab = Lab(GossipsubParams(unwanted_max=1000))
    lab.connect(*range(1, 21))
    for number in range(1, 21):
        for start in range(20):
            lab.control(number, idontwant=tuple(b"%d %d" % (start, offset) for offset in range(10)))
    assert table_sizes(lab)["unwanted"] == 1000
    lab.beat(3)
    assert table_sizes(lab)["unwanted"] == 0


def test_A40_small_messages_are_not_answered_by_larger_idontwants() -> None:
    lab = Lab()
    lab.connect(*range(1, 10))
    assert idontwants(lab.publish(ATTACKER, message(1, size=1023))) == []


# A41: partial messages are not spoken


def test_A41_partial_messages_of_many_groups_leave_no_state() -> None:
    lab = Lab(SCORED, trace=None)
    lab.connect(ATTACKER)
    before = table_sizes(lab)
    for number in range(1000):
        partial = field(1, TOPIC.encode()) + field(2, b"%d" % number) + field(3, b"part")
        assert lab.rpc(ATTACKER, decode_rpc(field(10, partial))) == []
    assert table_sizes(lab) == before


# A44: mesh take-over


def graft_cases(lab: Lab, case: str) -> None:
    if case == "in back-off":
        lab.control(ATTACKER, prune=(Prune(TOPIC),))
    elif case == "in back-off, having left and come back":
        lab.control(ATTACKER, prune=(Prune(TOPIC),))
        lab.disconnect(ATTACKER)
        lab.connect(ATTACKER)
    elif case == "full mesh":
        lab.control(ATTACKER, prune=(Prune(TOPIC, (), 1),))
        lab.now += 2
        lab.connect(*range(50, 70))
        lab.graft(*range(50, 70))
        assert len(lab.mesh()) == 12


A44 = {
    "in back-off": True,
    "in back-off, having left and come back": True,
    "low score": False,
    "direct peer": False,
    "full mesh": False,
    "unknown topic": False,
}
"""Each case, and whether it costs score (P7)."""


@pytest.mark.parametrize("case", A44)
def test_A44_a_graft_that_may_not_be_is_refused(case: str) -> None:
    opinion = {peer_id(ATTACKER): -1.0 if case == "low score" else 0.0}
    lab = Lab(
        SCORED,
        direct={peer_id(ATTACKER): ()} if case == "direct peer" else {},
        application_score=lambda peer: opinion.get(peer, 0.0),
    )
    lab.connect(ATTACKER)
    graft_cases(lab, case)
    before = lab.machine.score(peer_id(ATTACKER))
    topic = "unknown" if case == "unknown topic" else TOPIC
    mesh = lab.mesh()
    effects = lab.control(ATTACKER, graft=(topic,))
    assert lab.mesh() == mesh
    assert [prune.topic for prune in prunes(effects, ATTACKER)] == ([] if case == "unknown topic" else [TOPIC])
    assert all(prune.peers == () for prune in prunes(effects))
    assert (lab.machine.score(peer_id(ATTACKER)) < before) is A44[case]
    assert (lab.told(ControlIgnored) == []) is (case == "unknown topic")


# memory under floods


def test_a_flood_of_valid_messages_is_bounded_in_memory() -> None:
    params = GossipsubParams(seen_max=2000, mcache_bytes=1024 * 1024)
    lab = Lab(params, trace=None)
    lab.connect(ATTACKER, 2)
    for start in range(0, 10_000, 100):
        lab.publish(ATTACKER, *(message(number, size=1000) for number in range(start, start + 100)))
        lab.effects.clear()
    assert table_sizes(lab)["seen"] == 2000
    assert table_sizes(lab)["cache"] <= 1024 * 1024


def test_a_flood_of_messages_to_validate_is_bounded_and_honest_peers_get_through() -> None:
    lab = Lab(GossipsubParams(pending_per_peer=100, score=SCORED.score), verify=None, trace=None)
    lab.connect(ATTACKER, 2)
    for number in range(1000):
        lab.publish(ATTACKER, message(number, author=666))
    assert table_sizes(lab)["pending"] == 100
    effects = lab.publish(2, message(5000))
    assert delivered(effects) == []
    assert table_sizes(lab)["pending"] == 101


def test_identities_without_end_leave_a_bounded_number_of_scores_and_back_offs() -> None:
    score = PeerScoreParams(retained_max=100, behaviour_penalty_threshold=0)
    lab = Lab(GossipsubParams(score=score, backoffs_max=100), trace=None)
    for number in range(1, 2000):
        lab.connect(number)
        lab.control(number, prune=(Prune(TOPIC, (), 3600),), graft=(TOPIC,))
        lab.control(number, graft=(TOPIC,))
        lab.disconnect(number)
    sizes = table_sizes(lab)
    assert sizes["scores"] <= 100
    assert sizes["backoffs"] == 100
    assert sizes["peers"] == sizes["mesh members"] == 0
