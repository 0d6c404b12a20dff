"""Files with holes: what is all zeros is not written where there is nothing."""

import errno
import os
from functools import partial

from stack.blocks import disk
from stack.sansio.interfaces import Buffer

PAGE_BYTES = 4096
"""What a file system makes holes of."""

_ZEROS = bytes(64)
_ZERO_PAGE = bytes(PAGE_BYTES)


def write_sparse(fd: int, payload: Buffer, offset: int, *, cached: bool = True) -> None:
    """As `write_at`, but leave holes holes where the payload is zeros, all of it or whole pages of the file: disk images are mostly
    empty. Raises OSError."""
    view = memoryview(payload)
    empty = view[:64].tobytes() == _ZEROS[: len(view)] and not bytes(view).strip(b"\0")
    if empty and _is_hole(fd, offset, len(view)):
        return
    write_at = disk.write_at if cached else partial(disk.write_at, cached=False)
    done = 0
    for start, end in _zeros(view, -offset % PAGE_BYTES):
        if _is_zero(fd, offset + start, end - start):
            if start > done:
                write_at(fd, [view[done:start]], offset + done)
            done = end
    if done < len(view):
        write_at(fd, [view[done:]], offset + done)


def _zeros(view: memoryview, first: int) -> list[tuple[int, int]]:
    """Where there is nothing but zeros, in runs of pages of which the first begins at `first`, and in what is before and after them.
    One byte of each page is all that is looked at of those that begin with something else."""
    first = min(first, len(view))
    count = (len(view) - first) // PAGE_BYTES
    last = first + count * PAGE_BYTES
    found = [(0, first)] if first and _all_zero(view[:first]) else []
    begins = view[first:last:PAGE_BYTES].tobytes()
    page = begins.find(0)
    while page >= 0:
        start = first + page * PAGE_BYTES
        if _all_zero(view[start : start + PAGE_BYTES]):
            if len(found) and found[-1][1] == start > first:
                found[-1] = found[-1][0], start + PAGE_BYTES
            else:
                found.append((start, start + PAGE_BYTES))
        page = begins.find(0, page + 1)
    if last < len(view) and _all_zero(view[last:]):
        found.append((last, len(view)))
    return found


def _all_zero(view: memoryview) -> bool:
    return view.tobytes() == _ZERO_PAGE[: len(view)]


def _is_zero(fd: int, offset: int, length: int) -> bool:
    """Whether zeros need not be written there: a hole, or a part of a page that has them already."""
    return _is_hole(fd, offset, length) or (length < PAGE_BYTES and os.pread(fd, length, offset) == _ZERO_PAGE[:length])


def _is_hole(fd: int, offset: int, length: int) -> bool:
    try:
        # The position that this moves is used by nobody: all else is said with its offset.
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:
        return error.errno == errno.ENXIO  # nothing but a hole from here to the end; else: it cannot be told
    except AttributeError:
        return False
