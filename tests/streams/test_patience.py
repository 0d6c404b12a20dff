"""A limit that moves while the line does."""

import anyio
import pytest

from stack.streams.patience import patient
from stack.streams.signs import LEAST_BYTES_PER_SECOND, Signs

pytestmark = pytest.mark.anyio


class Busy:
    """A stream on whose connection so many bytes come in a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    @property
    def signs(self) -> Signs:
        now = anyio.current_time()
        return Signs(now, heard=int(now * self._rate))


async def seconds_of(stream: object, seconds: float, most: float) -> float:
    begun = anyio.current_time()
    with pytest.raises(TimeoutError):
        async with patient(stream, seconds, most):  # type: ignore[arg-type] # it is asked for its signs only
            await anyio.sleep_forever()
    return anyio.current_time() - begun


@pytest.mark.parametrize("stream", [object(), Busy(0), Busy(LEAST_BYTES_PER_SECOND / 2)])
async def test_who_says_nothing_or_a_byte_now_and_then_has_had_its_time(stream: object) -> None:
    assert 0.1 <= await seconds_of(stream, 0.1, 5.0) < 1.0


async def test_however_much_moves_there_is_an_end() -> None:
    assert 0.5 <= await seconds_of(Busy(10**6), 0.1, 0.5) < 2.0


async def test_it_goes_on_while_something_moves_and_gives_what_comes_of_it() -> None:
    async def answer() -> int:
        async with patient(Busy(10**6), 0.05):  # type: ignore[arg-type] # as above
            await anyio.sleep(0.3)
            return 7

    assert await answer() == 7


async def test_what_goes_wrong_inside_comes_out_as_it_is() -> None:
    with pytest.raises(anyio.EndOfStream):
        async with patient(object(), 1.0):  # type: ignore[arg-type] # as above
            raise anyio.EndOfStream
    with anyio.move_on_after(0.05) as scope:
        async with patient(object(), 1.0):  # type: ignore[arg-type] # as above
            await anyio.sleep_forever()
    assert scope.cancelled_caught
