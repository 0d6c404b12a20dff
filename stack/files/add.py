"""Files and trees become DAGs where they lie: read and hashed once, recorded in place, the same CIDs as Kubo's.

Nothing is copied unless that is asked for, or the store cannot record files. What may not be read is left out and told, and so is a
node's home: its key would go with it.
"""

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from stack.blocks.disk import ABSENT, let_go, open_below, patiently
from stack.blocks.interfaces import BlockStore, PinKind, SourceChanged
from stack.dag.unixfs.builder import FileRoot
from stack.dag.unixfs.chunkers import parse_chunker
from stack.dag.unixfs.data import UnixTime
from stack.dag.unixfs.directory import Entry, build_directory, symlink_block
from stack.dag.unixfs.names import printable
from stack.dag.unixfs.options import ImportOptions
from stack.errors import Refused
from stack.files.add_file import FileAdder, Keeper
from stack.files.add_small import TOGETHER, add_small
from stack.files.chosen import Selection
from stack.files.events import HIDDEN, NOT_WANTED, Added, AddEvent, AddProgress, EntryAdded, EntrySkipped
from stack.files.ignored import Ignored
from stack.files.known import KnownFiles
from stack.files.paths import DEPTH_MAX
from stack.files.private import A_HOME, A_KEY, IsPrivate, Private
from stack.files.scan import Below, Scanned, Scanner, is_text
from stack.files.storage import hold, pins
from stack.files.tasks import task_group
from stack.values import dataclass

FILES_AT_ONCE = 8
"""Files in work at a time: while one waits for the index, others are read."""

PROGRESS_SECONDS = 0.1
DENIED = "permission denied"
VANISHED = "it vanished while it was added"
NOT_A_FILE = "not a file"
CHANGED = "it changed while it was added"
TOO_DEEP = f"more than {DEPTH_MAX} directories deep"

Place = tuple[Path, str]
"""Where something lies that a user named, and what it was called."""


@dataclass(slots=True)
class _Listing:
    """A directory whose entries are being added."""

    base: Path
    """The directory that was named."""
    inside: Below
    """How it lies there."""
    shown: str
    scanned: Scanned
    entries: list[Entry] = field(default_factory=list)


class Adder:
    """One import. Used once: `add`."""

    def __init__(
        self,
        store: BlockStore | None,
        options: ImportOptions,
        *,
        copy: bool = False,
        tell: Callable[[AddEvent], None] | None = None,
        room: Callable[[], Awaitable[None]] | None = None,
        home: Path | None = None,
        known: KnownFiles | None = None,
        selection: Selection | None = None,
    ) -> None:
        """Without a store nothing is kept: only the CIDs are computed. With `copy` the leaves go into the store too. `room` is awaited
        before each entry: it returns when whoever is told can take more. Nothing of `home` is added; what is `known` of files
        that have not changed is not read again. `selection` says what is taken of the trees that are named."""
        self._store = store
        self._options = options
        self._tell = tell if tell is not None else lambda event: None
        self._room = room if room is not None else anyio.lowlevel.checkpoint
        self._keeper = Keeper(store, copy=copy)
        self._private = Private(home)
        self._file_adder = FileAdder(options, self._keeper, self._progressed, known, self._private)
        self._selection = selection or Selection()
        self._scanner = Scanner(options, self._selection)
        self._ignored = Ignored()
        self._at_once = anyio.Semaphore(FILES_AT_ONCE)
        self._done = self._total = 0
        self._told_at = 0.0
        self._files = self._skipped = self._hidden = 0

    async def add(self, paths: Sequence[Path], *, pin: PinKind | None = None) -> Added:
        """Import these; several become entries of one directory made for them. With `pin` the root is pinned in the end.

        A link that is named is followed; inside of a tree links stay links. Raises Refused for what cannot be read at all, for a
        home, for names that are no text and for equal ones, and where no file is among those included; SourceChanged when a file does
        not hold still; NoSpace, StoreError, LimitExceeded. Below a directory that was named all these are left out and told, but for what
        the system or the disk cannot say now: no descriptors, an error of the disk.
        """
        places = await anyio.to_thread.run_sync(_places, paths)
        try:
            await anyio.to_thread.run_sync(patiently, self._private.look)
        except OSError as error:
            place = printable(str(error.filename or "the home of this node"))
            raise Refused(f"{place} cannot be read ({error.strerror}), so no copy of it could be kept back") from error
        self._ignored = await anyio.to_thread.run_sync(self._scanner.ignored)
        self._total = await anyio.to_thread.run_sync(self._total_size, [path for path, _ in places])
        if self._store is None:
            return await self._add_all(places)
        with hold(self._store):
            added = await self._add_all(places)
            keeper = pins(self._store)
            if pin is not None and keeper is not None:
                await keeper.add_pin(added.cid, added.name, kind=pin)
            return added

    async def _add_all(self, places: Sequence[Place]) -> Added:
        names = [name for _, name in places]
        is_alone = len(places) == 1 and not self._options.wrap
        if is_alone and await anyio.to_thread.run_sync(os.path.isfile, places[0][0]):
            self._file_adder.add_root()
        entries = [await self._add_top(*place) for place in places]
        self._scanner.chosen.took(self._files)
        if (nothing := self._scanner.chosen.nothing()) is not None:
            raise Refused(nothing)
        leaf_size = 0
        if len(entries) > 1 or self._options.wrap:
            cid = (await self._build("", entries, None, None)).cid
        else:
            cid = entries[0].cid
            if await anyio.to_thread.run_sync(os.path.isfile, places[0][0]):
                leaf_size = parse_chunker(self._options.chunker).fixed_size or 0
        await self._keeper.flush()
        return Added(
            cid=cid,
            name=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more",
            size=self._done,
            files=self._files,
            skipped=self._skipped,
            hidden=self._hidden,
            leaf_size=leaf_size,
        )

    async def _add_top(self, path: Path, name: str) -> Entry:
        """Something that was named by the user: what cannot be read of it is an error."""
        if not is_text(name):
            where = printable(str(path.parent))
            raise Refused(f"the name {printable(name)} in {where} is not UTF-8, so others could not use it: rename it")
        try:
            status = await anyio.to_thread.run_sync(os.lstat, path)
            if await anyio.to_thread.run_sync(self._private.has_place, path):
                raise Refused(f"{printable(str(path))} belongs to {A_HOME}")
            if stat.S_ISDIR(status.st_mode):
                return await self._add_tree(path, name)
            if not stat.S_ISREG(status.st_mode):
                raise Refused(f"{printable(str(path))} is neither a file nor a directory")
            return await self._add_entry(path, (), name, stat.S_IFMT(status.st_mode))
        except OSError as error:
            raise _unreadable(path, error) from error

    async def _add_tree(self, path: Path, name: str) -> Entry:
        """A directory with everything below it; goes down one branch at a time, with the listings above it in memory."""
        above = [await self._list(path, (), name, self._ignored)]
        if self._is_home(above[0]):
            raise Refused(f"{printable(str(path))} is {A_HOME}")
        await self._tell_left_out(above[0])
        while True:
            listing = above[-1]
            if listing.scanned.files:
                await self._add_files(listing)
            if listing.scanned.directories:
                await self._room()
                name = listing.scanned.directories.pop()
                shown = f"{listing.shown}/{name}"
                try:
                    below = await self._list(path, (*listing.inside, name), shown, listing.scanned.ignored)
                except OSError as error:
                    self._skip(path.joinpath(*listing.inside, name), shown, error)
                    continue
                if self._is_home(below):
                    self._left_out(shown, A_HOME)
                elif len(above) > DEPTH_MAX and self._selection.for_others:
                    self._left_out(shown, TOO_DEEP)
                else:
                    await self._tell_left_out(below)
                    above.append(below)
                continue
            above.pop()
            if above and self._scanner.chosen.includes and not listing.entries:
                continue
            status = listing.scanned.status
            mtime = UnixTime.of_nanoseconds(status.st_mtime_ns)
            attributes = self._options.attributes(stat.S_IMODE(status.st_mode), mtime)
            entry = await self._build(listing.shown, listing.entries, *attributes)
            if not above:
                return entry
            # As Kubo: a directory that holds nothing but directories which are left out is kept, empty.
            if listing.scanned.had_names or self._options.empty_directories:
                above[-1].entries.append(entry)

    async def _list(self, base: Path, inside: Below, shown: str, ignored: Ignored) -> _Listing:
        scanned = await anyio.to_thread.run_sync(patiently, lambda: self._scanner.scan(base, inside, ignored))
        return _Listing(base, inside, shown, scanned)

    def _is_home(self, listing: _Listing) -> bool:
        return listing.scanned.is_home or self._private.is_home(listing.scanned.status)

    async def _tell_left_out(self, listing: _Listing) -> None:
        """Of what is not taken of a directory."""
        self._scanner.chosen.passed(listing.scanned.passed)
        for name, reason in listing.scanned.left_out:
            await self._room()
            self._left_out(f"{listing.shown}/{name}", reason)

    async def _add_files(self, listing: _Listing) -> None:
        async with task_group() as group:
            files = listing.scanned.files
            while files:
                await self._room()
                await self._at_once.acquire()
                some = files[: -TOGETHER - 1 : -1]
                del files[-TOGETHER:]
                group.start_soon(self._add_some, group, listing, some)

    async def _add_some(self, group: TaskGroup, listing: _Listing, some: Sequence[tuple[str, int]]) -> None:
        """Entries of a directory: small files together, the others one by one."""
        try:
            names = [name for name, kind in some if kind == stat.S_IFREG]
            roots = await add_small(self._file_adder, listing.base, listing.inside, names)
        finally:
            self._at_once.release()
        for name, root in roots.items():
            shown = f"{listing.shown}/{name}"
            self._progressed(shown, root.size)
            listing.entries.append(self._added(shown, root))
        for name, kind in some:
            if name not in roots:
                await self._at_once.acquire()
                group.start_soon(self._add_below, listing, name, kind)

    async def _add_below(self, listing: _Listing, name: str, kind: int) -> None:
        """An entry of a directory; what cannot be read is left out."""
        inside, shown = (*listing.inside, name), f"{listing.shown}/{name}"
        try:
            if kind:
                listing.entries.append(await self._add_entry(listing.base, inside, shown, kind))
            else:
                self._left_out(shown, NOT_A_FILE)
        except OSError as error:
            self._skip(listing.base.joinpath(*inside), shown, error)
        except SourceChanged:
            self._left_out(shown, CHANGED)
        except IsPrivate:
            self._left_out(shown, A_KEY)
        finally:
            self._at_once.release()

    async def _add_entry(self, base: Path, inside: Below, shown: str, kind: int) -> Entry:
        """A file or a symbolic link, at `base` or `inside` of it. Raises OSError, SourceChanged."""
        if kind == stat.S_IFLNK:
            leads_to, mtime_ns = await anyio.to_thread.run_sync(_read_link, base, inside)
            _, mtime = self._options.attributes(0, UnixTime.of_nanoseconds(mtime_ns))
            cid, block = symlink_block(self._options, leads_to, mtime=mtime)
            await self._keeper.node(cid, block)
            return self._added(shown, FileRoot(cid, len(block), len(block)))
        return self._added(shown, await self._file_adder.add(base, inside, shown))

    def _added(self, shown: str, root: FileRoot) -> Entry:
        self._files += 1
        self._tell(EntryAdded(cid=root.cid, path=shown, size=root.size))
        return Entry(shown.rpartition("/")[2], root.cid, root.dag_size)

    async def _build(self, shown: str, entries: list[Entry], mode: int | None, mtime: UnixTime | None) -> Entry:
        builder = build_directory(self._options, entries, mode=mode, mtime=mtime)
        while True:
            try:
                await self._keeper.node(*next(builder))
            except StopIteration as stop:
                cid, dag_size, _ = stop.value
                self._tell(EntryAdded(cid=cid, path=shown, size=dag_size))
                return Entry(shown.rpartition("/")[2], cid, dag_size)

    def _skip(self, path: Path, shown: str, error: OSError) -> None:
        """Leave out what is not there, or not for us. Raises Refused where that is not known: receivers remove what is left out."""
        if error.errno not in ABSENT:
            raise _unreadable(path, error) from error
        reason = error.strerror or str(error)
        if isinstance(error, PermissionError):
            reason = DENIED
        elif isinstance(error, FileNotFoundError):
            reason = VANISHED
        elif error.errno in (errno.ELOOP, errno.ENOTDIR):
            reason = CHANGED
        self._left_out(shown, reason)

    def _left_out(self, shown: str, reason: str) -> None:
        self._skipped += reason not in NOT_WANTED
        self._hidden += reason == HIDDEN
        self._tell(EntrySkipped(path=shown, reason=reason))

    def _total_size(self, paths: Sequence[Path]) -> int:
        """Bytes of all files, for the progress bar; what cannot be read counts nothing. For a worker thread."""
        total = 0
        waiting: list[tuple[Path, Below, Ignored]] = [(path, (), self._ignored) for path in paths]
        while waiting:
            base, inside, ignored = waiting.pop()
            path = base.joinpath(*inside)
            try:
                scanned = self._scanner.scan(base, inside, ignored)
            except NotADirectoryError:
                with suppress(OSError):
                    total += os.lstat(path).st_size
                continue
            except OSError:
                continue  # it will be told when it is its turn
            waiting += [(base, (*inside, name), scanned.ignored) for name in scanned.directories]
            for name, kind in scanned.files:
                if kind == stat.S_IFREG:
                    with suppress(OSError):
                        total += os.lstat(f"{path}/{name}").st_size
        return total

    def _progressed(self, shown: str, length: int) -> None:
        self._done += length
        now = anyio.current_time()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._tell(AddProgress(path=shown, bytes_done=self._done, bytes_total=max(self._total, self._done)))


def _read_link(base: Path, inside: Below) -> tuple[str, int]:
    if not inside:
        return os.readlink(base), os.lstat(base).st_mtime_ns
    directory = open_below(base, inside[:-1])
    try:
        name = inside[-1]
        return os.readlink(name, dir_fd=directory), os.lstat(name, dir_fd=directory).st_mtime_ns
    finally:
        let_go(directory)


def _unreadable(path: Path, error: OSError) -> Refused:
    return Refused(f"{printable(str(path))} cannot be read: {error.strerror}")


def place_of(path: Path) -> Path:
    """Where what a user named lies: a link that is named is followed. Raises Refused for one that leads nowhere."""
    absolute = Path(os.path.abspath(path))
    if not absolute.is_symlink():
        return absolute
    try:
        return Path(os.path.realpath(absolute, strict=True))
    except OSError as error:
        raise Refused(f"the link {printable(str(path))} leads nowhere: {error.strerror}") from error


def _places(paths: Sequence[Path]) -> list[Place]:
    named: dict[str, Path] = {}
    for path in dict.fromkeys(Path(os.path.abspath(path)) for path in paths):
        if path.name in named:
            both = f"{printable(str(named[path.name]))} and {printable(str(path))}"
            name = printable(path.name)
            raise Refused(f"{both} are both called {name}: give them other names, or share them one by one")
        named[path.name] = path
    return [(place_of(path), name) for name, path in named.items()]
