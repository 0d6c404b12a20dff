"""The module `os` of a file under test, with faults at places that a test chooses."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence

from stack.sansio.interfaces import Buffer

CALLS = frozenset(
    {
        "open",
        "close",
        "pwritev",
        "write",
        "fsync",
        "fdatasync",
        "ftruncate",
        "rename",
        "link",
        "unlink",
        "symlink",
        "mkdir",
    }
    | {"fchmod", "chmod", "utime", "stat", "fstat", "statvfs"}
)
"""What can fail: every call that reaches the file system while something is written."""

ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS)


class FaultyOs:
    """Stands in for `os`: counts calls, fails the `fail_at`-th (from 0) and, with `lasting`, all after it; writes in pieces.

    `monkeypatch.setattr(module, "os", FaultyOs(...))`. A close that fails has closed, as on Linux; cleaning up (unlink,
    close) works also while the rest fails, unless it is what fails first. An exception as `error` is a power cut: nothing
    works after it.
    """

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        error: int | BaseException = errno.EIO,
        lasting: bool = False,
        piece: int = 1 << 30,
    ) -> None:
        self.calls: list[str] = []
        self.synced: set[int] = set()
        """Inodes of files that were synced."""
        self._fail_at = fail_at
        self._error = error
        self._lasting = lasting
        self._piece = piece

    def __getattr__(self, name: str) -> object:
        function = getattr(os, name)
        return self.counted(name, function) if name in CALLS else function

    def counted(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        """A call that may fail: of `os`, or something else that reaches the file system."""

        def call(*args: object, **options: object) -> object:
            number = len(self.calls)
            self.calls.append(name)
            fails = number == self._fail_at
            cut = isinstance(self._error, BaseException)
            if self._lasting and self._fail_at is not None and number > self._fail_at:
                fails = name != "close" and (cut or name != "unlink")
            if fails:
                if name == "close":
                    function(*args)
                raise self._error if isinstance(self._error, BaseException) else _error(self._error)
            done = function(*args, **options)
            if name in ("fsync", "fdatasync"):
                self.synced.add(os.fstat(args[0]).st_ino)  # type: ignore[arg-type]
            return done

        return call

    def pwritev(self, fd: int, views: Sequence[Buffer], offset: int) -> int:
        """Takes at most `piece` bytes."""
        call = self.counted("pwritev", os.pwritev)
        first = memoryview(views[0])[: self._piece]
        return int(call(fd, [first] if len(first) >= self._piece else views, offset))  # type: ignore[call-overload]


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def every_fault(calls: Sequence[str]) -> Iterator[tuple[int, int, bool]]:
    """`(fail_at, error, lasting)` for each step of a run that made these calls."""
    for number in range(len(calls)):
        for error in ERRORS:
            yield number, error, False
            yield number, error, True
