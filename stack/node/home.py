"""The home of a node: its folder, its lock, and where the process that holds it can be asked.

`STACK_HOME` moves everything; else the XDG data folder. One process holds the lock at a time; every other command of the
same home talks to that process, so no command ever answers "locked".
"""

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from stack.blocks.disk import NO_SPACE, make_private, read_regular, write_whole
from stack.errors import ConfigError, NoSpace, Refused, RepoTooNew
from stack.values import dataclass

HELD_BY_ANOTHER = frozenset({errno.EWOULDBLOCK, errno.EAGAIN})
"""What flock says of a lock that is taken; anything else (ENOLCK, EIO) says nothing about another process."""

HOME_VERSION = 1
"""Version of the folder's layout; a newer one is refused, never touched."""

SOCKET_PATH_MAX = 100
"""sun_path holds 108 bytes on Linux and 104 on macOS."""


OURS = (
    "lock", "version", "control", "port", "config.toml", "peers.json", "announcements", "daemon.log*", "jobs.sqlite*", "known.sqlite*",
    "swarm.key", "incoming", "blocks", "blocks/*", "blocks/packs/*", "owners", "owners/*",
)  # fmt: skip
"""What a node writes into its home. The folder may be one that holds other things too: those are left as they are. The key of the
identity is not here: one that others could read is refused (`keystore`)."""


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where a node listens for commands: a unix socket, or a TCP port with a token."""

    path: str | None
    host: str = ""
    port: int = 0
    token: bytes = b""

    def __repr__(self) -> str:
        return f"<ControlAddress {self.path or f'{self.host}:{self.port}'}>"

    def encode(self) -> str:
        """The line that is written into the home."""
        return f"unix {self.path}" if self.path else f"tcp {self.host} {self.port} {self.token.hex()}"

    @staticmethod
    def decode(line: str) -> "ControlAddress":
        """Read that line. Raises ConfigError."""
        match line.split(" "):
            case ["unix", *rest] if rest:
                return ControlAddress(" ".join(rest))
            case ["tcp", host, port, token] if port.isdigit():
                return ControlAddress(None, host, int(port), bytes.fromhex(token))
        raise ConfigError("the control address in the home is damaged")


def disk_usage(home: Path) -> int:
    """Bytes that the files of a node take on the disk, as `du` counts them. What else lies in the folder is not looked at."""
    found = {home, *(path for pattern in (*OURS, "identity.key*", "control.sock") for path in home.glob(pattern))}
    total = 0
    for path in found:
        with suppress(OSError):  # what is not needed any more goes meanwhile
            total += path.lstat().st_blocks * 512
    return total


def default_home() -> Path:
    """`STACK_HOME`, or the data folder of this user."""
    configured = os.environ.get("STACK_HOME")
    if configured:
        return Path(configured).expanduser().absolute()
    import platformdirs  # here: it costs 10 ms that a command with STACK_HOME need not pay

    return Path(platformdirs.user_data_dir("stack", appauthor=False))


class Home:
    """The folder of a node. `acquire` makes this process its holder; `release` lets go.

    Raises Refused when the folder cannot be written or is somebody else's, RepoTooNew, NoSpace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marker = path / "version"
        self.notices: tuple[str, ...] = ()
        """What the user should know of this home, a sentence each; known after `prepare` or `acquire`."""
        self._lock: int | None = None

    def __repr__(self) -> str:
        return f"<Home {self.path} {'held' if self.held else 'not held'}>"

    @property
    def held(self) -> bool:
        """Whether this process holds the home."""
        return self._lock is not None

    def acquire(self) -> bool:
        """Try to hold the home; False when another process does."""
        self.prepare()
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _refused(self.path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno in HELD_BY_ANOTHER:
                return False
            raise Refused(
                f"{self.path} cannot be locked ({error.strerror}), as on some network file systems; without its lock two"
                " processes would write into it. Set STACK_HOME to a folder on a disk of this computer."
            ) from error
        self._lock = lock
        try:
            self._mark()
        except BaseException:
            self.let_go()
            raise
        self.withdraw_address()  # one that was killed may have left its own behind
        return True

    def prepare(self) -> None:
        """Make the folder, or see to it that it, and what a node has written into it, is this user's alone: a laxer mode of
        ours is set right and told in `notices`. One of a newer version is left as it is."""
        try:
            make_private(self.path)
            status = self.path.stat()
            if status.st_uid != os.getuid():
                raise Refused(f"{self.path} belongs to another user. Set STACK_HOME to a folder of your own.")
            if status.st_mode & stat.S_ISVTX:
                raise Refused(
                    f"{self.path} is made for all users of this computer. Set STACK_HOME to a folder below it."
                )
            if status.st_mode & 0o077:
                self.path.chmod(stat.S_IMODE(status.st_mode) & 0o700)
                if self.path.stat().st_mode & 0o077:
                    raise Refused(
                        f"{self.path} is on a file system where others can read it. Set STACK_HOME to another."
                    )
                self.notices = (f"{self.path} was open to other users of this computer; now it is yours alone",)
            for path in (path for pattern in OURS for path in self.path.glob(pattern)):
                self._tighten(path)
            self.check_version()
        except OSError as error:
            raise _refused(self.path, error) from error

    def _tighten(self, path: Path) -> None:
        try:
            status = path.lstat()
        except FileNotFoundError:  # another process of this home removes what it needs no more
            return
        if status.st_uid != os.getuid():
            raise Refused(f"{path} belongs to another user: move it away")
        if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode):
            path.chmod(stat.S_IMODE(status.st_mode) & 0o700)

    def _mark(self) -> None:
        """A new home gets the number of its layout."""
        try:
            if not self._marker.exists():
                write_whole(self._marker, f"{HOME_VERSION}\n".encode())
        except OSError as error:
            raise _refused(self.path, error) from error

    def check_version(self) -> None:
        """Raises RepoTooNew for a home that a newer version has written, ConfigError, Refused."""
        marker = self._marker
        try:
            version = int(read_regular(marker))
        except FileNotFoundError:
            return
        except OSError as error:
            raise Refused(f"{marker} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{marker} is damaged: it should hold the number {HOME_VERSION}") from error
        if version > HOME_VERSION:
            raise RepoTooNew(
                f"{self.path} was written by a newer version of stack (layout {version}, this one knows {HOME_VERSION}): "
                "upgrade, or set STACK_HOME to another folder"
            )

    def release(self) -> None:
        """Stop being its holder; harmless when not held."""
        if self._lock is not None:
            self.withdraw_address()
            self.let_go()

    def let_go(self) -> None:
        """Give only the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def socket_path(self) -> str:
        """A path for the control socket that is short enough, in a folder that is ours alone. Raises Refused, OSError."""
        inside = str(self.path / "control.sock")
        if len(os.fsencode(inside)) <= SOCKET_PATH_MAX:
            return inside
        from tempfile import gettempdir  # here: seldom needed, and it takes 3 ms to load

        runtime = os.environ.get("XDG_RUNTIME_DIR") or str(Path(gettempdir()) / f"stack-{os.getuid()}")
        folder = Path(runtime) / "stack"
        make_private(folder)
        for place in (folder.parent, folder):
            status = place.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise Refused(
                    f"{place} is not a folder of yours alone, so another user could answer in place of this node:"
                    " remove it, or set XDG_RUNTIME_DIR to such a folder"
                )
        return str(folder / f"{hashlib.sha256(os.fsencode(inside)).hexdigest()[:20]}.sock")

    def announce_address(self, address: ControlAddress) -> None:
        """Tell other commands where the holder listens."""
        write_whole(self.path / "control", os.fsencode(address.encode()))

    def withdraw_address(self) -> None:
        """No longer listening."""
        (self.path / "control").unlink(missing_ok=True)

    def address(self) -> ControlAddress | None:
        """Where the holder listens, or None when nobody has said so (yet). Raises ConfigError for what is damaged, Refused."""
        try:
            return ControlAddress.decode(os.fsdecode(read_regular(self.path / "control")))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Refused(f"{self.path / 'control'} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError("the control address in the home is damaged") from error


def new_token() -> bytes:
    """A secret for a control socket that other users could reach."""
    return secrets.token_bytes(32)


def _refused(path: Path, error: OSError) -> Refused | NoSpace:
    if error.errno in NO_SPACE:
        return NoSpace(f"no space left for {path}")
    return Refused(f"cannot use {path} as home: {error.strerror}. Set STACK_HOME to a folder that can be written.")
