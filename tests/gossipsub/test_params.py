"""Parameters: the reference's defaults, and what has no meaning is refused."""

import math
from typing import Any

import pytest

from stack.errors import ConfigError
from stack.gossipsub.params import (
    GossipsubParams,
    MeshSize,
    PeerScoreParams,
    PeerScoreThresholds,
    TopicScoreParams,
    score_decay,
)

GO_DEFAULTS = {
    "d": 6,
    "d_low": 5,
    "d_high": 12,
    "d_score": 4,
    "d_out": 2,
    "d_lazy": 6,
    "mcache_len": 5,
    "mcache_gossip": 3,
    "gossip_factor": 0.25,
    "gossip_retransmission": 3,
    "heartbeat_initial_delay": 0.1,
    "heartbeat_interval": 1,
    "fanout_ttl": 60,
    "prune_peers": 16,
    "prune_backoff": 60,
    "unsubscribe_backoff": 10,
    "connectors": 8,
    "max_pending_connections": 128,
    "connection_timeout": 30,
    "direct_connect_ticks": 300,
    "direct_connect_initial_delay": 1,
    "opportunistic_graft_ticks": 60,
    "opportunistic_graft_peers": 2,
    "graft_flood_threshold": 10,
    "max_ihave_length": 5000,
    "max_ihave_messages": 10,
    "max_idontwant_length": 10,
    "max_idontwant_messages": 1000,
    "iwant_followup_time": 3,
    "idontwant_message_threshold": 1024,
    "idontwant_message_ttl": 3,
    "seen_ttl": 120,
    "do_px": False,
    "flood_publish": False,
    "score": None,
}
"""gossipsub.go and pubsub.go of go-libp2p-pubsub v0.19.0."""


@pytest.mark.parametrize("wrong", [{"d_low": 0}, {"d": 7}, {"d_score": 7}, {"d_out": 3}])
def test_the_mesh_of_one_topic_has_the_same_bounds(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        MeshSize(**{"d": 4, "d_low": 3, "d_high": 6, "d_score": 2, "d_out": 1, **wrong})


def test_the_defaults_are_those_of_go() -> None:
    params = GossipsubParams()
    assert {name: getattr(params, name) for name in GO_DEFAULTS} == GO_DEFAULTS


def test_a_node_without_a_mesh_is_allowed() -> None:
    assert GossipsubParams(d=0, d_low=0, d_high=0, d_out=0, do_px=True).d == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"mcache_gossip": 6},
        {"d": 4},
        {"d_high": 5},
        {"d_score": 13},
        {"d_out": 5},
        {"d": 5, "d_out": 3},
        {"gossip_factor": 1.5},
        {"heartbeat_interval": 0},
        {"direct_connect_ticks": 0},
        {"opportunistic_graft_ticks": 0},
        {"prune_backoff": 7200},
        {"unsubscribe_backoff": -1},
        {"rpc_bytes": 100},
    ],
    ids=str,
)
def test_router_parameters_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        GossipsubParams(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic_score_cap": -1},
        {"app_specific_weight": math.nan},
        {"ip_colocation_factor_weight": 1},
        {"ip_colocation_factor_threshold": 0},
        {"behaviour_penalty_weight": 0.1},
        {"behaviour_penalty_threshold": -1},
        {"behaviour_penalty_decay": 1},
        {"decay_interval": 0.5},
        {"decay_to_zero": 0},
        {"retain_score": -1},
    ],
    ids=str,
)
def test_score_parameters_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PeerScoreParams(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic_weight": -1},
        {"time_in_mesh_weight": math.inf},
        {"time_in_mesh_quantum": 0},
        {"time_in_mesh_cap": 0},
        {"first_message_deliveries_weight": -1},
        {"first_message_deliveries_decay": 1},
        {"first_message_deliveries_cap": 0},
        {"mesh_message_deliveries_weight": 1},
        {"mesh_message_deliveries_decay": 0},
        {"mesh_message_deliveries_cap": 0},
        {"mesh_message_deliveries_threshold": 101},
        {"mesh_message_deliveries_window": -1},
        {"mesh_message_deliveries_activation": 0.5},
        {"mesh_failure_penalty_weight": 1},
        {"mesh_failure_penalty_decay": 1},
        {"invalid_message_deliveries_weight": math.nan},
        {"invalid_message_deliveries_decay": 0},
    ],
    ids=str,
)
def test_topic_parameters_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TopicScoreParams(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gossip": 1},
        {"publish": -50},
        {"graylist": -400},
        {"graylist": -math.inf},
        {"accept_px": -1},
        {"opportunistic_graft": math.inf},
    ],
    ids=str,
)
def test_thresholds_out_of_order_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PeerScoreThresholds(**wrong)


def test_a_decay_reaches_zero_in_the_time_it_was_made_for() -> None:
    assert score_decay(100) ** 100 == pytest.approx(0.01)


def test_topics_without_parameters_of_their_own_have_the_common_ones() -> None:
    own = TopicScoreParams(topic_weight=2)
    params = PeerScoreParams(topics={"a": own})
    assert params.of_topic("a") is own
    assert params.of_topic("b") is params.other_topics
    assert PeerScoreParams(other_topics=None).of_topic("b") is None
