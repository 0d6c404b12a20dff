"""The score of a peer, part by part, after go-libp2p-pubsub's score_test.go."""

import pytest

from stack.gossipsub.params import PeerScoreParams, TopicScoreParams
from stack.gossipsub.scoring import PeerScores
from tests.gossipsub.lab import peer_id

A, B = peer_id(1), peer_id(2)
QUIET = {
    "topic_weight": 1.0,
    "time_in_mesh_weight": 0.0,
    "first_message_deliveries_weight": 0.0,
    "invalid_message_deliveries_weight": 0.0,
}


def scores(topic: TopicScoreParams | None = None, **params: object) -> PeerScores:
    params.setdefault("topic_score_cap", 0.0)
    other = topic if topic is not None else TopicScoreParams(**QUIET)
    return PeerScores(PeerScoreParams(other_topics=other, **params))  # type: ignore[arg-type]


def topic(**params: float) -> TopicScoreParams:
    return TopicScoreParams(**{**QUIET, **params})


def test_without_parameters_every_score_is_0_and_nobody_is_kept() -> None:
    judge = PeerScores(None)
    stats = judge.connected(A, "10.0.0.1")
    judge.grafted(stats, "t", 0)
    judge.delivered_first(stats, "t")
    judge.delivered_again(stats, "t", 0)
    judge.delivered_invalid(stats, "t")
    judge.pruned(stats, "t")
    judge.penalize(A, 5)
    judge.decay(1)
    assert judge.score(A, stats) == 0
    judge.disconnected(A, 1)
    assert len(judge) == 0


def test_p1_time_in_mesh_counts_in_quanta_up_to_its_cap() -> None:
    judge = scores(topic(time_in_mesh_weight=0.5, time_in_mesh_quantum=2, time_in_mesh_cap=10))
    stats = judge.connected(A, None)
    assert judge.score(A, stats) == 0
    judge.grafted(stats, "t", 0)
    judge.decay(5)
    assert judge.score(A, stats) == 0.5 * 2
    judge.decay(1000)
    assert judge.score(A, stats) == 0.5 * 10
    judge.pruned(stats, "t")
    assert judge.score(A, stats) == 0


def test_p2_first_deliveries_count_up_to_their_cap_and_decay() -> None:
    judge = scores(
        topic(
            first_message_deliveries_weight=2,
            first_message_deliveries_cap=50,
            first_message_deliveries_decay=0.9,
        )
    )
    stats = judge.connected(A, None)
    for _ in range(100):
        judge.delivered_first(stats, "t")
    assert judge.score(A, stats) == 100
    judge.decay(1)
    assert judge.score(A, stats) == pytest.approx(90)
    for second in range(200):
        judge.decay(second)
    assert judge.score(A, stats) == 0


P3 = {
    "mesh_message_deliveries_weight": -1.0,
    "mesh_message_deliveries_threshold": 20.0,
    "mesh_message_deliveries_cap": 100.0,
    "mesh_message_deliveries_window": 0.01,
    "mesh_message_deliveries_activation": 10.0,
    "mesh_message_deliveries_decay": 0.9,
}


def test_p3_a_deficit_counts_only_after_the_activation_time() -> None:
    judge = scores(topic(**P3))
    stats = judge.connected(A, None)
    judge.grafted(stats, "t", 0)
    judge.decay(10)
    assert judge.score(A, stats) == 0
    judge.decay(11)
    assert judge.score(A, stats) == -400


def test_p3_first_and_near_first_deliveries_of_mesh_members_fill_the_counter() -> None:
    judge = scores(topic(**P3))
    stats, other = judge.connected(A, None), judge.connected(B, None)
    for judged in (stats, other):
        judge.grafted(judged, "t", 0)
        judge.decay(11)
    for _ in range(40):
        judge.delivered_first(stats, "t")
        judge.delivered_again(other, "t", 0.005)
        judge.delivered_again(other, "t", 0.05)
    assert judge.score(A, stats) == judge.score(B, other) == 0
    for _ in range(10):
        judge.decay(12)
    assert judge.score(A, stats) == pytest.approx(-((20 - 40 * 0.9**10) ** 2))
    for _ in range(300):
        judge.delivered_first(stats, "t")
        judge.delivered_again(other, "t", 0)
    assert stats.topics["t"].mesh_deliveries == other.topics["t"].mesh_deliveries == 100


def test_p3_deliveries_outside_the_mesh_do_not_count() -> None:
    judge = scores(topic(**P3))
    stats = judge.connected(A, None)
    judge.delivered_first(stats, "t")
    judge.delivered_again(stats, "t", 0)
    assert stats.topics["t"].mesh_deliveries == 0


def test_p3b_a_deficit_at_the_time_of_pruning_sticks_and_decays() -> None:
    judge = scores(topic(**P3, mesh_failure_penalty_weight=-1, mesh_failure_penalty_decay=0.5))
    stats = judge.connected(A, None)
    judge.grafted(stats, "t", 0)
    judge.decay(11)
    judge.pruned(stats, "t")
    assert judge.score(A, stats) == -400
    judge.decay(12)
    assert judge.score(A, stats) == -200
    for _ in range(20):
        judge.decay(13)
    assert judge.score(A, stats) == 0


def test_p3b_leaving_the_mesh_before_the_activation_costs_nothing() -> None:
    judge = scores(topic(**P3, mesh_failure_penalty_weight=-1))
    stats = judge.connected(A, None)
    judge.grafted(stats, "t", 0)
    judge.decay(5)
    judge.pruned(stats, "t")
    assert judge.score(A, stats) == 0


def test_p4_invalid_messages_count_squared_and_decay() -> None:
    judge = scores(topic(invalid_message_deliveries_weight=-1, invalid_message_deliveries_decay=0.9))
    stats = judge.connected(A, None)
    for _ in range(10):
        judge.delivered_invalid(stats, "t")
    assert judge.score(A, stats) == -100
    judge.decay(1)
    assert judge.score(A, stats) == pytest.approx(-81)
    for _ in range(100):
        judge.decay(2)
    assert judge.score(A, stats) == 0


def test_p5_the_applications_score_is_weighed_and_asked_again_at_each_decay() -> None:
    opinion = {A: 10.0}
    judge = PeerScores(PeerScoreParams(app_specific_weight=0.5), lambda peer: opinion[peer])
    stats = judge.connected(A, None)
    assert judge.score(A, stats) == 5
    opinion[A] = -100
    judge.decay(1)
    assert judge.score(A, stats) == -50


def test_p6_peers_of_one_place_over_the_threshold_cost_squared() -> None:
    judge = scores(ip_colocation_factor_weight=-1, ip_colocation_factor_threshold=2)
    all_stats = [judge.connected(peer_id(number), "10.0.0.1") for number in range(4)]
    elsewhere = judge.connected(peer_id(9), "10.0.0.2")
    nowhere = judge.connected(peer_id(10), None)
    assert [judge.score(peer_id(number), stats) for number, stats in enumerate(all_stats)] == [-4] * 4
    assert judge.score(peer_id(9), elsewhere) == judge.score(peer_id(10), nowhere) == 0


def test_p6_a_peer_that_comes_back_from_elsewhere_leaves_its_old_place() -> None:
    judge = scores(ip_colocation_factor_weight=-1, ip_colocation_factor_threshold=1)
    judge.connected(A, "10.0.0.1")
    other = judge.connected(B, "10.0.0.1")
    assert judge.score(B, other) == -1
    judge.disconnected(A, 0)
    assert judge.score(B, other) == -1
    judge.connected(A, "10.0.0.2")
    assert judge.score(B, other) == 0


def test_p7_penalties_over_the_threshold_count_squared_and_decay() -> None:
    judge = scores(behaviour_penalty_weight=-1, behaviour_penalty_threshold=2, behaviour_penalty_decay=0.5)
    stats = judge.connected(A, None)
    judge.penalize(A, 2)
    assert judge.score(A, stats) == 0
    judge.penalize(A, 4)
    assert judge.score(A, stats) == -16
    judge.decay(1)
    assert judge.score(A, stats) == -1
    judge.penalize(B, 4)
    for _ in range(20):
        judge.decay(2)
    assert stats.behaviour_penalty == 0


def test_topics_together_add_at_most_the_cap_and_take_as_much_as_they_will() -> None:
    judge = scores(
        topic(
            first_message_deliveries_weight=10, invalid_message_deliveries_weight=-1, first_message_deliveries_cap=500
        ),
        topic_score_cap=50.0,
    )
    stats = judge.connected(A, None)
    for _ in range(10):
        judge.delivered_first(stats, "t")
    assert judge.score(A, stats) == 50
    for _ in range(30):
        judge.delivered_invalid(stats, "u")
    assert judge.score(A, stats) == 100 - 900


def test_topics_that_are_not_scored_do_not_count() -> None:
    judge = PeerScores(PeerScoreParams(other_topics=None))
    stats = judge.connected(A, None)
    judge.grafted(stats, "t", 0)
    judge.delivered_first(stats, "t")
    judge.delivered_again(stats, "t", 0)
    judge.delivered_invalid(stats, "t")
    judge.pruned(stats, "t")
    assert stats.topics == {}


def test_a_good_score_goes_with_the_peer() -> None:
    judge = scores(topic(first_message_deliveries_weight=1))
    stats = judge.connected(A, "10.0.0.1")
    judge.delivered_first(stats, "t")
    judge.disconnected(A, 0)
    assert judge.stats(A) is None


def test_a_bad_score_is_kept_does_not_decay_and_is_found_again() -> None:
    judge = scores(topic(invalid_message_deliveries_weight=-1, first_message_deliveries_weight=1), retain_score=100)
    stats = judge.connected(A, None)
    judge.delivered_first(stats, "t")
    for _ in range(3):
        judge.delivered_invalid(stats, "t")
    judge.disconnected(A, 0)
    assert judge.score(A, stats) == -9
    for second in range(99):
        judge.decay(second)
    assert judge.connected(A, None) is stats
    assert judge.score(A, stats) == -9


def test_a_bad_score_is_forgotten_after_its_time_and_its_place_too() -> None:
    judge = scores(behaviour_penalty_weight=-1, behaviour_penalty_threshold=0, retain_score=100)
    judge.connected(A, "10.0.0.1")
    judge.penalize(A, 1)
    judge.disconnected(A, 0)
    judge.decay(99)
    assert len(judge) == 1
    judge.decay(100)
    assert len(judge) == 0
    judge.disconnected(A, 101)


def test_offences_below_the_threshold_are_kept_too() -> None:
    judge = scores(behaviour_penalty_weight=-1, behaviour_penalty_threshold=5)
    judge.connected(A, None)
    judge.penalize(A, 5)
    judge.disconnected(A, 0)
    assert judge.stats(A) is not None
    clean = judge.connected(B, None)
    judge.grafted(clean, "t", 0)
    judge.disconnected(B, 0)
    assert judge.stats(B) is None


def test_leaving_while_delivering_too_little_is_a_failure_that_sticks() -> None:
    judge = scores(topic(**P3, mesh_failure_penalty_weight=-1))
    stats = judge.connected(A, None)
    judge.grafted(stats, "t", 0)
    judge.decay(11)
    judge.disconnected(A, 12)
    assert judge.score(A, stats) == -400


def test_scores_of_peers_that_are_gone_are_kept_in_a_bounded_number() -> None:
    judge = scores(behaviour_penalty_weight=-1, behaviour_penalty_threshold=0, retained_max=10)
    for number in range(50):
        judge.connected(peer_id(number), "10.0.0.1")
        judge.penalize(peer_id(number), 1)
        judge.disconnected(peer_id(number), 0)
    assert len(judge) == 10
    assert judge.stats(peer_id(49)) is not None
