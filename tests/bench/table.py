"""The rows: what is measured, and what each is told in. One function a row, in `rows/`."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from tests.bench.meter import Scene, Work
from tests.bench.rows import far, fetch, local, many, peers, small

Open = Callable[[Scene], AbstractContextManager[Mapping[str, Work]]]
"""Makes what all runs share; gives the kinds, ours first. Kinds of ours begin with `stack`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the page."""

    title: str
    unit: str
    open: Open
    size: int
    quick: int
    """The size in a short run; 0: not part of it."""
    more: bool = True
    """More is better."""
    mib: bool = False
    """The size is MiB of payload, and CPU-seconds are told a GiB."""
    against: tuple[str, ...] = ()
    """Which kinds the others are compared with, where that is not all that do not begin with `stack`."""

    def size_of(self, quick: bool, mib: int | None = None, count: int | None = None) -> int:
        """How much is measured: as the user says of rows that count MiB, and of the others, or else what is usual."""
        said = mib if self.mib else count
        return said if said is not None else self.quick if quick else self.size

    def anchors(self, kinds: Iterable[str]) -> list[str]:
        """Those that ours is compared with."""
        return [kind for kind in kinds if kind in self.against or not (self.against or kind.startswith("stack"))]


ROWS: Mapping[str, Row] = {
    "get": Row(title="get, new process", unit="MiB/s", open=fetch.get, size=1024, quick=128, mib=True),
    "get-256": Row(title="get of 256 MiB, new process", unit="MiB/s", open=fetch.get, size=256, quick=0, mib=True),
    "get-daemon": Row(
        title="get through a running daemon", unit="MiB/s", open=fetch.get_daemon, size=256, quick=64, mib=True
    ),
    "get-variants": Row(
        title="get, other blocks and loop",
        unit="MiB/s",
        open=fetch.variants,
        size=256,
        quick=64,
        mib=True,
        against=("stack",),
    ),
    "start": Row(title="get of 1 KiB, exec to end", unit="ms", open=fetch.start, size=1, quick=1, more=False),
    "share": Row(title="share in place, to the ticket", unit="MiB/s", open=local.share, size=1024, quick=128, mib=True),
    "copy": Row(title="add --copy", unit="MiB/s", open=local.copy, size=1024, quick=128, mib=True),
    "cat": Row(title="cat", unit="MiB/s", open=local.cat, size=1024, quick=128, mib=True),
    "chunkers": Row(title="chunkers", unit="MiB/CPU-s", open=local.chunkers, size=32, quick=4),
    "bitswap": Row(title="bitswap, stores in memory", unit="MiB/s", open=peers.bitswap, size=512, quick=64, mib=True),
    "perf-up": Row(
        title="one stream, up", unit="MiB/s", open=peers.perf_up, size=1024, quick=128, mib=True, against=("go",)
    ),
    "perf-down": Row(
        title="one stream, down", unit="MiB/s", open=peers.perf_down, size=1024, quick=128, mib=True, against=("go",)
    ),
    "connections": Row(title="new connections", unit="a second", open=peers.connections, size=300, quick=50),
    "ping": Row(title="ping", unit="us", open=peers.ping, size=500, quick=100, more=False),
    "gossipsub": Row(title="gossipsub, signed 1 KiB", unit="a second", open=peers.gossipsub, size=20_000, quick=3_000),
    "providers": Row(
        title="get from 4 providers",
        unit="MiB/s",
        open=many.providers,
        size=512,
        quick=64,
        mib=True,
        against=("stack, 1 provider",),
    ),
    "providers-capped": Row(
        title="get from 4 providers of 8 MB/s each", unit="% of 32 MB/s", open=many.capped, size=128, quick=0, mib=True
    ),
    "small-files": Row(title="files of 1 KiB, share and get", unit="a second", open=small.files, size=5_000, quick=500),
    "small-files-syncs": Row(
        title="files of 1 KiB, share and get",
        unit="syncs of both ends",
        open=small.syncs,
        size=5_000,
        quick=0,
        more=False,
    ),
    "swarm": Row(title="8 receivers, 4 MB/s each", unit="s", open=many.swarm, size=64, quick=0, mib=True, more=False),
    "idle": Row(title="idle connection", unit="KiB", open=many.idle, size=500, quick=100, more=False),
    "crowd": Row(
        title="a daemon with that many peers, event-loop lag p99",
        unit="ms",
        open=many.crowd,
        size=200,
        quick=20,
        more=False,
    ),
    "first": Row(
        title=f"first byte of a file over {far.FIRST}", unit="ms", open=far.first, size=16, quick=16, more=False
    ),
    **{
        f"far-{name}": Row(
            title=f"get over {line}",
            unit="% of the line",
            open=partial(far.get, line),
            size=size,
            quick=32 if name == "100" else 0,
            mib=True,
        )
        for name, line, size in far.LINES
    },
}
