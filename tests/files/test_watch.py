"""When a fetch gives up."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from stack.errors import NoProvider, Stalled
from stack.files.events import FetchProgress, WaitingForProvider
from stack.files.watch import BROKEN, BROKEN_OFF, DOUBTED_MAX, NOT_ALL, NOT_SHARED, Patience, _Watcher, obstacle
from tests.files.reports import report
from tests.net.identities import peer


def a_watcher() -> tuple[_Watcher, SimpleNamespace]:
    work = SimpleNamespace(
        progress=SimpleNamespace(done=0, total=1000),
        gatherer=SimpleNamespace(received=0),
        files=0,
        directories=0,
        lost={},
        tell=lambda event: None,
    )
    return _Watcher(work, Patience(stall=20.0), None, lambda peer: None, 0.0), work  # type: ignore[arg-type]


def test_the_beginning_of_a_block_that_comes_again_and_again_is_no_progress() -> None:
    """A sharer whose disk failed was connected to again every two seconds, and `--timeout` never came."""
    watcher, _ = a_watcher()
    for second in range(20):
        watcher.look([report(arriving=50 * (second % 2))], float(second))
    with pytest.raises((NoProvider, Stalled)):
        watcher.look([report(arriving=50)], 21.0)


def test_a_block_that_comes_slowly_is_progress_and_so_is_what_is_kept() -> None:
    watcher, work = a_watcher()
    for second in range(0, 100, 10):
        watcher.look([report(arriving=second)], float(second))
    work.gatherer.received = 100
    watcher.look([report(whole=100)], 109.0)
    watcher.look([report(whole=100, arriving=10)], 128.0)
    with pytest.raises(Stalled):
        watcher.look([report(whole=100, arriving=10)], 148.0)


def test_a_block_that_comes_slowly_is_seen_to_come() -> None:
    """A block of 1 MiB takes ten seconds on a slow line; the screen said 44 bytes a second, and nothing done, until it was whole."""
    watcher, work = a_watcher()
    told: list[FetchProgress] = []
    work.tell = told.append
    watcher.look([report()], 0.0)
    watcher.look([report(arriving=50)], 1.0)
    assert (told[-1].bytes_done, told[-1].arriving, told[-1].rate) == (0, 50, 50.0)
    watcher.look([report()], 1.5)  # who was bringing it has gone
    assert (told[-1].arriving, told[-1].rate) == (0, 0.0)


@pytest.mark.parametrize("said", [{"unproved": True}, {"misses": 1, "denials": 1}], ids=["no proof", "DONT_HAVE"])
def test_a_maker_that_is_there_and_shares_it_no_longer_is_not_waited_for_without_end(said: dict[str, int]) -> None:
    """It said nothing more, was connected, and a fetch waited for it for ever."""
    told: list[WaitingForProvider] = []
    work = SimpleNamespace(
        progress=SimpleNamespace(done=0, total=0),
        gatherer=SimpleNamespace(received=0),
        files=0,
        directories=0,
        lost={},
        tell=told.append,
    )
    watcher = _Watcher(work, Patience(), lambda peer: True, lambda peer: None, 0.0)  # type: ignore[arg-type]
    ended = replace(report(), source="ticket", **said)  # type: ignore[arg-type]
    watcher.look([ended], 1.0)
    assert told[0].reason == NOT_SHARED
    with pytest.raises(NoProvider, match=NOT_SHARED):
        watcher.look([ended], 30.0)
    watcher.look([replace(ended, bytes=1)], 31.0)  # it has brought something, and may bring more


def test_who_has_brought_some_of_it_and_has_not_got_the_rest_is_told() -> None:
    """A file had changed at the sharer: the fetch waited for it, and said nothing."""
    watcher, work = a_watcher()
    told: list[object] = []
    work.tell = told.append
    watcher._is_connected = lambda peer: True
    some = report(whole=100)
    watcher.look([some], 0.0)
    watcher.look([some], 5.0)
    assert not [event for event in told if isinstance(event, WaitingForProvider)]  # it may be at it
    watcher.look([replace(some, misses=1, denials=1)], 6.0)
    assert [event.reason for event in told if isinstance(event, WaitingForProvider)] == [NOT_ALL]
    with pytest.raises(Stalled, match=NOT_ALL):
        watcher.look([replace(some, misses=1, denials=1)], 20.0)


def test_a_line_that_breaks_within_each_block_is_told_and_gone_on_with() -> None:
    """After 30 s and many connections it was said that nobody had been reached."""
    watcher, work = a_watcher()
    told: list[object] = []
    work.tell = told.append
    watcher._is_connected = lambda peer: False
    watcher._patience = Patience()
    watcher.look([report(arriving=1000)], 1.0)
    for number in range(2, 100):
        watcher.look([replace(report(), broken=number)], float(number))
    assert [event.reason for event in told if isinstance(event, WaitingForProvider)][-1] == f"{BROKEN}, 99 times"


def test_who_is_connected_and_brings_nothing_is_asked_whether_he_is_there() -> None:
    """A sharer that moved to another network was waited for 46 s: nobody can tell by silence alone."""
    watcher, work = a_watcher()
    assert not watcher.doubted([report()], 5.0)  # nothing is known of connections
    here = {peer(1), peer(3)}
    watcher._is_connected = lambda each: each in here
    reports = [report(), replace(report(), peer=peer(2)), replace(report(), peer=peer(3), unproved=True)]
    assert watcher.doubted(reports, 0.4) == [] and watcher.doubted(reports, 0.5) == [peer(1)]
    assert watcher.doubted(reports, 0.9) == [] and watcher.doubted(reports, 1.0) == [peer(1)]
    work.progress.done = 100
    watcher.look([report(whole=100)], 2.5)
    assert watcher.doubted(reports, 2.9) == [] and watcher.doubted(reports, 3.0) == [peer(1)]
    crowd = [replace(report(), peer=peer(number)) for number in range(10)]
    watcher._is_connected = lambda each: True
    assert len(watcher.doubted(crowd, 9.0)) == DOUBTED_MAX


def test_whose_blocks_break_off_while_it_stays_connected_is_named_with_that() -> None:
    broken = replace(report(), broken=2)
    assert obstacle([broken], lambda peer: True, lambda peer: None)[2] == BROKEN_OFF
    assert obstacle([replace(broken, denials=1)], lambda peer: True, lambda peer: None)[2] != BROKEN_OFF


def test_who_has_brought_some_of_it_and_whose_share_has_ended_is_not_waited_for_without_end() -> None:
    """The fetch that ran was told that he had not got all of it, and that the same command would go on."""
    watcher, work = a_watcher()
    told: list[object] = []
    work.tell = told.append
    watcher._is_connected, watcher._patience = lambda peer: True, Patience()
    ended = replace(report(whole=100), source="ticket", misses=1, unproved=True, ended=True)
    other = replace(report(whole=100), peer=peer(2), misses=1, unproved=True)
    watcher.look([ended], 0.0)
    watcher.look([ended], 5.0)
    assert [event.reason for event in told if isinstance(event, WaitingForProvider)] == [NOT_SHARED]
    watcher.look([ended, other], 30.0)  # who gives no answer may wake up
    with pytest.raises(NoProvider, match=f"nothing came for 30 s.*{NOT_SHARED}; with a new ticket it goes on"):
        watcher.look([ended, replace(other, bytes=0)], 60.0)
