"""What a person sees of a fetch: whom it waits for and why, how far it is, what came of it."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace

from stack.cli import output
from stack.errors import DecodeError
from stack.files.events import (
    Connecting,
    EntrySkipped,
    EntryUpdated,
    FetchEvent,
    FetchFinished,
    FetchProgress,
    FetchResumed,
    FetchStarted,
    PeerDropped,
    ProviderFound,
    WaitingForProvider,
)
from stack.files.sources import read_source
from stack.files.watch import NOT_ALL, NOT_SHARED
from stack.identity.peer_id import PeerId
from stack.net.addresses import host_and_port
from stack.node.api import Api, GetIdentity, WatchWaiting
from stack.node.config import Config

FOUND_BY = {
    "ticket": "named by the ticket",
    "user": "named by --from",
    "announced": "found by its announcement",
    "ticket holder": "found as one who has the same ticket",
    "swarm": "one of those who have it",
    "connected": "was connected already",
}
"""How a provider was found."""

NO_DHT = "No DHT is used: asked are peers that this node knows, neighbours on this network, and who announces it."
NO_BOOTSTRAP = " No bootstrap peer is set (--bootstrap ADDRESS, or `stack config set bootstrap ADDRESS`)."
OWN_TICKET = (
    "The ticket names this node itself: it was made in this home, or by another node with a copy of its identity.key."
    " Two nodes with one key do not find each other; `stack key new` gives this home one of its own."
)
NOBODY_KNOWN = "nobody is known who has it"

REFUSED = "connection refused"
HINTS: dict[str, str] = {
    REFUSED: "is `stack share` still running there?",
    "network is unreachable": "is this computer on a network that leads there?",
    "no route to host": "is that computer awake, and on this network?",
    "no answer within": "is that computer awake, and can it be reached from here?",
    "no security handshake within": "it takes connections and says nothing: is that computer asleep?",
    NOT_SHARED: "ask for a new one, or wait for others who have it",
    NOT_ALL: "did it change there, or has its share ended?",
    "connected, and silent": "is that computer asleep?",
    "key of this private network": "its `swarm.key` is another one, or it has none",
    "ended within the security handshake": "is it `stack` that runs there, and in no private network?",
    "security handshake failed": "is it `stack` that runs there, and in no private network?",
}
"""What may be looked at, by a part of the reason."""
PATIENCE_SECONDS = 3.0
"""Before an obstacle is told that may go away by itself; a refused connection does not, nor a share that has ended."""


WOULD = {"new": "make", "changed": "change", "deleted": "delete"}
"""What an update that only tells would do."""


class FetchScreen:
    """Facts: `show` for each event, then `conclude`."""

    def __init__(self, bar: output.Progress, *, dry_run: bool = False, no_way: str = "") -> None:
        """`no_way` is said once while nobody is known who has it."""
        self._bar = bar
        self._no_way = no_way
        self._obstacle = ""
        self._unsaid: list[str] = []
        self._addresses: dict[PeerId | None, str] = {}
        self._started = False
        self._is_tree = False
        self._dry_run = dry_run
        self._changes: Counter[str] = Counter()

    def show(self, event: FetchEvent) -> None:
        """One event, as a line or in the figures."""
        bar = self._bar
        match event:
            case Connecting():
                self._addresses[event.peer] = event.address
                bar.name(f"connecting to {event.address or output.short_peer(event.peer)}")
            case FetchStarted():
                self._started = True
                self._is_tree = not event.files
                # Of a tree its nodes are in it too.
                size = f": {'up to ' if self._is_tree else ''}{output.size(event.size)}" if event.size else ""
                bar.name(event.name or str(event.root))
                bar.say(f"{event.name or event.root}{size} -> {event.target}")
            case FetchResumed():
                self._unsaid.insert(0, f"resuming: {output.size(event.bytes_present)} are here already")
            case FetchProgress() if self._started:
                if event.received:
                    self._say_unsaid()
                peers = output.count(event.peers, "peer") if event.peers else ""
                files = event.files if self._is_tree else None
                done = min(event.bytes_done + event.arriving, event.total)
                bar.update(done, event.total, peers, files=files, moved=event.received + event.arriving)
            case WaitingForProvider():
                self._wait(event)
            case ProviderFound():
                self._obstacle = ""
                who = event.address or output.short_peer(event.peer)
                self._unsaid.append(f"fetching from {who} ({FOUND_BY.get(event.source, event.source)})")
                if not self._started:
                    bar.name(f"fetching from {who}")
            case PeerDropped():
                self._unsaid.append(f"no longer asking {output.short_peer(event.peer)}: {event.reason}")
            case EntryUpdated():
                self._changes[event.change] += 1
                if self._dry_run:
                    bar.say(f"would {WOULD[event.change]} {event.path}")
                elif event.change == "deleted":
                    bar.say(f"deleted {event.path}")
            case EntrySkipped():
                bar.say(f"skipped {event.path}: {event.reason}")
            case FetchFinished() if event.received:
                self._say_unsaid()
            case _:
                pass

    def _say_unsaid(self) -> None:
        """What is told once something comes: not of what turns out to be complete, not before it is said what is fetched, and not
        what is said while it waits."""
        for line in self._unsaid:
            self._bar.say(line)
        self._unsaid.clear()

    def _wait(self, event: WaitingForProvider) -> None:
        """Each obstacle is told once, above; the figures say for how long."""
        if not event.address and event.peer in self._addresses:
            event = replace(event, address=self._addresses[event.peer])  # its first dial has not ended yet
        obstacle = obstacle_of(event)
        if obstacle != self._obstacle and (event.reason in (REFUSED, NOT_SHARED) or event.seconds >= PATIENCE_SECONDS):
            self._obstacle = obstacle
            self._bar.say(f"waiting: {obstacle} (Ctrl-C ends it)")
        if not event.tried and self._no_way:
            self._bar.say(self._no_way)
            self._no_way = ""
        if not self._started and event.peer is not None:
            self._bar.name(event.address or output.short_peer(event.peer))
        self._bar.wait(f"waiting {output.duration(event.seconds)}")

    def conclude(self, event: FetchFinished) -> None:
        """The last line."""
        if self._changes:
            counts = ", ".join(f"{count} {change}" for change, count in sorted(self._changes.items()))
            output.note(f"nothing was written; it would be: {counts}" if self._dry_run else counts)
        if self._dry_run:
            if not self._changes:
                output.note("nothing would be written: it is this version already")
            return
        if event.skipped:
            output.note(f"{event.skipped:,} skipped, as said above")
        whole = output.size(event.size)
        if event.already_complete or not event.received:
            output.note(f"{'already complete' if event.already_complete else 'complete'}: {whole}, checked")
            return
        rate = event.received / event.seconds if event.seconds > 0 else 0.0
        took = f"in {output.duration(event.seconds)}, {output.size(rate)}/s"
        files = f" in {output.count(event.files, 'file')}" if event.files > 1 else ""
        output.note(f"complete and checked: {whole}{files} ({output.size(event.received)} received {took})")


async def explain(api: Api, settings: Config, source: str) -> None:
    """Say why nothing comes of what is read below `source`, as of a fetch, until cancelled."""
    screen = FetchScreen(output.Progress(), no_way=no_way_of(settings))
    ticket = read_source(source).ticket
    if ticket is not None and ticket.addresses:
        screen.show(Connecting(peer=ticket.peer, address=host_and_port(ticket.addresses[0])))
    async with api.watch(WatchWaiting(source=source)) as waits:
        async for each in waits:
            screen.show(each)


async def no_way_to(api: Api, settings: Config, source: str) -> str:
    """Why nobody may be known who has what is to be fetched; `source` may be a code."""
    with suppress(DecodeError):
        ticket = read_source(source).ticket
        if ticket is not None and str(ticket.peer) == (await api.ask(GetIdentity())).peer_id:
            return OWN_TICKET
    return no_way_of(settings)


def no_way_of(settings: Config) -> str:
    """Why nobody may be known who has it."""
    return NO_DHT if settings.bootstrap else NO_DHT + NO_BOOTSTRAP


def obstacle_of(event: WaitingForProvider) -> str:
    """Why nothing comes, in the words of the network, and what may be done."""
    if event.peer is None:
        return NOBODY_KNOWN
    who = event.address or output.short_peer(event.peer)
    others = f"; {output.count(event.tried - 1, 'other')} tried" if event.tried > 1 else ""
    if not event.reason:
        return f"{who} does not answer yet{others}"
    hint = next((f"; {hint}" for part, hint in HINTS.items() if part in event.reason), "")
    return f"{who}: {event.reason}{hint}{others}"
