"""Who has not answered yet: how long it is waited for."""

import pytest

from stack.streams.signs import LEAST_BYTES_PER_SECOND, Patience, Signs

ENOUGH = 10 * LEAST_BYTES_PER_SECOND


@pytest.mark.parametrize(("heard", "arrived"), [(ENOUGH, 0), (0, ENOUGH), (ENOUGH // 2, ENOUGH // 2)])
def test_patience_goes_on_while_the_line_is_busy_whichever_way(heard: int, arrived: int) -> None:
    now = Signs(0.0)
    patience = Patience(lambda: now, 10.0, 100.0)
    assert patience.until == 110.0
    for turn in range(1, 4):
        now = Signs(0.0, 10**9, arrived * turn, heard * turn)
        patience.look(100.0 + 10 * turn)
        assert patience.until == 110.0 + 10 * turn
    with pytest.raises(TimeoutError):
        patience.look(140.0)


def test_a_byte_now_and_then_is_no_reason_to_wait_on() -> None:
    now = Signs(5.0)
    patience = Patience(lambda: now, 10.0, 0.0)
    now = Signs(10.0, ENOUGH, ENOUGH // 2, ENOUGH // 2 - 1)
    with pytest.raises(TimeoutError):
        patience.look(10.0)
