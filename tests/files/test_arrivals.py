"""What is progress, and what is not."""

from stack.files.arrivals import Arrivals
from tests.files.reports import report


def test_what_came_of_one_and_was_taken_back_hides_nothing_of_another() -> None:
    """A peer that begins blocks and breaks off raised the mark that an honest one over a slow line had to pass."""
    arrivals = Arrivals()
    arrivals.look([report(1), report(2)])
    assert arrivals.look([report(1, arriving=1000), report(2)])
    assert not arrivals.look([report(1), report(2)])
    for part in (10, 20, 30):
        assert arrivals.look([report(1), report(2, arriving=part)])
        assert not arrivals.look([report(1, arriving=900), report(2, arriving=part)])
    assert arrivals.look([report(1, arriving=1001), report(2, arriving=30)])


def test_whatever_is_kept_is_progress_and_all_begin_anew_from_there() -> None:
    arrivals = Arrivals()
    arrivals.look([report(1, arriving=500), report(2, arriving=500)], 0)
    assert arrivals.look([report(1, whole=500), report(2, arriving=500)], 0)
    assert arrivals.look([report(1, whole=500, arriving=10), report(2, arriving=500)], 0)
    assert not arrivals.look([report(1, whole=500, arriving=10), report(2, arriving=400)], 0)
    assert arrivals.look([report(1, whole=500, arriving=10), report(2, arriving=400)], 1)
    assert arrivals.look([report(1, whole=500, arriving=10), report(2, arriving=401)], 1)
