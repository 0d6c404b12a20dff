"""The leaves of a local file: read, cut and hashed in worker threads, several pieces at once, told in the file's order.

A piece is read into a buffer that its thread keeps, never mapped: a mapped file that is truncated kills the process.
"""

import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
import anyio.to_thread

from stack.blocks.disk import read_at
from stack.dag.unixfs.builder import leaf_block, leaf_frame
from stack.dag.unixfs.chunkers import CHUNK_SIZE_MAX, Chunker, parse_chunker
from stack.dag.unixfs.data import NodeKind, UnixTime
from stack.dag.unixfs.options import ImportOptions
from stack.files.tasks import task_group
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW

PIECE_BYTES = 4 * 1024 * 1024
"""Hashed in one worker call: some milliseconds of work, beside which the call costs nothing."""

READ_BYTES = 1024 * 1024
"""Read at once, and hashed while it is still in the core's cache; whole leaves, so more where a leaf is larger."""

SHA2_256 = b"\x12\x20"
"""What a multihash of it begins with."""

HASHERS = max(2, min(os.cpu_count() or 2, 8))
"""Worker calls at a time: SHA-256 runs at 1.5 GB/s on a core, and more cores than disks can feed are of no use."""


class CutLeaf(NamedTuple):
    """A leaf that has been hashed."""

    cid: Cid
    offset: int
    length: int
    prefix: bytes
    suffix: bytes
    block: bytes | None
    """The whole block, where it was asked for."""
    whole_file: bool
    """Its block records mode and time."""


class Shortened(Exception):
    """The file has become shorter while it was read."""


class OpenFile(NamedTuple):
    """A file that is being cut, and how."""

    fd: int
    size: int
    options: ImportOptions
    mode: int | None
    mtime: UnixTime | None
    keep_blocks: bool

    def known_leaf(self, offset: int, length: int, digest: bytes) -> CutLeaf:
        """A leaf of which the SHA-256 is known: a raw one, or else all of the file, with its mode and time."""
        raw = self.options.raw_leaves
        prefix, suffix = (b"", b"") if raw else leaf_frame(NodeKind.FILE, length, mode=self.mode, mtime=self.mtime)
        cid = self.options.cid_of(RAW if raw else DAG_PB, SHA2_256 + digest)
        return CutLeaf(cid, offset, length, prefix, suffix, block=None, whole_file=not raw)

    def leaf(self, offset: int, payload: memoryview | bytes) -> CutLeaf:
        """Hash one leaf."""
        length = len(payload)
        # Mode and time of a file that is one leaf stand in that leaf; otherwise the builder puts them into the root.
        whole = length == self.size and not (self.options.raw_leaves or self.options.trickle)
        mode, mtime = (self.mode, self.mtime) if whole else (None, None)
        cid, prefix, suffix = leaf_block(self.options, payload, mode=mode, mtime=mtime)
        block = b"".join((prefix, payload, suffix)) if self.keep_blocks else None
        return CutLeaf(cid, offset, length, prefix, suffix, block, whole)


Take = Callable[[list[CutLeaf]], Awaitable[None]]


async def cut_file(file: OpenFile, hashers: anyio.CapacityLimiter, take: Take) -> None:
    """Tell `take` all leaves in order, a list at a time; none for an empty file. Raises Shortened, OSError."""
    chunker = parse_chunker(file.options.chunker)
    if chunker.fixed_size is not None:
        await _cut_fixed(file, chunker.fixed_size, hashers, take)
        return
    cutter = _ContentCutter(file, chunker)
    while leaves := await anyio.to_thread.run_sync(cutter.next_leaves, limiter=hashers):
        await take(leaves)


def cut_small_file(file: OpenFile) -> list[CutLeaf]:
    """All leaves of a file of at most `PIECE_BYTES`, in this thread. Raises Shortened, OSError."""
    chunker = parse_chunker(file.options.chunker)
    if chunker.fixed_size is not None:
        return _hash_range(file, chunker.fixed_size, 0, file.size)
    cutter = _ContentCutter(file, chunker)
    leaves: list[CutLeaf] = []
    while more := cutter.next_leaves():
        leaves += more
    return leaves


class _Piece:
    """A part of the file that is being hashed."""

    __slots__ = ("done", "leaves")

    def __init__(self) -> None:
        self.leaves: list[CutLeaf] = []
        self.done = anyio.Event()


async def _cut_fixed(file: OpenFile, leaf_size: int, hashers: anyio.CapacityLimiter, take: Take) -> None:
    step = max(PIECE_BYTES // leaf_size, 1) * leaf_size

    async def hash_piece(piece: _Piece, start: int) -> None:
        stop = min(start + step, file.size)
        piece.leaves = await anyio.to_thread.run_sync(_hash_range, file, leaf_size, start, stop, limiter=hashers)
        piece.done.set()

    async with task_group() as group:
        ahead: deque[_Piece] = deque()
        for start in range(0, file.size, step):
            if len(ahead) > HASHERS:
                first = ahead.popleft()
                await first.done.wait()
                await take(first.leaves)
            ahead.append(_Piece())
            group.start_soon(hash_piece, ahead[-1], start)
        for piece in ahead:
            await piece.done.wait()
            await take(piece.leaves)


class _Buffers(threading.local):
    """A buffer for each thread that hashes: fresh memory would cost as much as the hashing, in page faults."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(max(READ_BYTES, CHUNK_SIZE_MAX)))


_buffers = _Buffers()


def _hash_range(file: OpenFile, leaf_size: int, start: int, stop: int) -> list[CutLeaf]:
    """The leaves between two offsets. Runs in a worker thread."""
    leaves = []
    step = max(READ_BYTES // leaf_size, 1) * leaf_size
    for position in range(start, stop, step):
        view = _buffers.view[: min(step, stop - position)]
        if read_at(file.fd, view, position) < len(view):
            raise Shortened
        leaves += [
            file.leaf(position + offset, view[offset : offset + leaf_size]) for offset in range(0, len(view), leaf_size)
        ]
    return leaves


class _ContentCutter:
    """Cuts where the content says; one piece after the other, because each cut depends on the one before."""

    def __init__(self, file: OpenFile, chunker: Chunker) -> None:
        self._file = file
        self._chunker = chunker
        self._read = 0
        self._cut = 0
        self._rest = b""

    def next_leaves(self) -> list[CutLeaf]:
        """The next leaves, none at the end of the file. Runs in a worker thread."""
        leaves: list[CutLeaf] = []
        while not leaves and self._read < self._file.size:
            view = _buffers.view[: min(READ_BYTES, self._file.size - self._read)]
            if read_at(self._file.fd, view, self._read) < len(view):
                raise Shortened
            self._read += len(view)
            lengths = self._chunker.feed(view)
            if self._read == self._file.size:
                lengths = lengths + self._chunker.finish()
            data = memoryview(self._rest + view)
            position = 0
            for length in lengths:
                leaves.append(self._file.leaf(self._cut, data[position : position + length]))
                self._cut += length
                position += length
            self._rest = bytes(data[position:])
        return leaves
