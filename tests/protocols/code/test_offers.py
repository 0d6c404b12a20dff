"""For how long, how often and for whom a code is good."""

from hypothesis import given
from hypothesis import strategies as st

from stack.protocols.code.offers import TRIES, Ending, Offer


def test_ten_thousand_guesses_are_three_and_get_nothing() -> None:
    offer = Offer(60.0)
    begun = 0
    for guess in range(10_000):
        if offer.begin(guess / 1000):
            begun += 1
            offer.fail()
    assert begun == TRIES and offer.ending is Ending.TRIES and not offer.take(1.0)


def test_tries_that_come_together_are_no_more_than_those_that_come_one_by_one() -> None:
    offer = Offer(60.0)
    assert [offer.begin(0.0) for _ in range(10_000)].count(True) == TRIES
    for _ in range(TRIES):
        assert offer.ending is None
        offer.fail()
    assert offer.ending is Ending.TRIES


def test_who_types_it_rightly_at_the_third_try_gets_it() -> None:
    offer = Offer(60.0)
    for _ in range(2):
        assert offer.begin(0.0)
        offer.fail()
    assert offer.begin(0.0) and offer.left == 0
    assert offer.take(0.0) and offer.ending is Ending.USED


def test_of_two_who_type_it_rightly_the_first_gets_it() -> None:
    offer = Offer(60.0)
    assert offer.begin(0.0) and offer.begin(0.0)
    assert offer.take(1.0) and not offer.take(1.0)
    assert not offer.begin(2.0)


def test_after_its_time_nobody_gets_it_also_who_began_before() -> None:
    offer = Offer(60.0)
    assert offer.begin(59.9)
    assert not offer.take(60.0) and offer.ending is Ending.TIME
    assert not offer.begin(60.0)


def test_a_code_that_is_withdrawn_gives_nothing_to_a_try_under_way() -> None:
    offer = Offer(60.0)
    assert offer.begin(0.0)
    offer.withdraw()
    assert not offer.take(0.0) and repr(offer) == "<Offer Ending.WITHDRAWN, 2 tries left>"


@given(st.lists(st.tuples(st.sampled_from(["begin", "take", "fail", "withdraw"]), st.floats(0, 2)), max_size=30))
def test_whatever_happens_one_at_most_gets_it_and_three_at_most_try(steps: list[tuple[str, float]]) -> None:
    offer, now = Offer(10.0), 0.0
    begun = ended = taken = 0
    for step, passed in steps:
        now += passed
        if step == "begin":
            begun += offer.begin(now)
        elif step == "withdraw":
            offer.withdraw()
        elif ended < begun:
            ended += 1
            if step == "fail":
                offer.fail()
            else:
                taken += offer.take(now)
    assert taken <= 1 and begun <= TRIES and begun + offer.left == TRIES
    assert not taken or offer.ending is Ending.USED
