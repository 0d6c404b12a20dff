"""The fetch of a file or a tree: a context that tells of itself while it runs, resumes what was begun, and ends complete.

What is fetched is served as soon as it is written, by whoever reads the store; the fetch itself only asks.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from stack.bitswap.interfaces import Exchange, Provider
from stack.blocks.interfaces import BlockStore, PinKind
from stack.dag.unixfs.data import FILE_SIZE_MAX, NodeKind
from stack.dag.unixfs.names import told
from stack.dag.unixfs.reader import UnixFSNode, path_names
from stack.errors import DecodeError, FetchError, Refused, StackError, StoreError
from stack.files import target as targets
from stack.files.chosen import Chosen
from stack.files.events import Connecting, EventQueue, FetchEvent, FetchFinished, FetchStarted, Figures
from stack.files.fetch_file import fetch_file
from stack.files.gather import Gatherer
from stack.files.holes import check_room
from stack.files.jobs import Jobs, JobState
from stack.files.listing import begun_here
from stack.files.making import make_link
from stack.files.measure import chosen_size
from stack.files.nodes import read_node
from stack.files.paths import resolve_path
from stack.files.place import going_to, settled
from stack.files.ranges import LeafTracker
from stack.files.request import FetchRequest
from stack.files.storage import Enclosing, hold, in_place, pins
from stack.files.tasks import task_group
from stack.files.update import Update
from stack.files.watch import LastDial, nothing_known, watch
from stack.files.work import Work
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.net.addresses import host_and_port
from stack.protocols.providers.interfaces import RangeBook

HEAD_START_SECONDS = 2.0
"""For those that a ticket or the user names, before others are asked by a key that tells nothing; and for finding somebody by that,
before connected peers are told a CID that is public."""

MEET_SECONDS = 2.0
"""At the end of a fetch of what was here already, or is empty: whoever shares it once waits to hear that it is complete."""

ENDING_SECONDS = 5.0
"""How long a cancelled fetch may take to write down that it was interrupted."""


class Fetcher:
    """Starts fetches. Everything it works with is handed in."""

    def __init__(
        self,
        store: BlockStore,
        exchange: Exchange,
        *,
        is_connected: Callable[[PeerId], bool] | None = None,
        book: RangeBook | None = None,
        jobs: Jobs | None = None,
        meet: Callable[[Cid, Sequence[Provider], bytes], Awaitable[None]] | None = None,
        over: RangeBook | None = None,
        dialled: LastDial = nothing_known,
        doubt: Callable[[PeerId], None] | None = None,
        access: Enclosing | None = None,
    ) -> None:
        """`book` is told which leaves are here, `over` that all is here that was wanted; `jobs` lists fetches; `meet` connects to
        providers whom nothing was asked of, so that they hear that; `dialled` tells what became of the last dial of a peer, `doubt`
        has one asked for a sign of life that brings nothing; `access` knows for whom it is, without it all is for everybody."""
        self.store = store
        self.exchange = exchange
        self.is_connected = is_connected
        self.book = book
        self.jobs = jobs
        self.meet = meet
        self.over = over
        self.dialled = dialled
        self.doubt = doubt
        self.access = access

    @asynccontextmanager
    async def open(self, request: FetchRequest, begun: "Begun | None" = None) -> AsyncIterator["Fetch"]:
        """A fetch that runs while the context lasts. Leaving it early stops the fetch; the same request goes on later. `begun` is told
        when it has become a job, before anything is asked of anybody."""
        fetch = Fetch(self, request, begun)
        async with task_group() as group:
            group.start_soon(fetch._run)
            try:
                yield fetch
            finally:
                group.cancel_scope.cancel()

    def begin(self, root: Cid) -> None:
        """Something of a root is wanted, by a session that begins."""
        if self.over is not None:
            self.over.begin(root)

    async def conclude(self, root: Cid, providers: Sequence[Provider], secret: bytes, received: int) -> None:
        """All that was wanted is here, whether files were made of it or not: whoever shares it once waits for that word, and hears it when
        the session ends, which is still open. Where nothing was `received` the providers are met for it."""
        if self.over is not None:
            self.over.finish(root)
        if not received and self.meet is not None:
            with anyio.move_on_after(MEET_SECONDS):
                await self.meet(root, providers, secret)

    async def fetch(self, request: FetchRequest) -> FetchFinished:
        """Fetch to the end. Raises what `Fetch` raises."""
        async with self.open(request) as fetch:
            return await fetch.finish()


Begun = Callable[["Fetch"], object]


class Fetch:
    """A running fetch: iterate over its events, or `finish` it. Made by `Fetcher.open`.

    Both raise, where the fetch failed: NoProvider, Stalled, DeadlinePassed, NoSpace, Refused, LinkNotFound, DecodeError (the
    DAG is not what it says), LimitExceeded, StoreError.
    """

    def __init__(self, fetcher: Fetcher, request: FetchRequest, begun: "Begun | None" = None) -> None:
        self.request = request
        self.target: Path | None = None
        """The path that is made, once it is decided."""
        self.job: int | None = None
        self._begun = begun
        self._began = 0.0
        self._fetcher = fetcher
        self._events = EventQueue()
        self._work: Work | None = None
        self._store = fetcher.store
        self._pinned = False
        self._resumes = False

    def __repr__(self) -> str:
        return f"<Fetch {self.request.root} to {self.target}, {self.bytes_done} bytes>"

    @property
    def bytes_done(self) -> int:
        """Content bytes on the disk and checked."""
        return self._work.progress.done if self._work is not None else 0

    @property
    def bytes_total(self) -> int:
        """Content bytes in all, as claimed; 0 until that is known."""
        return self._work.progress.total if self._work is not None else 0

    @property
    def bytes_received(self) -> int:
        """Bytes that came from peers."""
        return self._work.gatherer.received if self._work is not None else 0

    @property
    def latest(self) -> Figures | None:
        """How it goes, as told last."""
        return self._events.latest

    def __aiter__(self) -> AsyncIterator[FetchEvent]:
        return self._events

    async def finish(self) -> FetchFinished:
        """Wait for the end, passing over the events."""
        async for event in self._events:
            if isinstance(event, FetchFinished):
                return event
        raise FetchError("the fetch has ended already")

    async def _run(self) -> None:
        state, problem = JobState.INTERRUPTED, None
        try:
            finished = await self._fetch_all()
            state = JobState.DONE
            self._events.put(finished)
            self._events.end()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever reads the events
            resumable = isinstance(error, FetchError | StoreError)
            state, problem = JobState.INTERRUPTED if resumable else JobState.FAILED, str(error)
            self._events.end(error)
        finally:
            with anyio.move_on_after(ENDING_SECONDS, shield=True):
                await self._tidy_up(state, problem)

    async def _tidy_up(self, state: JobState, problem: str | None) -> None:
        jobs = self._fetcher.jobs
        with suppress(StackError):  # what the fetch itself has to say is more important than this
            if state is JobState.FAILED:
                await self._unpin()
        if jobs is not None and self.job is not None:
            done, seconds = (self.bytes_done, self.bytes_total), anyio.current_time() - self._began
            with suppress(StackError):
                await jobs.end_job(self.job, state, problem, done=done, received=self.bytes_received, seconds=seconds)

    async def _fetch_all(self) -> FetchFinished:
        request, fetcher = self.request, self._fetcher
        self._began = anyio.current_time()
        names = path_names(request.path)
        target = await self._choose_target(names[-1] if names else request.name)
        if not request.dry_run:
            await anyio.to_thread.run_sync(targets.make_parents, target)
        tracker = self._track(names)
        for provider in request.providers[:1]:
            address = host_and_port(provider.addresses[0]) if provider.addresses else ""
            self._events.put(Connecting(peer=provider.peer, address=address))
        start_session = fetcher.exchange.session
        enclosure = await fetcher.access.for_fetch(request.root, request.secret) if fetcher.access is not None else None
        if fetcher.access is not None and enclosure is not None:
            self._store = fetcher.access.store(enclosure)
            start_session = partial(start_session, enclosure=enclosure)
        session_context = start_session(
            request.root,
            providers=request.providers,
            broadcast=request.broadcast,
            head_start=HEAD_START_SECONDS,
            seek=max(HEAD_START_SECONDS - request.waited, 0.0),
        )
        fetcher.begin(request.root)
        told = False
        try:
            with hold(self._store, request.root):
                async with session_context as session:
                    work = Work(
                        store=self._store,
                        gatherer=Gatherer(session, self._store),
                        tell=self._events.put,
                        tracker=tracker,
                        update=Update(self._store, self._events.put, delete=request.delete, dry_run=request.dry_run)
                        if request.update
                        else None,
                    )
                    self._work = work
                    async with task_group() as group:
                        group.start_soon(
                            watch,
                            work,
                            session,
                            request.patience,
                            fetcher.is_connected,
                            self._record,
                            fetcher.dialled,
                            fetcher.doubt,
                        )
                        target = await self._fetch_target(work, target, names)
                        await work.found.keep()
                        group.cancel_scope.cancel()
                    complete = not (request.is_partial or request.dry_run or work.skipped)
                    told = complete and tracker is not None and tracker.gives
                    if tracker is not None and told:
                        tracker.complete()  # those who follow hear of it before the session leaves them
                    if not request.dry_run:
                        secret = enclosure.secret if enclosure is not None else b""
                        await fetcher.conclude(request.root, request.providers, secret, work.gatherer.received)
        finally:
            if tracker is not None and not told:
                tracker.close()
        return FetchFinished(
            root=request.root,
            target=target,
            size=work.progress.done,
            files=work.files,
            received=work.gatherer.received,
            seconds=anyio.current_time() - self._began,
            already_complete=not (work.files_written or work.directories_made),
            skipped=work.skipped,
            deleted=work.update.deleted if work.update is not None else 0,
        )

    def _track(self, names: list[str]) -> LeafTracker | None:
        """Tell others what is here while it comes; not of a part of a root, nor of what is here as a whole already."""
        book = self._fetcher.book
        if book is None or names:
            return None
        known = book.ranges(self.request.root)
        if known is not None and known.complete:
            return None
        return LeafTracker(book, self.request.root, gives=in_place(self._store) is not None)

    async def _choose_target(self, name: str) -> Path:
        """Decide where it goes, and write down that it goes there."""
        request, jobs = self.request, self._fetcher.jobs
        known = await jobs.jobs() if jobs is not None else []
        same = [job for job in known if (job.root, job.path) == (request.root, request.path)]
        earlier = [job.target for job in same]
        if (request.update or request.contents) and request.out is not None:
            earlier.append(Path(os.path.abspath(request.directory / request.out)))
        target = await anyio.to_thread.run_sync(
            partial(
                targets.choose_target,
                request.directory,
                request.out,
                name,
                request.root,
                into=request.into_directory,
                earlier=earlier,
            )
        )
        self._resumes = target in [job.target for job in same]
        others = [job for job in same if job.state is JobState.RUNNING]
        running = await anyio.to_thread.run_sync(going_to, target, others) if others else []
        if running:
            raise Refused(f"{target} is being fetched already: it is job {running[0].id}")
        self.target = target
        if jobs is not None and not request.dry_run:
            job = await jobs.start_job(
                request.root, request.path, target, name=told(target.name), options=request.options
            )
            self.job = job.id
            if self._begun is not None:
                self._begun(self)
        return target

    async def _record(self) -> None:
        """Write down how far it is."""
        if self._fetcher.jobs is not None and self.job is not None:
            await self._fetcher.jobs.progress(self.job, self.bytes_done, self.bytes_total)

    async def _pin(self, name: str) -> None:
        """Keep the nodes from now on, for whoever asks us and for a fetch that goes on later."""
        keeper, root = pins(self._fetcher.store), self.request.root
        if keeper is not None and root not in [cid for cid, _ in await keeper.pins(kind=PinKind.SHARE)]:
            await keeper.add_pin(root, name, kind=PinKind.SHARE)
            self._pinned = True

    async def _unpin(self) -> None:
        keeper = pins(self._fetcher.store)
        if keeper is not None and self._pinned:
            await keeper.remove_pin(self.request.root, kind=PinKind.SHARE)

    async def _fetch_target(self, work: Work, target: Path, names: list[str]) -> Path:
        """Returns where it is: what is no tree goes into a directory that was named for what is in a tree."""
        if not self.request.dry_run:
            await self._pin(told(target.name))
        cid = await resolve_path(work.gatherer.node, self.request.root, names)
        block = await work.gatherer.get(cid)
        node = await read_node(cid, block)
        if node.links or not node.is_file:
            await work.gatherer.keep(cid, block)
        self.target = target = await self._settle(work, target, node, names[-1] if names else self.request.name)
        total = node.file_size if node.is_file else min(sum(link.size or 0 for link in node.links), FILE_SIZE_MAX)
        chosen = Chosen(self.request.include, self.request.exclude)
        is_part = bool(chosen) and node.is_directory
        work.progress.total = (await chosen_size(work, node, chosen) or 0) if is_part else total
        part = targets.part_path(target) if node.is_file else None
        there = await anyio.to_thread.run_sync(targets.bytes_there, target, part)
        if not self.request.dry_run:
            await check_room(work, node, total, target, there, is_part=is_part)
        await self._record()
        self._events.put(
            FetchStarted(
                root=self.request.root,
                name=told(self.request.name if self.request.contents else target.name),
                target=target,
                size=work.progress.total,
                files=0 if node.is_directory else 1,
            )
        )
        await self._fetch_node(work, node, block, target, chosen, there, total)
        if work.update is not None:
            work.update.check()
        work.progress.total = work.progress.done
        return target

    async def _settle(self, work: Work, target: Path, node: UnixFSNode, name: str) -> Path:
        """Where it goes, now that it is known what it is."""
        begun = None if self._resumes else await begun_here(work, self.request, node)
        if begun is None:
            return await anyio.to_thread.run_sync(settled, self.request, target, node, name)
        self._resumes = True
        if self._fetcher.jobs is not None and self.job is not None:
            await self._fetcher.jobs.move_job(self.job, begun)
        return begun

    async def _fetch_node(
        self, work: Work, node: UnixFSNode, block: bytes, target: Path, chosen: Chosen, there: int, total: int
    ) -> None:
        if node.is_file:
            await fetch_file(work, node, block, target, targets.part_path(target), target.parent)
        elif node.is_directory:
            from stack.files.fetch_tree import TreeFetch  # here: most of what is fetched is one file

            work.tracker = None
            if there and self._resumes and work.update is None:
                work.resumed(there)
            told = total if all(link.size for link in node.links) else None
            links, beside = self.request.unsafe_links, self.request.contents
            await TreeFetch(work, target, chosen, told=told, unsafe_links=links, beside=beside).run(node)
        elif node.kind is NodeKind.SYMLINK:
            await make_link(work, target.parent, (target.name,), node)
        else:
            raise DecodeError(f"{node.cid} is {node.kind.noun}, which is neither a file nor a directory")
