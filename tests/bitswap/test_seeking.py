"""When others than those who were named are asked who has a root."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.bitswap.seeking import AGAIN_SECONDS, Seeking
from tests.bitswap.exchanges import nodes, some_blocks
from tests.bitswap.test_service import Judge


def test_nobody_is_asked_while_those_who_were_named_deliver() -> None:
    seeking = Seeking(2.0, 0.0)
    received = 0
    for tick in range(100):
        received += tick % 15 == 0  # a block each 1.5 s
        assert not seeking.look(tick / 10, wanted=True, hopeful=True, received=received)
    assert not seeking.active


def test_others_are_asked_after_two_quiet_seconds_and_at_once_when_nobody_gives_hope() -> None:
    quiet, failed = Seeking(2.0, 0.0), Seeking(2.0, 0.0)
    assert not quiet.look(1.9, wanted=True, hopeful=True, received=0) and not quiet.active
    assert quiet.look(2.0, wanted=True, hopeful=True, received=0) and quiet.active
    assert failed.look(0.1, wanted=True, hopeful=False, received=0) and failed.active


def test_a_maker_that_leaves_in_the_middle_is_noticed_as_one_that_never_was_there() -> None:
    seeking = Seeking(2.0, 0.0)
    assert not seeking.look(60.0, wanted=False, hopeful=True, received=0)
    assert not seeking.look(61.0, wanted=True, hopeful=True, received=5)
    assert seeking.look(63.0, wanted=True, hopeful=True, received=5)


def test_connected_peers_are_asked_again_as_long_as_nothing_comes() -> None:
    seeking = Seeking(0.0, 0.0)
    assert seeking.active
    asked = [at / 10 for at in range(100) if seeking.look(at / 10, wanted=True, hopeful=True, received=0)]
    assert asked == [AGAIN_SECONDS, 2 * AGAIN_SECONDS]
    assert not seeking.look(12.0, wanted=True, hopeful=True, received=1)


Look = tuple[float, bool, bool, int]


@given(
    st.sampled_from([None, 0.0, 2.0]),
    st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.booleans(), st.integers(0, 2)), max_size=50),
)
def test_whatever_happens_nobody_is_asked_without_a_want_nor_more_often_than_agreed(
    patience: float | None, looks: list[Look]
) -> None:
    seeking = Seeking(patience, 0.0)
    now, received, asked = 0.0, 0, []
    for wait, wanted, hopeful, came in looks:
        now, received = now + wait, received + came
        was_active = seeking.active
        if seeking.look(now, wanted=wanted, hopeful=hopeful, received=received):
            assert wanted and patience is not None
            asked.append(now)
        assert seeking.active >= was_active
    assert all(later - earlier >= AGAIN_SECONDS for earlier, later in pairwise(asked))


@pytest.mark.anyio
async def test_who_was_named_and_delivers_is_the_only_one_who_is_asked() -> None:
    blocks = some_blocks(3)
    async with nodes([], blocks) as [here, there]:
        judge = Judge()
        here.exchange.sources.append(judge)
        async with here.exchange.session(blocks[0][0], providers=[there.provider], seek=2.0) as session:
            await session.fetch([cid for cid, _ in blocks])
        assert judge.asked == 0
