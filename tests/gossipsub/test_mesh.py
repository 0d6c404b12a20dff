"""Meshes: joining, grafting, pruning, upkeep. After go-libp2p-pubsub's gossipsub_test.go."""

import pytest

from stack.gossipsub.events import (
    ControlIgnored,
    Grafted,
    IgnoreReason,
    PromisesBroken,
    Protect,
    Pruned,
    PruneReason,
)
from stack.gossipsub.messages import PROTOCOL_1_0, PROTOCOL_1_1, PROTOCOL_FLOODSUB, IHave, Prune, Rpc, encode_rpc
from stack.gossipsub.params import GossipsubParams, MeshSize
from stack.gossipsub.signing import TopicRules
from tests.gossipsub.lab import SCORED, TOPIC, Lab, grafts, of_kind, peer_id, prunes, to


def opinions(scores: dict[int, float]) -> dict[str, object]:
    """Options of a lab whose peers have these scores."""
    by_peer = {peer_id(number): score for number, score in scores.items()}
    return {"application_score": lambda peer: by_peer.get(peer, 0.0)}


def test_joining_grafts_d_peers_and_no_floodsub_peers() -> None:
    lab = Lab(subscribe=False)
    lab.connect(*range(1, 21))
    lab.connect(*range(21, 41), protocol=PROTOCOL_FLOODSUB)
    lab.machine.subscribe(TOPIC, 0)
    effects = lab.drain()
    assert len(lab.mesh()) == 6
    assert lab.mesh() <= set(range(1, 21))
    for number in range(1, 41):
        told = to(effects, number)
        assert told[0] == Rpc(subscriptions=((True, TOPIC),))
        assert grafts(effects, number) == ([TOPIC] if number in lab.mesh() else [])
    assert len(lab.told(Grafted)) == 6


def test_peers_of_all_versions_of_gossipsub_are_grafted() -> None:
    lab = Lab()
    lab.connect(1)
    lab.connect(2, protocol=PROTOCOL_1_1)
    lab.connect(3, protocol=PROTOCOL_1_0)
    assert lab.mesh() == {1, 2, 3}


def test_a_small_mesh_takes_a_subscriber_at_once_and_a_sufficient_one_does_not() -> None:
    lab = Lab()
    lab.connect(*range(1, 10))
    assert len(lab.mesh()) == 5
    lab.connect(50, topics=["other"])
    assert 50 not in lab.mesh()


def test_leaving_prunes_all_with_the_short_back_off() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.machine.unsubscribe(TOPIC, 0)
    effects = lab.drain()
    assert prunes(effects, 1) == prunes(effects, 2) == [Prune(TOPIC, (), 10)]
    assert to(effects, 1)[0] == Rpc(subscriptions=((False, TOPIC),))
    assert lab.machine.mesh(TOPIC) == ()
    assert {event.reason for event in lab.told(Pruned)} == {PruneReason.LEFT_TOPIC}
    assert of_kind(effects, Protect) == [Protect(peer_id(1), False), Protect(peer_id(2), False)]


def test_coming_back_too_early_grafts_nobody_who_was_pruned() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.machine.unsubscribe(TOPIC, 0)
    lab.machine.subscribe(TOPIC, 0)
    lab.drain()
    assert lab.mesh() == set()
    lab.advance(11)
    assert lab.mesh() == set()
    lab.advance(3)
    assert lab.mesh() == {1, 2}


def test_mesh_members_are_protected_from_the_first_mesh_to_the_last() -> None:
    lab = Lab()
    lab.machine.subscribe("other", 0)
    effects = lab.drain()
    lab.connect(1, topics=[TOPIC, "other"])
    lab.rpc(1, Rpc(subscriptions=((False, TOPIC),)))
    lab.rpc(1, Rpc(subscriptions=((False, "other"),)))
    effects = of_kind(lab.effects, Protect)
    assert effects == [Protect(peer_id(1), True), Protect(peer_id(1), False)]
    lab.connect(2)
    lab.disconnect(2)
    assert of_kind(lab.effects, Protect)[2:] == [Protect(peer_id(2), True), Protect(peer_id(2), False)]


def test_a_peer_that_unsubscribes_or_disconnects_leaves_the_mesh() -> None:
    lab = Lab()
    lab.connect(1, 2)
    lab.rpc(1, Rpc(subscriptions=((False, TOPIC),)))
    lab.disconnect(2)
    assert lab.mesh() == set()
    assert [event.reason for event in lab.told(Pruned)] == [PruneReason.PEER_LEFT_TOPIC, PruneReason.DISCONNECTED]
    lab.connect(1)
    assert lab.mesh() == {1}


def test_a_graft_is_taken_and_not_answered() -> None:
    lab = Lab()
    lab.connect(*range(1, 8))
    outside = ({*range(1, 8)} - lab.mesh()).pop()
    assert lab.control(outside, graft=(TOPIC,)) == [Protect(peer_id(outside), True)]
    assert outside in lab.mesh()
    assert lab.told(Grafted)[-1] == Grafted(peer=peer_id(outside), topic=TOPIC, by_peer=True)
    assert lab.control(outside, graft=(TOPIC, TOPIC)) == []


def test_a_full_mesh_takes_grafts_only_from_peers_that_we_dialled() -> None:
    lab = Lab()
    lab.connect(*range(1, 20))
    lab.graft(*range(1, 20))
    assert len(lab.mesh()) == 12
    outside = ({*range(1, 20)} - lab.mesh()).pop()
    assert prunes(lab.effects, outside) == [Prune(TOPIC, (), 60)]
    assert lab.told(ControlIgnored)[0].reason is IgnoreReason.FULL
    lab.connect(30, outbound=True)
    lab.graft(30)
    assert 30 in lab.mesh()


def test_a_prune_is_obeyed_for_as_long_as_it_says() -> None:
    lab = Lab()
    lab.connect(1)
    lab.control(1, prune=(Prune(TOPIC, (), 20),))
    assert lab.mesh() == set()
    assert lab.told(Pruned)[-1].reason is PruneReason.BY_PEER
    lab.advance(21)
    assert lab.mesh() == set()
    lab.advance(3)
    assert lab.mesh() == {1}


@pytest.mark.parametrize("backoff", [None, 0])
def test_a_prune_without_a_back_off_lasts_a_minute(backoff: int | None) -> None:
    lab = Lab()
    lab.connect(1)
    lab.control(1, prune=(Prune(TOPIC, (), backoff),))
    lab.advance(61)
    assert lab.mesh() == set()
    lab.advance(3)
    assert lab.mesh() == {1}


def test_prunes_of_unknown_topics_and_by_outsiders_change_no_mesh() -> None:
    lab = Lab()
    lab.connect(*range(1, 8))
    outside = ({*range(1, 8)} - lab.mesh()).pop()
    before = lab.mesh()
    lab.control(outside, prune=(Prune("unknown", (), 5), Prune(TOPIC, (), 5)))
    assert lab.mesh() == before


def test_an_oversubscribed_mesh_is_cut_to_d() -> None:
    lab = Lab()
    lab.connect(*range(1, 13))
    lab.graft(*range(1, 13))
    assert len(lab.mesh()) == 12
    effects = lab.beat()
    assert len(lab.mesh()) == 6
    pruned = {number for number in range(1, 13) if prunes(effects, number)}
    assert pruned == {*range(1, 13)} - lab.mesh()
    assert all(prune == Prune(TOPIC, (), 60) for prune in prunes(effects))
    lab.beat(30)
    assert len(lab.mesh()) == 6


def test_a_topic_may_have_a_mesh_of_a_size_of_its_own() -> None:
    lab = Lab(subscribe=False)
    lab.machine.set_rules(TOPIC, TopicRules(mesh=MeshSize(d=4, d_low=3, d_high=6, d_score=2, d_out=1)))
    lab.connect(*range(1, 13))
    lab.machine.subscribe(TOPIC, 0)
    lab.machine.subscribe("other", 0)
    lab.drain()
    assert len(lab.mesh()) == 4
    effects = lab.control(min({*range(1, 13)} - lab.mesh()), graft=(TOPIC,))
    assert not prunes(effects) and len(lab.mesh()) == 5
    lab.graft(*range(1, 13))
    assert len(lab.mesh()) == 6
    lab.beat()
    assert len(lab.mesh()) == 4
    lab.connect(*range(13, 20), topics=["other"])
    assert len(lab.machine.mesh("other")) == 5


def test_a_cut_mesh_keeps_the_best_and_enough_that_we_dialled() -> None:
    scores = {number: float(number) for number in range(1, 13)}
    lab = Lab(SCORED, **opinions(scores))
    lab.connect(*range(3, 13))
    lab.connect(1, 2, outbound=True)
    lab.graft(*range(1, 13))
    lab.beat()
    assert len(lab.mesh()) == 6
    assert {1, 2, 9, 10, 11, 12} == lab.mesh()


def test_a_cut_mesh_changes_nobody_when_enough_are_dialled_by_chance() -> None:
    lab = Lab()
    lab.connect(*range(1, 13), outbound=True)
    lab.graft(*range(1, 13))
    lab.beat()
    assert len(lab.mesh()) == 6


def test_a_mesh_without_enough_peers_that_we_dialled_grafts_some() -> None:
    lab = Lab()
    lab.connect(*range(1, 8))
    lab.graft(*range(1, 8))
    lab.connect(20, 21, 22, outbound=True)
    effects = lab.beat()
    assert len(lab.mesh() & {20, 21, 22}) == 2
    assert sorted(grafts(effects)) == [TOPIC, TOPIC]


def test_a_mesh_member_whose_score_falls_below_0_is_pruned_and_not_grafted_again() -> None:
    by_peer = {peer_id(number): 0.0 for number in range(1, 4)}
    lab = Lab(SCORED, application_score=by_peer.__getitem__)
    lab.connect(1, 2, 3)
    by_peer[peer_id(2)] = -1.0
    effects = lab.advance(1.5)
    assert prunes(effects, 2) == [Prune(TOPIC, (), 60)]
    assert lab.mesh() == {1, 3}
    by_peer[peer_id(2)] = 1.0
    lab.advance(60)
    assert lab.mesh() == {1, 3}
    lab.advance(4)
    assert lab.mesh() == {1, 2, 3}


def test_peers_with_a_negative_score_are_not_grafted() -> None:
    lab = Lab(SCORED, **opinions({1: -1.0, 2: 0.0}))
    lab.connect(1, 2)
    lab.beat(3)
    assert lab.mesh() == {2}


def test_opportunistic_grafting_takes_better_peers_into_a_poor_mesh() -> None:
    scores = {**dict.fromkeys(range(1, 7), 0.5), **dict.fromkeys(range(10, 20), 5.0)}
    lab = Lab(SCORED, **opinions(scores))
    lab.connect(*range(1, 7), outbound=True)
    lab.beat()
    assert lab.mesh() == set(range(1, 6))
    lab.graft(6)
    lab.connect(*range(10, 20))
    lab.beat(58)
    assert lab.mesh() == set(range(1, 7))
    lab.beat()
    assert len(lab.mesh()) == 8
    lab.beat(60)
    assert len(lab.mesh()) == 10


def test_a_mesh_whose_median_is_good_is_left_alone() -> None:
    scores = {**dict.fromkeys(range(1, 7), 1.5), **dict.fromkeys(range(10, 20), 5.0)}
    lab = Lab(SCORED, **opinions(scores))
    lab.connect(*range(1, 7), outbound=True)
    lab.graft(*range(1, 7))
    lab.connect(*range(10, 20))
    lab.beat(61)
    assert lab.mesh() == set(range(1, 7))


def test_a_node_without_a_mesh_prunes_whoever_grafts_it_and_tells_of_others() -> None:
    lab = Lab(GossipsubParams(d=0, d_low=0, d_high=0, d_out=0, d_score=0, do_px=True))
    lab.connect(*range(1, 6))
    effects = lab.control(1, graft=(TOPIC,))
    (prune,) = prunes(effects, 1)
    assert {bytes(peer.peer_id) for peer in prune.peers} == {bytes(peer_id(number)) for number in range(2, 6)}
    lab.connect(9, outbound=True)
    lab.graft(9)
    effects = lab.beat()
    assert len(prunes(effects, 9)[0].peers) == 5


def test_a_peer_that_grafts_during_its_back_off_is_penalized_twice_when_it_is_quick() -> None:
    lab = Lab(SCORED)
    lab.connect(*range(1, 13))
    lab.graft(*range(1, 13))
    lab.beat()
    outside = min({*range(1, 13)} - lab.mesh())
    effects = lab.control(outside, graft=(TOPIC,))
    assert prunes(effects, outside) == [Prune(TOPIC, (), 60)]
    assert lab.machine.score(peer_id(outside)) == -4
    lab.now += 20
    lab.control(outside, graft=(TOPIC,))
    assert lab.machine.score(peer_id(outside)) == -9
    assert {event.reason for event in lab.told(ControlIgnored)} == {IgnoreReason.BACKOFF}


def test_one_rpc_with_the_same_graft_many_times_is_refused_once() -> None:
    lab = Lab(SCORED)
    lab.connect(1)
    lab.control(1, prune=(Prune(TOPIC, (), 60),))
    effects = lab.control(1, graft=(TOPIC,) * 1000)
    assert prunes(effects) == [Prune(TOPIC, (), 60)]


def test_many_prunes_are_cut_into_rpcs_that_everybody_takes() -> None:
    lab = Lab()
    names = [f"{number:03}" + "x" * 500 for number in range(90)]
    for name in names:
        lab.machine.subscribe(name, 0)
    lab.connect(1, topics=names)
    lab.control(1, prune=tuple(Prune(name) for name in names))
    effects = lab.control(1, graft=tuple(names))
    assert len(prunes(effects)) == 90
    assert len(to(effects, 1)) > 1


def test_peers_are_told_what_we_are_in_when_they_connect() -> None:
    lab = Lab()
    lab.machine.subscribe("other", 0)
    lab.drain()
    lab.machine.peer_connected(peer_id(1), PROTOCOL_1_1, False, None, 0, lab.budget)
    assert to(lab.drain(), 1) == [Rpc(subscriptions=((True, TOPIC), (True, "other")))]


def test_many_topics_are_told_in_rpcs_that_everybody_takes() -> None:
    lab = Lab()
    names = [f"{number:03}" + "ü" * 400 for number in range(200)]
    for name in names:
        lab.machine.subscribe(name, 0)
    lab.drain()
    lab.machine.peer_connected(peer_id(1), PROTOCOL_1_1, False, None, 0, lab.budget)
    told = to(lab.drain(), 1)
    assert [topic for rpc in told for _, topic in rpc.subscriptions] == [TOPIC, *names]
    assert len(told) > 1
    assert all(len(encode_rpc(rpc)) <= 64 * 1024 for rpc in told)


def test_broken_promises_are_not_counted_without_scores() -> None:
    lab = Lab()
    lab.connect(1)
    lab.control(1, ihave=(IHave(TOPIC, (b"new",)),))
    lab.advance(10)
    assert lab.told(PromisesBroken) == []
