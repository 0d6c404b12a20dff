"""IHAVE, IWANT, IDONTWANT, promises, fanout and flood publishing."""

from stack.gossipsub.events import ControlIgnored, IgnoreReason, PromisesBroken
from stack.gossipsub.messages import PROTOCOL_1_0, PROTOCOL_1_1, PROTOCOL_FLOODSUB, IHave, Prune, Rpc
from stack.gossipsub.params import GossipsubParams
from tests.gossipsub.lab import (
    SCORED,
    STRICT_SCORES,
    TOPIC,
    Lab,
    controls,
    id_of,
    idontwants,
    ihaves,
    iwants,
    message,
    peer_id,
    receivers,
    sent_messages,
    to,
)


def outsider(lab: Lab, of: int) -> int:
    return min({*range(1, of)} - lab.mesh())


def test_messages_are_told_of_outside_the_mesh_for_three_heartbeats() -> None:
    lab = Lab()
    lab.connect(*range(1, 9))
    lab.publish(1, message(1))
    outside = {*range(1, 9)} - lab.mesh()
    for _ in range(3):
        effects = lab.beat()
        for number in range(1, 9):
            expected = [IHave(TOPIC, (id_of(message(1)),))] if number in outside else []
            assert ihaves(effects, number) == expected
        outside = {*range(1, 9)} - lab.mesh()
    assert ihaves(lab.beat()) == []


def test_gossip_goes_to_a_quarter_of_many_peers_at_random() -> None:
    lab = Lab()
    lab.connect(*range(1, 86))
    lab.publish(1, message(1))
    told = [{number for number in range(1, 86) if ihaves(effects, number)} for effects in (lab.beat(), lab.beat())]
    assert len(told[0]) == len(told[1]) == int(0.25 * (85 - len(lab.mesh())))
    assert told[0] != told[1]


def test_gossip_goes_neither_to_floodsub_nor_to_direct_nor_to_low_scoring_peers() -> None:
    opinion = {peer_id(22): -200.0}
    lab = Lab(SCORED, direct={peer_id(21): ()}, application_score=lambda peer: opinion.get(peer, 0.0))
    lab.connect(*range(1, 6))
    lab.connect(20, protocol=PROTOCOL_FLOODSUB)
    lab.connect(21, 22, 23)
    lab.publish(1, message(1))
    effects = lab.beat()
    assert [bool(ihaves(effects, number)) for number in (20, 21, 22, 23)] == [False, False, False, True]


def test_more_ids_than_one_may_tell_are_chosen_for_each_peer() -> None:
    params = GossipsubParams(max_ihave_length=10)
    lab = Lab(params)
    lab.connect(*range(1, 9))
    lab.publish(1, *(message(number) for number in range(100)))
    effects = lab.beat()
    told = [entry.message_ids for entry in ihaves(effects)]
    assert len(told) == len(set(told)) == 3
    assert all(len(ids) == 10 for ids in told)


def test_long_lists_are_cut_into_rpcs_that_everybody_takes() -> None:
    lab = Lab()
    lab.connect(*range(1, 7))
    for start in range(0, 3000, 100):
        lab.publish(1, *(message(number) for number in range(start, start + 100)))
    effects = lab.beat()
    number = outsider(lab, 7)
    parts = [control.ihave[0].message_ids for control in controls(effects, number)]
    assert len(parts) > 1
    assert {message_id for part in parts for message_id in part} == {id_of(message(number)) for number in range(3000)}
    asked = lab.control(number, ihave=(IHave(TOPIC, tuple(b"%040d" % number for number in range(3000))),))
    assert len(to(asked, number)) > 1
    assert len(iwants(asked, number)) == 3000


def test_gossip_of_many_topics_travels_together() -> None:
    lab = Lab()
    topics = [f"topic {number}" for number in range(50)]
    for topic in topics:
        lab.machine.subscribe(topic, 0)
    lab.connect(*range(1, 8), topics=topics)
    lab.publish(1, *(message(number, topic=topic) for number, topic in enumerate(topics)))
    effects = lab.beat()
    told = [to(effects, number) for number in range(1, 8)]
    assert sum(len(ihaves(effects, number)) for number in range(1, 8)) == 50 * 2
    assert max(map(len, told)) == 1


def test_what_a_peer_has_and_we_have_not_is_asked_for_once() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.publish(1, message(1))
    told = IHave(TOPIC, (id_of(message(1)), b"new", b"other", b"new"))
    effects = lab.control(2, ihave=(told, IHave("unknown", (b"elsewhere",))))
    assert sorted(iwants(effects, 2)) == [b"new", b"other"]
    assert lab.control(2, ihave=(IHave(TOPIC, (id_of(message(1)),)),)) == []


def test_what_is_being_validated_is_not_asked_for() -> None:
    lab = Lab(verify=None)
    lab.connect(1, 2)
    lab.publish(1, message(1))
    assert lab.control(2, ihave=(IHave(TOPIC, (id_of(message(1)),)),)) == []


def test_a_message_is_given_on_request_three_times_to_each() -> None:
    lab = Lab()
    lab.connect(1, 2, 3)
    lab.publish(1, message(1))
    wanted = (id_of(message(1)), b"unknown", id_of(message(1)))
    answers = [sent_messages(lab.control(2, iwant=wanted), 2) for _ in range(4)]
    assert answers == [[message(1)]] * 3 + [[]]
    assert sent_messages(lab.control(3, iwant=wanted), 3) == [message(1)]


def test_answers_are_cut_into_rpcs_that_everybody_takes() -> None:
    lab = Lab()
    lab.connect(1, 2)
    messages = [message(number, size=10_000) for number in range(20)]
    lab.publish(1, *messages)
    effects = lab.control(2, iwant=tuple(map(id_of, messages)))
    assert [len(rpc.publish) for rpc in to(effects, 2)] == [6, 6, 6, 2]


def test_old_messages_are_not_given_any_more() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.publish(1, message(1))
    lab.beat(5)
    assert lab.control(2, iwant=(id_of(message(1)),)) == []


def test_gossip_of_peers_below_the_threshold_is_ignored() -> None:
    lab = Lab(SCORED, application_score=lambda peer: -150.0)
    lab.connect(1)
    lab.publish(1, message(1))
    assert lab.control(1, ihave=(IHave(TOPIC, (b"new",)),), iwant=(id_of(message(1)),)) == []
    assert lab.told(ControlIgnored) == [ControlIgnored(peer=peer_id(1), kind="gossip", reason=IgnoreReason.LOW_SCORE)]


def test_control_of_floodsub_peers_is_ignored() -> None:
    lab = Lab()
    lab.connect(1, protocol=PROTOCOL_FLOODSUB)
    assert lab.control(1, graft=(TOPIC,), ihave=(IHave(TOPIC, (b"new",)),)) == []
    assert lab.told(ControlIgnored)[0].reason is IgnoreReason.FLOODSUB


def test_a_promise_that_nobody_keeps_costs_score() -> None:
    lab = Lab(SCORED)
    lab.connect(1)
    lab.control(1, ihave=(IHave(TOPIC, (b"a", b"b", b"c")),))
    lab.advance(3)
    assert lab.machine.score(peer_id(1)) == 0
    lab.advance(1.2)
    assert lab.told(PromisesBroken) == [PromisesBroken(peer=peer_id(1), count=1)]
    assert lab.machine.score(peer_id(1)) < 0


def test_a_promise_is_kept_by_whoever_delivers() -> None:
    lab = Lab(SCORED)
    lab.connect(1, 2, 3)
    for number in (1, 2):
        lab.control(number, ihave=(IHave(TOPIC, (id_of(message(7)),)),))
    lab.publish(3, message(7))
    lab.advance(10)
    assert lab.told(PromisesBroken) == []


def test_a_promise_of_a_message_that_is_being_validated_is_not_broken() -> None:
    lab = Lab(SCORED, verify=None)
    lab.connect(1)
    lab.control(1, ihave=(IHave(TOPIC, (id_of(message(7)),)),))
    lab.publish(1, message(7))
    lab.advance(10)
    assert lab.told(PromisesBroken) == []


def test_a_promise_is_not_kept_by_leaving() -> None:
    lab = Lab(SCORED)
    lab.connect(1, 2)
    lab.control(1, ihave=(IHave(TOPIC, (b"new",)),))
    lab.control(2, ihave=(IHave(TOPIC, (b"new",)),))
    lab.machine._state.scores.penalize(peer_id(1), 1)
    lab.disconnect(1)
    lab.now += 0.5
    lab.connect(3)
    lab.control(3, ihave=(IHave(TOPIC, (b"new",)),))
    lab.advance(2.7)
    assert {event.peer for event in lab.told(PromisesBroken)} == {peer_id(1), peer_id(2)}
    lab.advance(2)
    assert {event.peer for event in lab.told(PromisesBroken)} == {peer_id(1), peer_id(2), peer_id(3)}
    assert lab.machine.score(peer_id(1)) == -4


def test_large_messages_are_declined_at_once_to_the_mesh_but_their_sender_and_old_peers() -> None:
    lab = Lab(verify=None)
    lab.connect(1, 2)
    lab.connect(3, protocol=PROTOCOL_1_1)
    effects = lab.publish(1, message(1, size=1024), message(2, size=1023), message(3, size=5000))
    assert idontwants(effects, 2) == [id_of(message(1)), id_of(message(3))]
    assert idontwants(effects) == idontwants(effects, 2)
    assert idontwants(lab.publish(2, message(1, size=1024))) == []


def test_many_declined_messages_are_told_ten_at_a_time() -> None:
    lab = Lab()
    lab.connect(1, 2)
    effects = lab.publish(1, *(message(number, size=2000) for number in range(25)))
    assert [len(control.idontwant) for control in controls(effects, 2)] == [10, 10, 5]


def test_a_declined_message_is_neither_forwarded_nor_given_on_request() -> None:
    lab = Lab()
    lab.connect(1, 2, 3)
    lab.control(2, idontwant=(id_of(message(1)),))
    assert receivers(lab.publish(1, message(1))) == {3}
    assert lab.control(2, iwant=(id_of(message(1)),)) == []
    assert receivers(lab.publish(1, message(2))) == {2, 3}


def test_a_decline_lasts_three_heartbeats() -> None:
    lab = Lab()
    lab.connect(1, 2)
    for number in (1, 2):
        lab.control(2, idontwant=(id_of(message(number)),))
    lab.beat(2)
    lab.control(2, idontwant=(id_of(message(1)), id_of(message(3))))
    assert receivers(lab.publish(1, message(1))) == set()
    lab.beat()
    assert receivers(lab.publish(1, message(2))) == {2}
    assert receivers(lab.publish(1, message(3))) == set()
    lab.beat(2)
    assert lab.machine._gossip._unwanted_count == 0


def test_declines_of_a_peer_are_forgotten_with_it() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.control(2, idontwant=(b"a", b"b"))
    assert lab.machine._gossip._unwanted_count == 2
    lab.disconnect(2)
    assert lab.machine._gossip._unwanted_count == 0


def test_publishing_without_being_in_the_topic_uses_the_same_peers_each_time() -> None:
    lab = Lab(subscribe=False)
    lab.connect(*range(1, 21))
    first = publish(lab)
    assert len(first) == 6
    assert publish(lab) == publish(lab) == first
    lab.advance(59)
    assert publish(lab) == first
    gone = min(first)
    lab.disconnect(gone)
    lab.rpc(max(first), Rpc(subscriptions=((False, TOPIC),)))
    lab.beat()
    renewed = publish(lab)
    assert len(renewed) == 6
    assert first - {gone, max(first)} < renewed


def publish(lab: Lab) -> set[int]:
    lab.machine.publish(TOPIC, b"data", lab.now)
    return receivers(lab.drain())


def test_a_fanout_is_forgotten_a_minute_after_the_last_message() -> None:
    lab = Lab(subscribe=False)
    lab.connect(*range(1, 21))
    publish(lab)
    assert len(list(lab.machine._fanout)) == 1
    lab.advance(62)
    assert list(lab.machine._fanout) == []


def test_a_fanout_becomes_the_mesh_when_we_join() -> None:
    lab = Lab(subscribe=False)
    lab.connect(*range(1, 21))
    first = publish(lab)
    lab.machine.subscribe(TOPIC, lab.now)
    lab.drain()
    assert lab.mesh() == first
    assert list(lab.machine._fanout) == []


def test_a_fanout_has_no_peers_below_the_publish_threshold_and_gossips_to_the_others() -> None:
    opinion = {peer_id(number): 0.0 for number in range(1, 21)}
    lab = Lab(SCORED, subscribe=False, application_score=opinion.__getitem__)
    lab.connect(*range(1, 21))
    first = publish(lab)
    opinion[peer_id(min(first))] = -600.0
    effects = lab.advance(1.5)
    assert min(first) not in publish(lab)
    assert ihaves(effects)


def test_a_fanout_peer_whose_score_is_negative_is_not_taken_into_the_mesh() -> None:
    opinion = {peer_id(number): 0.0 for number in range(1, 4)}
    lab = Lab(SCORED, subscribe=False, application_score=opinion.__getitem__)
    lab.connect(1, 2, 3)
    assert publish(lab) == {1, 2, 3}
    opinion[peer_id(1)] = -1.0
    lab.advance(1.5)
    lab.machine.subscribe(TOPIC, lab.now)
    lab.drain()
    assert lab.mesh() == {2, 3}


def test_nobody_in_the_topic_means_no_fanout() -> None:
    lab = Lab(subscribe=False)
    assert publish(lab) == set()
    assert list(lab.machine._fanout) == []


def test_fanouts_are_bounded_in_number() -> None:
    lab = Lab(GossipsubParams(fanout_max=5), subscribe=False)
    lab.connect(1, topics=[f"topic {number}" for number in range(20)])
    for number in range(20):
        lab.machine.publish(f"topic {number}", b"data", lab.now)
    assert [topic for topic, _ in lab.machine._fanout] == [f"topic {number}" for number in range(15, 20)]


def test_flood_publishing_reaches_all_whose_score_allows_it() -> None:
    opinion = {peer_id(9): -600.0}
    params = GossipsubParams(flood_publish=True, score=STRICT_SCORES)
    lab = Lab(params, application_score=lambda peer: opinion.get(peer, 0.0))
    lab.connect(*range(1, 21))
    assert publish(lab) == {*range(1, 21)} - {9}
    assert receivers(lab.publish(1, message(1))) == lab.mesh() - {1}


def test_messages_go_to_the_mesh_and_to_floodsub_and_direct_peers() -> None:
    opinion = {peer_id(31): -600.0}
    lab = Lab(SCORED, direct={peer_id(40): ()}, application_score=lambda peer: opinion.get(peer, 0.0))
    lab.connect(*range(1, 11))
    lab.connect(30, 31, protocol=PROTOCOL_FLOODSUB)
    lab.connect(40)
    lab.connect(41, topics=())
    lab.connect(42, protocol=PROTOCOL_1_0)
    assert 40 not in lab.mesh()
    sender = min(lab.mesh())
    assert receivers(lab.publish(sender, message(1))) == (lab.mesh() | {30, 40}) - {sender}


def test_a_message_goes_neither_back_nor_to_its_author() -> None:
    lab = Lab()
    lab.connect(1, 2, 3)
    assert receivers(lab.publish(1, message(1, author=2))) == {3}


def test_a_mesh_member_that_never_subscribed_gets_messages() -> None:
    lab = Lab()
    lab.connect(1)
    lab.connect(2, topics=())
    lab.graft(2)
    assert receivers(lab.publish(1, message(1))) == {2}
    lab.control(2, prune=(Prune(TOPIC),))
    assert receivers(lab.publish(1, message(2))) == set()


def test_who_has_slept_tells_nothing_of_what_was_before_and_blames_nobody_for_it() -> None:
    """After two minutes what we tell of is new to others: messages of yesterday would be delivered again."""
    lab = Lab()
    lab.connect(1)
    lab.connect(2)
    number = lab.machine._seqno
    lab.machine.publish(TOPIC, b"yesterday", lab.now)
    assert len(lab.machine._cache) == 1
    lab.machine.woken(10**18)
    assert len(lab.machine._cache) == 0 and lab.machine._cache.size == 0
    assert lab.machine._seqno == 10**18 > number
    lab.machine.woken(5)
    assert lab.machine._seqno == 10**18
    lab.machine.publish(TOPIC, b"today", lab.now)
    assert len(lab.machine._cache) == 1
