"""Looks at a running fetch a few times a second: tells how far it is and who delivers, and gives up when it must."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from itertools import islice
from typing import Protocol

import anyio

from stack.bitswap.interfaces import PeerReport, Session
from stack.dag.unixfs.names import printable
from stack.errors import DeadlinePassed, NoProvider, Stalled, StoreError, WrongBlocks
from stack.files.arrivals import Arrivals
from stack.files.events import FetchProgress, PeerDropped, ProviderFound, WaitingForProvider
from stack.files.work import Work
from stack.identity.peer_id import PeerId
from stack.values import dataclass

INTERVAL = 0.25
"""Seconds between two looks; also how late a time limit may be noticed."""

RATE_SECONDS = 3.0
"""The rate is that of the last seconds: steady enough to read, quick enough to show a stall."""

RECORD_SECONDS = 2.0
"""How often the job's row is brought up to date."""

QUIET_SECONDS = 1.0
"""Nothing came for this long and nobody delivers: then that is told, once in this time."""

DOUBT_SECONDS = 0.5
"""Nothing came for this long: those who are waited for are asked whether they are there, once in this time."""

DOUBTED_MAX = 8
"""Of a crowd that brings nothing: one that answers is enough to go on."""


class Dialled(Protocol):
    """The last dial of a peer that ended."""

    @property
    def address(self) -> str:
        """As people write it: `10.77.0.10:33510`."""
        ...

    @property
    def failure(self) -> str:
        """Why it failed; empty when it did not."""
        ...


IsConnected = Callable[[PeerId], bool]
LastDial = Callable[[PeerId], Dialled | None]
Obstacle = tuple[PeerId | None, str, str]
"""Whom one waits for, where it was dialled, and why it does not deliver."""


def nothing_known(peer: PeerId) -> Dialled | None:
    """Where nobody is dialled."""
    return None


LOST_NAMED = 5
"""Files that are lost are named, so many of them."""

NOT_SHARED = "connected, but it shares nothing for this ticket any more"
"""Said of whoever made the ticket, or has brought something for it: what is missing there is not late."""
NOT_ALL = "connected, but it has not got all of it"
"""Said of who has brought something, and has not got what is missing."""
BROKEN = "the connection broke before one block had come"
"""Said of who was sending, and sends the same again."""
BROKEN_OFF = "connected, but what it begins to send breaks off"
"""The same where the connection held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a fetch waits, in seconds; None for as long as it takes."""

    provider: float | None = 30.0
    """For a first provider."""
    stall: float | None = None
    """Without any progress."""
    deadline: float | None = None
    """In all."""


async def watch(
    work: Work,
    session: Session,
    patience: Patience,
    is_connected: IsConnected | None,
    record: Callable[[], Awaitable[None]],
    dialled: LastDial = nothing_known,
    doubt: Callable[[PeerId], None] | None = None,
) -> None:
    """Runs until it is cancelled; `dialled` tells what became of the last dial of a peer, `doubt` has those asked for a sign of life who
    bring nothing.

    Raises NoProvider (WrongBlocks), Stalled, DeadlinePassed.
    """
    began = recorded_at = anyio.current_time()
    watcher = _Watcher(work, patience, is_connected, dialled, began)
    recorded = 0
    try:
        while True:
            await anyio.sleep(INTERVAL)
            now = anyio.current_time()
            if work.tracker is not None:
                work.tracker.drain()
            watcher.look(session.reports(), now)
            if doubt is not None:
                for peer in watcher.doubted(session.reports(), now):
                    doubt(peer)
            if now - recorded_at >= RECORD_SECONDS and work.progress.done != recorded:
                recorded_at, recorded = now, work.progress.done
                with suppress(StoreError):  # it is tried again, at the end too, and told then
                    await work.found.keep()
                await record()
    finally:
        watcher.look_at_peers(session.reports())  # a fetch that was over sooner has had providers too


class _Watcher:
    """The decisions, without waiting."""

    def __init__(
        self,
        work: Work,
        patience: Patience,
        is_connected: IsConnected | None,
        dialled: LastDial,
        began: float,
    ) -> None:
        self._work = work
        self._patience = patience
        self._is_connected = is_connected
        self._dialled = dialled
        self._began = began
        self._moved_at = began
        self._figures = (0, 0)
        self._arrivals = Arrivals()
        self._arriving = 0
        self._told: FetchProgress | None = None
        self._told_quiet_at = self._doubted_at = began
        self._samples: deque[tuple[float, int]] = deque([(began, 0)])
        self._delivering: set[PeerId] = set()
        self._dropped: set[PeerId] = set()
        self._had_provider = False

    def look(self, reports: list[PeerReport], now: float) -> None:
        """Tell what has changed. Raises NoProvider, Stalled, DeadlinePassed."""
        self._figures = (self._work.progress.done, self._work.gatherer.received)
        self._arriving = sum(report.arriving for report in reports)
        made = self._work.files + self._work.directories  # a tree may consist of empty ones
        if self._arrivals.look(reports, *self._figures, made):
            self._moved_at = now
        self._tell_progress(len(self.look_at_peers(reports)), now)
        quiet = now - self._moved_at
        waits = waiting(reports, quiet, self._is_connected, self._dialled, self._work.lost)
        if waits is not None and now - self._told_quiet_at >= QUIET_SECONDS:
            self._told_quiet_at = now
            self._work.tell(waits)
        self._give_up(reports, quiet, now)

    def doubted(self, reports: list[PeerReport], now: float) -> list[PeerId]:
        """Who is connected, should have brought something by now, and has not: it is asked whether it is there."""
        if self._is_connected is None or now - max(self._moved_at, self._doubted_at) < DOUBT_SECONDS:
            return []
        self._doubted_at = now
        waited_for = (report.peer for report in reports if report.dropped is None and not has_not(report))
        return [peer for peer in waited_for if self._is_connected(peer)][:DOUBTED_MAX]

    def look_at_peers(self, reports: list[PeerReport]) -> list[PeerReport]:
        """Tell who delivers and who is dropped; returns those that are at it."""
        for report in reports:
            self._had_provider = self._had_provider or report.bytes > 0
            if (report.bytes or report.arriving) and report.peer not in self._delivering:
                self._delivering.add(report.peer)
                at = self._dialled(report.peer)
                address = at.address if at is not None else ""
                self._work.tell(ProviderFound(peer=report.peer, source=report.source, address=address))
            if report.dropped is not None and report.peer not in self._dropped:
                self._dropped.add(report.peer)
                self._work.tell(PeerDropped(peer=report.peer, reason=report.dropped))
        return [report for report in reports if is_delivering(report, self._is_connected)]

    def _obstacle(self, reports: list[PeerReport]) -> Obstacle:
        return obstacle(reports, self._is_connected, self._dialled, self._work.lost)

    def _tell_progress(self, peers: int, now: float) -> None:
        self._samples.append((now, self._figures[1] + self._arriving))
        while now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        (since, before), (_, came) = self._samples[0], self._samples[-1]
        progress = FetchProgress(
            bytes_done=self._figures[0],
            total=self._work.progress.total,
            rate=max(came - before, 0) / (now - since) if now > since else 0.0,
            peers=peers,
            files=self._work.files if self._work.directories else 0,
            received=self._figures[1],
            arriving=self._arriving,
        )
        if progress != self._told and progress.total:
            self._told = progress
            self._work.tell(progress)

    def _give_up(self, reports: list[PeerReport], quiet: float, now: float) -> None:
        patience = self._patience
        if patience.deadline is not None and now - self._began >= patience.deadline:
            lost = missing(self._work.lost)
            raise DeadlinePassed(
                f"not complete after {patience.deadline:g} s{lost}; the same command goes on from here"
            )
        # A peer that is connected and not known to be idle may be sending its first block, however slowly.
        hopeful = self._is_connected is not None and any(is_lively(report, self._is_connected) for report in reports)
        hopeful = hopeful or any(report.broken and report.dropped is None for report in reports)
        in_vain = not self._had_provider and not hopeful
        if in_vain and patience.provider is not None and quiet >= patience.provider:
            raise nobody(reports, patience.provider, self._obstacle(reports))
        limit = patience.provider if patience.stall is None else patience.stall
        if self._had_provider and limit is not None and quiet >= limit and has_ended(reports):
            why = why_not(self._obstacle(reports))
            raise NoProvider(f"nothing came for {limit:g} s{why}; with a new ticket it goes on from here")
        if patience.stall is not None and quiet >= patience.stall:
            connected = self._is_connected is not None and any(self._is_connected(report.peer) for report in reports)
            if in_vain and not connected:
                raise nobody(reports, patience.stall, self._obstacle(reports))
            why = why_not(self._obstacle(reports)) or missing(self._work.lost)
            raise Stalled(f"nothing came for {patience.stall:g} s{why}; the same command goes on from here")


def has_not(report: PeerReport) -> bool:
    """Whether it has said that it has not got it."""
    return report.unproved or bool(report.denials and not report.stalled)


def has_ended(reports: list[PeerReport]) -> bool:
    """Whether somebody shares nothing for this ticket any more, and of all others who are known nothing ever came."""
    others = (each for each in reports if not each.ended and each.dropped is None)
    return any(each.ended for each in reports) and all(each.unproved and not each.bytes for each in others)


def missing(lost: Collection[str]) -> str:
    """Names what nobody has of a tree of which all else is there, at the end of a sentence; nothing where nothing is lost."""
    if not lost:
        return ""
    named = [printable(name) or "the list of what is in it" for name in islice(lost, LOST_NAMED)]
    more = f" and {len(lost) - len(named):,} more" if len(lost) > len(named) else ""
    return f" (missing: {', '.join(named)}{more})"


def _why_not(report: PeerReport) -> str:
    if not has_not(report):
        return BROKEN_OFF if report.broken else "connected, and silent"
    if report.bytes:
        return NOT_SHARED if report.ended else NOT_ALL
    return NOT_SHARED if report.source == "ticket" else "connected, but it has not got it"


def is_lively(report: PeerReport, is_connected: IsConnected | None) -> bool:
    """Whether it may be sending something now."""
    connected = is_connected is None or is_connected(report.peer)
    has_nothing = report.ended or (has_not(report) and not report.bytes)
    return connected and report.dropped is None and not report.stalled and not has_nothing


def is_delivering(report: PeerReport, is_connected: IsConnected | None) -> bool:
    """Whether it is at it."""
    return bool(report.bytes or report.arriving) and is_lively(report, is_connected)


def waiting(
    reports: list[PeerReport],
    quiet: float,
    is_connected: IsConnected | None,
    dialled: LastDial,
    lost: Collection[str] = (),
) -> WaitingForProvider | None:
    """What is to be told when nothing has come for `quiet` seconds; None while somebody is at it."""
    if quiet < QUIET_SECONDS or any(is_delivering(each, is_connected) and not has_not(each) for each in reports):
        return None
    peer, address, reason = obstacle(reports, is_connected, dialled, lost)
    return WaitingForProvider(seconds=quiet, tried=len(reports), peer=peer, address=address, reason=reason)


def obstacle(
    reports: list[PeerReport], is_connected: IsConnected | None, dialled: LastDial, lost: Collection[str] = ()
) -> Obstacle:
    """The first of whom something is known; `lost` is what nobody has of a tree of which all else is there."""
    for report in reports:
        at = dialled(report.peer)
        address = at.address if at is not None else ""
        if report.dropped is not None:
            return report.peer, address, report.dropped
        if is_connected is not None and is_connected(report.peer):
            return report.peer, address, _why_not(report) + missing(lost)
        if report.broken:
            return report.peer, address, BROKEN + (f", {report.broken} times" if report.broken > 1 else "")
        if at is not None and at.failure:
            return report.peer, address, at.failure
    return (reports[0].peer if reports else None), "", ""


def nobody(reports: list[PeerReport], seconds: float, obstacle: Obstacle) -> NoProvider:
    """Nothing has come of anybody in so long."""
    wrong = ", ".join(str(report.peer) for report in reports if report.wrong_blocks)
    if wrong:
        return WrongBlocks(f"wrong blocks came from {wrong}, and nobody else was reached who has it")
    if not reports:
        return NoProvider(f"nobody was found who has it, in {seconds:g} s")
    tried = f"{len(reports)} peer{'s' if len(reports) > 1 else ''} tried"
    return NoProvider(f"nobody was reached who has it, in {seconds:g} s: {tried}{why_not(obstacle)}")


def why_not(obstacle: Obstacle) -> str:
    """The end of a sentence; empty when nothing is known."""
    peer, address, reason = obstacle
    return f", {address or peer}: {reason}" if reason else ""
