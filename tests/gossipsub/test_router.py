"""The router as a whole: facts, commands, effects, time."""

import pytest

from stack.errors import LocalProtocolError
from stack.gossipsub.events import (
    Connect,
    ControlIgnored,
    Deliver,
    Grafted,
    IgnoreReason,
    MessageDelivered,
    MessagePublished,
    PeerAdded,
    PeerRemoved,
    PeerSubscribed,
    PeerUnsubscribed,
    Pruned,
    RpcGraylisted,
    TopicJoined,
    TopicLeft,
)
from stack.gossipsub.messages import PROTOCOL_FLOODSUB, RPC_BYTES_MAX, Message, Rpc
from stack.gossipsub.params import GossipsubParams
from stack.gossipsub.signing import UNSIGNED, data_hash
from stack.multiformats.multiaddr import Multiaddr
from stack.sansio.budget import Resource, Scope
from tests.gossipsub.lab import SCORED, TOPIC, US, Lab, id_of, message, of_kind, peer_id, receivers, to

ADDRESS = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")


def test_the_router_tells_what_it_is_in_one_line() -> None:
    assert repr(Lab().machine) == f"<Gossipsub of {US}: 1 topics, 0 peers>"


def test_getters_tell_topics_peers_and_meshes() -> None:
    lab = Lab()
    lab.connect(1, topics=[TOPIC, "other"])
    lab.connect(2, topics=["other"])
    assert lab.machine.topics == (TOPIC,)
    assert lab.machine.known_topics() == (TOPIC, "other")
    assert lab.machine.peers() == (peer_id(1), peer_id(2))
    assert lab.machine.peers(TOPIC) == (peer_id(1),)
    assert lab.machine.peers("unknown") == ()
    assert lab.machine.topics_of(peer_id(1)) == (TOPIC, "other")
    assert lab.machine.topics_of(peer_id(9)) == ()
    assert lab.machine.mesh(TOPIC) == (peer_id(1),)
    assert lab.machine.mesh("other") == ()
    assert lab.machine.score(peer_id(9)) == 0


def test_facts_are_told_to_the_trace() -> None:
    lab = Lab()
    lab.connect(1)
    lab.rpc(1, Rpc(subscriptions=((False, TOPIC), (False, "never"))))
    lab.disconnect(1)
    lab.machine.unsubscribe(TOPIC, 0)
    kinds = [TopicJoined, PeerAdded, PeerSubscribed, Grafted, Pruned, PeerUnsubscribed, PeerRemoved, TopicLeft]
    assert [type(event) for event in lab.events] == kinds


def test_without_a_trace_everything_works_as_well() -> None:
    lab = Lab(SCORED, trace=None, verify=None, application_score=lambda peer: -2000.0 if peer == peer_id(3) else 0.0)
    lab.connect(1, 2, 3)
    lab.machine.publish(TOPIC, b"data", 0)
    lab.publish(1, message(1), message(1, author=0), Message(TOPIC))
    lab.publish(2, message(1))
    lab.rpc(3, Rpc(skipped_bytes=1))
    lab.rpc(1, Rpc(skipped_bytes=1))
    lab.control(1, iwant=(b"id",) * 6000, idontwant=(b"id",), graft=(TOPIC,))
    lab.beat(70)
    lab.rpc(1, Rpc(subscriptions=((False, TOPIC),)))
    assert set(lab.machine.peers()) == {peer_id(1), peer_id(2), peer_id(3)}
    lab.disconnect(1, 2, 3)
    lab.machine.unsubscribe(TOPIC, lab.now)
    assert lab.machine.peers() == ()


def test_an_unknown_protocol_is_our_callers_fault() -> None:
    lab = Lab()
    with pytest.raises(LocalProtocolError, match="meshsub/9"):
        lab.machine.peer_connected(peer_id(1), "/meshsub/9.0.0", False, None, 0, lab.budget)


def test_facts_of_unknown_peers_and_second_connections_are_ignored() -> None:
    lab = Lab()
    assert lab.rpc(1, Rpc(subscriptions=((True, TOPIC),))) == []
    lab.disconnect(1)
    lab.connect(1)
    lab.machine.peer_connected(peer_id(1), PROTOCOL_FLOODSUB, True, None, 0, lab.budget)
    assert lab.drain() == []
    assert lab.mesh() == {1}
    lab.machine.peer_fell_silent(peer_id(2))


def test_a_peer_that_falls_silent_is_in_no_topic_until_it_says_so_again() -> None:
    lab = Lab()
    lab.connect(1, topics=[TOPIC, "other"])
    lab.machine.peer_fell_silent(peer_id(1))
    assert lab.machine.known_topics() == ()
    assert lab.mesh() == set()
    lab.rpc(1, Rpc(subscriptions=((True, TOPIC),)))
    assert lab.mesh() == {1}


def test_subscribing_and_unsubscribing_twice_is_harmless() -> None:
    lab = Lab()
    lab.connect(1)
    lab.machine.subscribe(TOPIC, 0)
    assert lab.drain() == []
    lab.machine.unsubscribe(TOPIC, 0)
    lab.drain()
    lab.machine.unsubscribe(TOPIC, 0)
    assert lab.drain() == []


@pytest.mark.parametrize("topic", ["", "x" * 1025, "ü" * 513, "\udcff"])
def test_topics_without_a_name_or_with_a_long_one_are_refused(topic: str) -> None:
    lab = Lab()
    with pytest.raises(LocalProtocolError, match=r"1 to 1024 bytes|is text"):
        lab.machine.subscribe(topic, 0)
    with pytest.raises(LocalProtocolError, match=r"1 to 1024 bytes|is text"):
        lab.machine.publish(topic, b"", 0)


def test_our_message_is_signed_numbered_delivered_and_sent() -> None:
    lab = Lab(first_seqno=7)
    lab.connect(1)
    message_id = lab.machine.publish(TOPIC, b"data", 0)
    sent = Message(TOPIC, b"data", bytes(US), (7).to_bytes(8, "big"), b"signature")
    effects = lab.drain()
    assert effects[0] == Deliver(None, sent, message_id)
    assert to(effects, 1) == [Rpc(publish=(sent,))]
    assert message_id == id_of(sent)
    assert lab.told(MessagePublished) == [MessagePublished(topic=TOPIC, message_id=message_id)]
    lab.machine.publish(TOPIC, b"data", 0)
    assert [effect.message.seqno for effect in of_kind(lab.drain(), Deliver)] == [(8).to_bytes(8, "big")]


def test_our_message_is_not_delivered_to_us_when_that_is_not_wanted_or_we_are_not_in_the_topic() -> None:
    lab = Lab(GossipsubParams(emit_self=False))
    lab.machine.publish(TOPIC, b"data", 0)
    assert lab.drain() == []
    lab = Lab(subscribe=False)
    lab.machine.publish(TOPIC, b"data", 0)
    assert lab.drain() == []


def test_an_unsigned_topic_needs_no_author_and_knows_the_same_data_again() -> None:
    lab = Lab(author=None)
    lab.machine.set_rules(TOPIC, UNSIGNED)
    lab.connect(1)
    message_id = lab.machine.publish(TOPIC, b"data", 0)
    assert message_id == data_hash(Message(TOPIC, b"data"))
    assert to(lab.drain(), 1) == [Rpc(publish=(Message(TOPIC, b"data"),))]
    assert lab.machine.publish(TOPIC, b"data", 0) == message_id
    assert lab.drain() == []
    with pytest.raises(LocalProtocolError, match="no author"):
        lab.machine.publish("signed", b"data", 0)


def test_rules_can_be_set_for_all_topics() -> None:
    lab = Lab(author=None)
    lab.machine.set_rules(None, UNSIGNED)
    lab.machine.publish("any", b"data", 0)
    with pytest.raises(LocalProtocolError):
        Lab(author=None).machine.publish("any", b"data", 0)


def test_a_message_over_a_mebibyte_is_refused_and_none_is_numbered() -> None:
    lab = Lab(first_seqno=7)
    with pytest.raises(LocalProtocolError, match="at most 1048576 bytes"):
        lab.machine.publish(TOPIC, bytes(RPC_BYTES_MAX), 0)
    lab.machine.publish(TOPIC, bytes(RPC_BYTES_MAX - 500), 0)
    assert of_kind(lab.drain(), Deliver)[0].message.seqno == (7).to_bytes(8, "big")


def test_a_received_message_is_delivered_once() -> None:
    lab = Lab()
    lab.connect(1, 2)
    effects = lab.publish(1, message(1))
    assert of_kind(effects, Deliver) == [Deliver(peer_id(1), message(1), id_of(message(1)))]
    assert lab.publish(2, message(1)) == []
    assert len(lab.told(MessageDelivered)) == 1


def test_a_message_of_a_topic_that_we_are_not_in_is_ignored() -> None:
    lab = Lab()
    lab.connect(1, 2)
    assert lab.publish(1, message(1, topic="other")) == []


def test_a_message_is_new_again_after_two_minutes() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.publish(1, message(1))
    lab.advance(119)
    assert lab.publish(1, message(1)) == []
    lab.advance(2)
    assert receivers(lab.publish(1, message(1))) == {2}


def test_rpcs_of_a_graylisted_peer_are_not_looked_at_but_its_subscriptions() -> None:
    opinion = {peer_id(1): -2000.0, peer_id(2): -2000.0}
    lab = Lab(SCORED, direct={peer_id(2): ()}, application_score=lambda peer: opinion.get(peer, 0.0))
    lab.connect(1, 2)
    assert lab.publish(1, message(1)) == []
    assert lab.told(RpcGraylisted)[-1] == RpcGraylisted(peer=peer_id(1))
    assert of_kind(lab.publish(2, message(1)), Deliver)
    lab.rpc(1, Rpc(subscriptions=((False, TOPIC),)))
    assert lab.machine.peers(TOPIC) == (peer_id(2),)


def test_control_that_was_too_large_to_read_is_told() -> None:
    lab = Lab()
    lab.connect(1)
    lab.rpc(1, Rpc(skipped_bytes=300_000))
    assert lab.told(ControlIgnored) == [ControlIgnored(peer=peer_id(1), kind="control", reason=IgnoreReason.TOO_LARGE)]


def test_direct_peers_are_dialled_at_first_and_every_five_minutes_while_they_are_away() -> None:
    lab = Lab(direct={peer_id(1): (ADDRESS,), peer_id(2): ()})
    assert of_kind(lab.advance(0.9), Connect) == []
    expected = [Connect(peer_id(1), (ADDRESS,), True), Connect(peer_id(2), (), True)]
    assert of_kind(lab.advance(0.2), Connect) == expected
    lab.connect(1)
    assert of_kind(lab.advance(297), Connect) == []
    assert of_kind(lab.advance(3), Connect) == expected[1:]


def test_heartbeats_that_were_missed_are_not_made_up_for() -> None:
    lab = Lab()
    assert lab.machine.next_timeout() == pytest.approx(0.1)
    lab.machine.handle_timeout(0.1)
    assert lab.machine.next_timeout() == pytest.approx(1.1)
    lab.machine.handle_timeout(1.1)
    assert lab.machine.next_timeout() == pytest.approx(2.1)
    lab.machine.handle_timeout(1000)
    assert 1000 < lab.machine.next_timeout() <= 1001
    assert lab.machine._state.ticks == 3


def test_a_timeout_before_its_time_does_nothing_but_stays() -> None:
    lab = Lab(SCORED)
    lab.machine.handle_timeout(0.05)
    assert lab.machine.next_timeout() == pytest.approx(0.1)
    assert lab.machine._state.ticks == 0


def test_the_same_facts_and_seed_give_the_same_effects() -> None:
    def run() -> list[object]:
        lab = Lab(GossipsubParams(do_px=True), seed=5)
        lab.connect(*range(1, 40))
        lab.graft(*range(1, 40))
        for number in range(30):
            lab.publish(1 + number % 39, message(number, size=2000))
            lab.beat()
        return list(lab.effects)

    assert run() == run()


def test_A38_what_peers_subscribe_to_is_drawn_from_their_budget() -> None:
    lab = Lab()
    lab.budget = Scope("peers", {Resource.BYTES: 50_000})
    many = tuple((True, f"{number:03}" + "x" * 1021) for number in range(100))
    lab.connect(1, topics=())
    lab.rpc(1, Rpc(subscriptions=many))
    held = lab.machine.topics_of(peer_id(1))
    assert 20 < len(held) < 50_000 // 1024
    used = lab.budget.used(Resource.BYTES)
    assert 49_000 - 1424 < used <= 50_000
    lab.rpc(1, Rpc(subscriptions=((False, held[0]),)))
    assert lab.budget.used(Resource.BYTES) == used * (len(held) - 1) // len(held)
    lab.disconnect(1)
    assert lab.budget.used(Resource.BYTES) == 0
    # One wide letter makes every letter of a name take four bytes.
    lab.connect(2, topics=("x" * 1000,))
    narrow = lab.budget.used(Resource.BYTES)
    lab.disconnect(2)
    lab.connect(2, topics=("\U0001f642" + "x" * 999,))
    assert lab.budget.used(Resource.BYTES) > narrow + 2900
