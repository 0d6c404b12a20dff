"""Handlers of requests about files and trees."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, replace

import anyio
import anyio.lowlevel
from anyio import to_thread

from stack.blocks.interfaces import PinKind
from stack.dag.unixfs.names import told
from stack.dag.unixfs.options import ImportOptions, import_options
from stack.errors import FetchStopped, Refused, StackError
from stack.files.chosen import Selection
from stack.files.events import FetchEvent, FetchFinished, FetchStarted
from stack.files.fetch import Fetch as Running
from stack.files.jobs import Origin
from stack.files.request import FetchRequest
from stack.files.storage import hold, in_place
from stack.files.tasks import task_group
from stack.files.watch import Patience
from stack.node.api import (
    Add,
    Added,
    AddEvent,
    AddProgress,
    Announce,
    EntrySkipped,
    Fetch,
    GetPresence,
    ImportFlags,
    Presence,
    Share,
    Shared,
    ShareEvent,
)
from stack.node.handlers.going_on import job_options
from stack.node.handlers.naming import sought, whole_name
from stack.node.interfaces import Handled, RunningFetch

EVENTS_MAX = 1024
"""Events of an import that wait for their reader; then the import waits too: a tree may have a million entries."""

NOT_FOR_IMPORT = ("profile",)

ROUTER_SECONDS = 0.3
"""A ticket waits so long at most for the router to say where it lets others in: one that speaks PCP or NAT-PMP does so in a few
milliseconds, and has been asked since the import began."""

LASTS_AS_LONG = frozenset({"get", "library"})
"""Nodes that give to others what they have fetched until they end."""


def options_of(flags: ImportFlags, default_profile: str) -> ImportOptions:
    """What was typed, as the importer understands it. Raises ConfigError."""
    given = {name.replace("_", "-"): value for name, value in asdict(flags).items() if name not in NOT_FOR_IMPORT}
    return import_options(
        flags.profile or default_profile, {name: value for name, value in given.items() if value is not None}
    )


class Import:
    """Between an import and whoever reads its events, and may be slow. Commands: `tell`, `room`, `end`. Output: `events`, once."""

    def __init__(self) -> None:
        self._events: deque[AddEvent] = deque()
        self._changed = anyio.Event()
        self._ended = False
        self._failure: Exception | None = None

    def tell(self, event: AddEvent) -> None:
        """For the reader; a progress that nobody has taken is replaced."""
        if isinstance(event, AddProgress) and self._events and isinstance(self._events[-1], AddProgress):
            self._events.pop()
        self._events.append(event)
        self._changed.set()

    async def room(self) -> None:
        """Return when the reader is less than `EVENTS_MAX` behind."""
        await anyio.lowlevel.checkpoint()
        while len(self._events) >= EVENTS_MAX:
            await self._wait()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more comes; what was told is read first."""
        self._ended, self._failure = True, failure
        self._changed.set()

    async def events(self) -> AsyncGenerator[AddEvent, None]:
        """What was told. Raises what the import failed with."""
        while self._events or not self._ended:
            if self._events:
                event = self._events.popleft()
                self._changed.set()
                yield event
            else:
                await self._wait()
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        if self._changed.is_set():  # not a new one for each event: there may be a million of them, and nobody waits
            self._changed = anyio.Event()
        await self._changed.wait()


@asynccontextmanager
async def run_import(work: Callable[[Import], Awaitable[Added]]) -> AsyncIterator[AsyncIterator[AddEvent]]:
    """The events of an import, the result last. Leaving the context stops it; what it raises comes out of the iteration.

    `work` is given whom to tell. It does all that must be done before garbage may be collected: when the result is read, or whether it
    is, depends on the reader.
    """
    told = Import()

    async def run() -> None:
        try:
            told.tell(await work(told))
        except Exception as error:  # noqa: BLE001 - raised again for the reader, outside of the group that would wrap it
            told.end(error)
        else:
            told.end()

    async with task_group() as tasks, aclosing(told.events()) as events:
        tasks.start_soon(run)
        yield events
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def add(node: Handled, request: Add) -> AsyncIterator[AsyncIterator[AddEvent]]:
    """Import files and trees."""
    options = options_of(request.flags, node.config.profile)
    store = None if request.only_hash else node.store

    async def work(told: Import) -> Added:
        from stack.files.add import Adder  # here: a command that adds nothing starts without it
        from stack.files.known import known_files

        tell, room, home = told.tell, told.room, node.config.home
        async with known_files(home, options, rehash=request.rehash) as known:
            adder = Adder(
                store,
                options,
                copy=request.copy,
                tell=tell,
                room=room,
                home=home,
                known=known,
                selection=_selection(request),
            )
            return await adder.add(request.paths, pin=PinKind.USER)

    async with run_import(work) as events:
        yield events


def _selection(request: Add | Share) -> Selection:
    if not request.paths or any("\0" in str(path) for path in (*request.paths, *request.ignore_files)):
        raise Refused("no file or directory was named that can be one")
    return Selection(
        include=request.include,
        exclude=request.exclude,
        ignore_files=request.ignore_files,
        gitignore=request.gitignore,
        for_others=isinstance(request, Share),
        unsafe_links=isinstance(request, Share) and request.unsafe_links,
    )


@asynccontextmanager
async def share(node: Handled, request: Share) -> AsyncIterator[AsyncIterator[ShareEvent]]:
    """Import in place, remember it, make its ticket."""
    flags = ImportFlags(**{**asdict(request.flags), "hidden": request.hidden or request.flags.hidden})
    announce = request.announce or request.public_name is not None
    is_open = request.open or announce
    # What is found by its CID has no times of its own accord: equal files of two people are to have one CID.
    keep_times = flags.preserve_mtime is None and not is_open
    options = replace(
        options_of(flags, node.config.profile), keep_executable=True, keep_times=keep_times, inline_root=True
    )
    if announce:
        node.announcing.check(request.public_name)  # before anything is read

    async def work(told: Import) -> Added:
        from stack.files.add import Adder, place_of  # as above
        from stack.files.known import known_files

        tell, room, home = told.tell, told.room, node.config.home
        begun = await node.access.begin(is_open=is_open)
        store = node.access.store(begun)
        with hold(store):
            async with known_files(home, options, rehash=request.rehash) as known:
                adder = Adder(
                    store,
                    options,
                    tell=tell,
                    room=room,
                    home=home,
                    known=known,
                    selection=_selection(request),
                )
                added = await adder.add(request.paths)
                added = replace(added, name=request.name or added.name)
            paths = tuple([await to_thread.run_sync(place_of, path) for path in dict.fromkeys(request.paths)])
            still_open = node.sharing.shares(added.cid)
            await node.access.finish(
                begun, added.cid, is_open=is_open, still_open=still_open, announced=announce and not request.open
            )
            await node.sharing.add(added.cid, added.name, paths, added.size, owner=request.owner)
        if announce:
            from stack.node.handlers.announce import announce as announce_root

            await announce_root(node, Announce(cid=added.cid, public_name=request.public_name, size=added.size))
        return added

    async def shared(events: AsyncIterator[AddEvent]) -> AsyncGenerator[ShareEvent, None]:
        async for event in events:
            if isinstance(event, AddProgress | EntrySkipped):
                yield event
            elif isinstance(event, Added):
                await node.outside.ask_router(ROUTER_SECONDS)
                yield Shared(
                    ticket=node.ticket(event.cid, event.name, event.size),
                    cid=event.cid,
                    name=event.name,
                    size=event.size,
                    peer_id=str(node.peer_id),
                    addrs=node.addresses(),
                    announced=announce,
                    open=is_open or await node.access.is_open(event.cid),
                    public_name=request.public_name,
                )

    node.outside.begin()
    async with run_import(work) as events, aclosing(shared(events)) as told:
        yield told


async def get_presence(node: Handled, request: GetPresence) -> Presence:
    """Which leaves of a root are here."""
    ranges = node.book.ranges(request.cid)
    if ranges is None:
        return Presence(leaves=0, bitmap="")
    return Presence(leaves=ranges.count, bitmap=bytes(ranges).hex())


@asynccontextmanager
async def fetch(node: Handled, request: Fetch) -> AsyncIterator[AsyncIterator[FetchEvent]]:
    """Fetch a file or tree."""
    if (request.delete or request.dry_run) and not request.update:
        raise Refused("to delete, or only to tell what would be done, goes with an update")
    if request.seed and in_place(node.store) is None:
        raise Refused("a node without a home keeps nothing that it could serve on: give it a home, or leave out --seed")
    if not request.detach:
        async with _attached(node, request) as events:
            yield events
    elif node.config.role == "daemon":
        async with aclosing(_detached(node, request)) as events:
            yield events
    else:
        raise Refused(
            "--detach hands the fetch to a running daemon, and none runs: start `stack daemon --detach` first"
        )


async def _wanted(node: Handled, request: Fetch) -> FetchRequest:
    named = sought(node, request.source, request.providers)
    patience = Patience(stall=request.timeout, deadline=request.deadline)
    if request.timeout is not None:
        patience = Patience(provider=request.timeout, stall=request.timeout, deadline=request.deadline)
    began = anyio.current_time()
    name = await whole_name(node, named)
    return FetchRequest(
        waited=anyio.current_time() - began,
        root=named.source.root,
        path=named.source.path,
        name=name,
        secret=named.secret,
        directory=request.directory,
        out=request.target,
        into_directory=request.into_directory,
        contents=request.contents,
        include=request.include,
        exclude=request.exclude,
        unsafe_links=request.unsafe_links,
        update=request.update,
        delete=request.delete,
        dry_run=request.dry_run,
        providers=named.providers,
        patience=patience,
        broadcast=named.public,
        options=job_options(request, str(named.source)),
    )


@asynccontextmanager
async def _attached(
    node: Handled, request: Fetch, begun: Callable[[], object] | None = None
) -> AsyncIterator[AsyncIterator[FetchEvent]]:
    """A fetch that ends with its request; `stack jobs` may end it too. What is complete is then shared if that was asked for. `begun`
    is told when it has become a job."""
    wanted = await _wanted(node, request)
    ended = anyio.Event()
    supervisor = None if node.config.role in LASTS_AS_LONG else node.tasks
    here: RunningFetch | None = None

    def became_job(fetch: Running) -> None:
        nonlocal here
        assert fetch.job is not None
        here = node.running[fetch.job] = RunningFetch(fetch, scope, ended)
        if begun is not None:
            begun()

    try:
        with anyio.CancelScope() as scope:
            async with node.sharing.fetching(wanted.root, supervisor), node.fetcher.open(wanted, became_job) as running:

                async def events() -> AsyncGenerator[FetchEvent, None]:
                    async for event in running:
                        if isinstance(event, FetchFinished) and request.seed:
                            await _seed(node, wanted, event, request.owner)
                        yield event

                async with aclosing(events()) as told:
                    yield told
    finally:
        if here is not None and here.fetch.job is not None:
            node.running.pop(here.fetch.job, None)
        ended.set()
    if scope.cancelled_caught:
        raise FetchStopped(here.stopped if here is not None else "it was ended")


async def _seed(node: Handled, wanted: FetchRequest, finished: FetchFinished, owner: str) -> None:
    whole = not (wanted.path or wanted.is_partial or finished.skipped)
    await node.sharing.add(
        wanted.root,
        told(finished.target.name),
        (finished.target,),
        finished.size,
        owner=owner,
        origin=Origin.SEEDED if whole else Origin.PART,
    )


async def go_on(node: Handled, request: Fetch, begun: Callable[[], object]) -> None:
    """A fetch that nobody follows; `begun` is told when it has become a job, or cannot."""
    try:
        async with _attached(node, request, begun) as events:
            async for _ in events:
                pass
    except StackError:
        pass  # the job's row keeps it
    finally:
        begun()


async def _detached(node: Handled, request: Fetch) -> AsyncGenerator[FetchEvent, None]:
    """Start a fetch that outlives the request; what is told is that it has begun, or why it cannot."""
    send, receive = anyio.create_memory_object_stream[FetchEvent | Exception](1)

    def offer(item: FetchEvent | Exception) -> None:
        try:
            send.send_nowait(item)
        except (anyio.BrokenResourceError, anyio.WouldBlock):
            pass

    async def work() -> None:
        with send:
            try:
                async with _attached(node, request) as events:
                    async for event in events:
                        if isinstance(event, FetchStarted):
                            offer(event)
            except Exception as error:  # noqa: BLE001 - the job's row keeps it; whoever still listens hears it
                offer(error)

    node.tasks.start(work, owner="a fetch of its own")
    async with receive:
        async for event in receive:
            if isinstance(event, Exception):
                raise event
            yield event
            return
