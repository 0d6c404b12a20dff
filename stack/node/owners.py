"""For whom something is shared: a process that runs, known by a file in the home that it keeps locked as long as it lives.

So what a command shares ends with it however it ends, and lives on when another process takes the home over.
"""

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

from stack.blocks import disk
from stack.errors import Refused

FOLDER = "owners"


class Owner:
    """This process, as an owner of what it shares in a home. `close` ends that, and so does the end of the process."""

    def __init__(self, home: Path) -> None:
        """Raises Refused when the home cannot be written."""
        self.name = secrets.token_hex(8)
        self._path = home / FOLDER / self.name
        try:
            disk.make_private(home / FOLDER)
            self._fd = _locked(self._path)
        except OSError as error:
            raise Refused(f"{self._path} cannot be made: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"<Owner {self.name}>"

    def close(self) -> None:
        """No longer own anything."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._fd)


def living(home: Path) -> frozenset[str]:
    """The owners that run; what others have left is removed. Whoever cannot be asked counts as running.

    Raises StoreError when it cannot be told who they are.
    """
    found = []
    with disk.translated(f"looking who shares in {home}"):
        try:
            names = os.listdir(home / FOLDER)
        except FileNotFoundError:
            return frozenset()
    for name in names:
        try:
            fd = os.open(home / FOLDER / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        except OSError:
            found.append(name)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):
                os.unlink(home / FOLDER / name)
        except OSError:
            found.append(name)
        finally:
            os.close(fd)
    return frozenset(found)


def _locked(path: Path) -> int:
    """Raises OSError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return fd
        os.close(fd)  # somebody looked between the two calls and took it for a dead one
