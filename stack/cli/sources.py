"""What is named on a command line to be read: files and directories as they lie, streams, and what has no place of its own."""

import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import anyio
import anyio.to_thread
import click

from stack.blocks.claims import claim
from stack.blocks.disk import make_private, write_at
from stack.cli.types import existing
from stack.files.paths import INCOMING

STDIN = "-"
KEPT_SECONDS = 86_400.0
"""What a killed command left in the folder for input from pipes goes after a day; clocks jump, and a share may last longer: what
somebody still holds stays, however old it is."""

PIECE = 1 << 20
FIRST_BYTES = 2 << 20
"""What a block or a message may have."""


def open_input(name: str) -> BinaryIO:
    """A file, or stdin for `-`. Raises click's usage error."""
    if name == STDIN:
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise click.BadParameter(f"{name}: {error.strerror}") from error


async def pieces_of(file: BinaryIO) -> AsyncIterator[bytes]:
    """The bytes of a file or stream. While nothing comes, no thread waits for it: the process could not end before the thread."""
    with file:
        while True:
            try:
                await anyio.wait_readable(file)
            except (OSError, ValueError):
                pass  # nothing that can be waited for: a file, or bytes in memory
            if not (piece := await anyio.to_thread.run_sync(_read, file)):
                return
            yield piece


async def read_first(file: BinaryIO) -> AsyncIterator[bytes]:
    """The same; what a block or a message may have is read at once. To be called before the home is asked for: whoever writes it may be
    another command of this home, which ends when nobody needs it any more."""
    pieces = pieces_of(file)
    first, most = [], FIRST_BYTES
    async for piece in pieces:
        first.append(piece)
        if (most := most - len(piece)) < 0:
            break

    async def all_of_them() -> AsyncIterator[bytes]:
        for piece in first:
            yield piece
        async for piece in pieces:
            yield piece

    return all_of_them()


def _read(file: BinaryIO) -> bytes:
    return file.read1(PIECE) if isinstance(file, BufferedReader | BytesIO) else file.read(PIECE)


class Source(NamedTuple):
    """Something to be read."""

    path: Path
    stream: BinaryIO | None
    """Set when it cannot be read where it lies: a pipe, or a file that does not say how much is in it."""


def sources_of(paths: tuple[str, ...]) -> list[Source]:
    """What was named; without a name, stdin when something is piped into it. Raises click's usage error."""
    if not paths and not sys.stdin.isatty():
        paths = (STDIN,)
    if not paths:
        raise click.UsageError("name a file or a directory; - is what is piped in")
    sources = [_source(path) for path in paths]
    if sum(source.stream is sys.stdin.buffer for source in sources) > 1:
        raise click.UsageError("what is piped in can be read once")
    return sources


def _source(path: str) -> Source:
    if path in (STDIN, "/dev/stdin"):
        if (place := _regular(0)) is not None:
            return Source(place, None)
        return Source(Path("stdin"), sys.stdin.buffer)
    place = existing(path)
    try:
        if _has_no_size(place, place.stat()):
            return Source(Path(place.name), place.open("rb", buffering=0))
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    return Source(place, None)


def _regular(fd: int) -> Path | None:
    """Where the file lies that stdin was redirected from, if it is one that can be read there from its start."""
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
            place = Path(os.path.realpath(f"/dev/fd/{fd}"))
            return place if os.path.samestat(place.stat(), os.fstat(fd)) else None
    except OSError:
        pass
    return None


def _has_no_size(place: Path, status: os.stat_result) -> bool:
    """A pipe that the shell made (`<(...)`), or a file of procfs; a FIFO with a place of its own may never have a writer."""
    if stat.S_ISFIFO(status.st_mode):
        return str(place).startswith(("/dev/", "/proc/")) or not os.path.exists(os.path.realpath(place))
    return stat.S_ISREG(status.st_mode) and os.path.realpath(place).startswith(("/proc/", "/sys/"))


async def _named(path: Path, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same; what the system says when it does not read on says which file too. Raises OSError."""
    try:
        async for piece in pieces:
            yield piece
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@asynccontextmanager
async def at_a_place(source: Source, home: Path) -> AsyncIterator[Path]:
    """Where a source can be read: a stream is written down in the home first, and gone afterwards. Raises OSError."""
    if source.stream is None:
        yield source.path
        return
    from tempfile import TemporaryDirectory  # here: what is named mostly lies somewhere

    stream, folder = source.stream, home / INCOMING
    make_private(folder)
    with TemporaryDirectory(dir=folder) as own:
        place = Path(own, source.path.name)
        with place.open("xb", buffering=0) as out:  # noqa: ASYNC230 - it is new, and ours
            claim(out.fileno())
            _sweep(folder, Path(own))
            offset = 0
            async for piece in _named(source.path, pieces_of(stream)):
                await anyio.to_thread.run_sync(write_at, out.fileno(), [piece], offset)
                offset += len(piece)
            yield place


def _sweep(folder: Path, own: Path) -> None:
    """Remove what is old and nobody's. Where `own` does not look held either, the file system has no locks, and says nothing of others."""
    if not _is_held(own):
        return
    import shutil

    with os.scandir(folder) as left:
        for entry in left:
            with suppress(OSError):  # another command sweeps too
                is_old = entry.stat(follow_symlinks=False).st_mtime < time.time() - KEPT_SECONDS
                if is_old and not _is_held(Path(entry)):
                    shutil.rmtree(entry.path, ignore_errors=True)


def _is_held(own: Path) -> bool:
    """Whether a command still has the file that it wrote down there. Raises OSError."""
    for place in own.iterdir():
        fd = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not claim(fd):
                return True
        finally:
            os.close(fd)
    return False
