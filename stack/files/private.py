"""What is never added: the home of the node, by whatever way one comes to it, and copies of its keys."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from stack.blocks.disk import NOT_THERE, read_regular
from stack.dag.unixfs.names import printable
from stack.errors import Refused
from stack.files.paths import INCOMING
from stack.files.scan import HOME_FILES

A_HOME = "the home of a node; its key is for nobody else"
A_KEY = "a key of this node, or another file of its home; it is for nobody else"

KEYS = ("identity.key", "swarm.key")
"""What the names of keys begin with: earlier ones stay beside them."""
KEY_BYTES_MAX = 64 * 1024


class IsPrivate(Refused):
    """A file is one of the node's own."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{printable(str(path))} is {A_KEY}")


class Private:
    """A home and what is in it. For worker threads. Command: `look`, once. Getters: `has_place`, `is_home`, `has_file`."""

    def __init__(self, home: Path | None) -> None:
        self._place = home
        self._home: os.stat_result | None = None
        self._inodes: set[tuple[int, int]] = set()
        self._keys: set[bytes] = set()
        self._sizes: set[int] = set()

    def look(self) -> None:
        """See what the home has; a home that is not there has nothing to hide. Raises OSError when it cannot be read."""
        if self._place is None:
            return
        self._place = Path(os.path.realpath(self._place))
        statuses: dict[str, os.stat_result] = {}
        try:
            self._home = os.stat(self._place)
            with os.scandir(self._place) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # a node is at work here
                        statuses[entry.name] = entry.stat(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return
        self._inodes = {(each.st_dev, each.st_ino) for each in statuses.values() if stat.S_ISREG(each.st_mode)}
        for name in statuses:
            if name.startswith(KEYS):
                self._look_at_key(self._place / name)
        self._keys.discard(b"")
        self._sizes = {len(key) for key in self._keys}

    def _look_at_key(self, path: Path) -> None:
        try:
            self._keys.add(read_regular(path, KEY_BYTES_MAX))
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise

    def has_place(self, path: Path) -> bool:
        """Whether something lies in a home, whatever it is called there: also where the home is mounted at another place, or the
        file system ignores case. What was piped in, and waits in the home, does not count. Raises OSError when it cannot be seen."""
        place = Path(os.path.realpath(path))
        if self._place is not None and place.is_relative_to(self._place / INCOMING):
            return False
        for parent in place.parents:
            with suppress(FileNotFoundError, PermissionError):
                if self.is_home(os.stat(parent)) or all((parent / name).exists() for name in HOME_FILES):
                    return True
        return False

    def is_home(self, status: os.stat_result) -> bool:
        """Whether a directory is this node's home, under whatever name."""
        return self._home is not None and os.path.samestat(status, self._home)

    def has_file(self, fd: int, status: os.stat_result) -> bool:
        """Whether an open file is one of the home's (a hard link), or a copy of a key."""
        if (status.st_dev, status.st_ino) in self._inodes:
            return True
        return status.st_size in self._sizes and os.pread(fd, KEY_BYTES_MAX, 0) in self._keys
