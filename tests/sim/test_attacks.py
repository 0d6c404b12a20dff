"""A35: the attacks of gossipsub's published evaluation, on 200 nodes of which 160 are sybils."""

import pytest

from tests.sim.scenarios.attacks import FLOODING, Attack, attack


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", [Attack.SYBIL, Attack.ECLIPSE, Attack.COLD_BOOT])
def test_A35_mute_sybils_do_not_keep_honest_messages_from_honest_nodes(kind: Attack, seed: int) -> None:
    result = attack(kind, honest=40, seed=seed, warm=8, seconds=10)
    assert result.kept >= 0.99, result.reach
    assert all(part == 1.0 for part in result.target_reach)


def test_A35_covert_sybils_that_fall_mute_all_at_once_do_not_silence_a_network() -> None:
    result = attack(Attack.COVERT_FLASH, honest=40, seed=1, warm=15, seconds=25)
    assert result.kept >= 0.99, result.reach
    # And they get out of the meshes.
    assert result.in_mesh[-1][1] < result.in_mesh[0][1] / 2


@pytest.mark.parametrize("kind", FLOODING)
def test_A35_A40_floods_of_sybils_do_not_drown_honest_messages(kind: Attack) -> None:
    result = attack(kind, honest=40, seed=1, ratio=1, warm=5, seconds=10)
    assert result.kept >= 0.99, result.reach
