"""At which relays a node has a place."""

from stack.protocols.relay.keeping import (
    CANDIDATES_MAX,
    LOST_SECONDS,
    PAUSE_SECONDS,
    PAUSE_SECONDS_MAX,
    RENEW_SECONDS_MIN,
    Relays,
    renew_after,
    time_left,
)

LATENCY = {"near": 0.02, "far": 0.3, "other": 0.1, "new": None}


def relays(*names: str, wanted: int = 2) -> "Relays[str]":
    made: Relays[str] = Relays(wanted)
    for name in names:
        made.offered(name)
    return made


def asked(relays: "Relays[str]", now: float = 0.0) -> str | None:
    return relays.next_relay(now, LATENCY.__getitem__)


def test_the_nearest_is_asked_first_and_no_more_than_are_wanted() -> None:
    book = relays("far", "new", "near", "other")
    assert asked(book) == "near"
    book.placed("near")
    assert asked(book) == "other"
    book.placed("other")
    assert asked(book) is None
    assert book.next_timeout() is None
    assert repr(book) == "<Relays: 2 of 4>"


def test_who_had_no_place_is_asked_later_and_after_others() -> None:
    book = relays("near", "other", "far")
    book.failed("near", 0.0)
    assert asked(book) == "other"
    assert book.next_timeout() == PAUSE_SECONDS
    book.failed("other", 0.0)
    book.failed("other", PAUSE_SECONDS)
    assert asked(book, PAUSE_SECONDS) == "near"
    assert asked(book, 1000.0) == "near"
    book.failed("near", 1000.0)
    book.failed("near", 1000.0)
    assert asked(book, 1001.0) == "far"
    for _ in range(20):
        book.failed("far", 2000.0)
    assert asked(book, 2000.0 + PAUSE_SECONDS_MAX) == "other"


def test_one_that_is_lost_is_asked_again_after_a_pause() -> None:
    book = relays("near", wanted=1)
    book.placed("near")
    book.lost("near", 10.0)
    assert asked(book, 10.0) is None
    assert asked(book, 10.0 + LOST_SECONDS) == "near"


def test_one_that_has_gone_is_not_asked() -> None:
    book = relays("near")
    book.placed("near")
    book.gone("near")
    book.gone("near")
    book.failed("near", 0.0)
    assert asked(book) is None
    assert book.next_timeout() is None


def test_one_that_has_gone_and_took_its_place_along_is_not_waited_for() -> None:
    """Its rest was over at once, and over again: the duty that asks went round without end."""
    book = relays("near", "far")
    book.placed("near")
    book.gone("near")
    book.lost("near", 0.0)
    book.placed("near")
    assert asked(book, 10.0) == "far"
    book.failed("far", 10.0)
    assert book.next_timeout() == 10.0 + PAUSE_SECONDS
    assert repr(book) == "<Relays: 0 of 1>"


def test_so_many_are_remembered_at_the_most() -> None:
    book = relays(*(f"r{number}" for number in range(CANDIDATES_MAX + 5)))
    assert repr(book) == f"<Relays: 0 of {CANDIDATES_MAX}>"
    book.offered("r0")


def test_a_place_is_renewed_in_time_whatever_a_relay_says() -> None:
    assert renew_after(3600.0) == 2400.0
    assert renew_after(-5.0) == RENEW_SECONDS_MIN
    assert renew_after(1e12) == 2400.0


def test_finding_17_a_place_lasts_an_hour_where_the_clocks_do_not_agree() -> None:
    """With a clock that stood in the past, a place was to be renewed after a day, and gone after an hour."""
    assert time_left(5000, 4000.0) == 1000.0
    assert time_left(5000, 9000.0) == 3600.0
    assert renew_after(time_left(2_000_000_000, 0.0)) == 2400.0
    assert time_left(2_000_000_000, 2_000_000_000 - 365 * 86_400.0) == 3600.0, (
        "a relay that refuses is told to others no longer"
    )
    assert time_left(5000 + 7200, 5000.0) == 7200.0
