"""When a fetch gives up."""

from types import SimpleNamespace

import pytest

from stack.bitswap.interfaces import PeerReport
from stack.errors import NoProvider, Stalled
from stack.files.watch import Patience, _Watcher
from tests.net.identities import peer


def report(*, whole: int = 0, arriving: int = 0) -> PeerReport:
    return PeerReport(
        peer=peer(1),
        blocks=whole // 100,
        bytes=whole,
        arriving=arriving,
        duplicate_bytes=0,
        wrong_blocks=0,
        rate=0.0,
        stalled=False,
        dropped=None,
    )


def a_watcher() -> tuple[_Watcher, SimpleNamespace]:
    work = SimpleNamespace(
        progress=SimpleNamespace(done=0, total=1000),
        gatherer=SimpleNamespace(received=0),
        files=0,
        directories=0,
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
