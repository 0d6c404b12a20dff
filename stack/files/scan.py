"""A directory that is to be added, looked through: what of it is taken, and why the rest is not."""

import os
import stat
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from stack.blocks.disk import let_go, open_below
from stack.dag.unixfs.names import LEADS_OUT, leads_out, printable, safe_name
from stack.dag.unixfs.options import ImportOptions
from stack.errors import DecodeError
from stack.files.chosen import Chosen, Selection
from stack.files.events import EXCLUDED, HIDDEN, IGNORED
from stack.files.ignored import GITIGNORE, STACKIGNORE, Ignored
from stack.values import dataclass

NO_TEXT = "its name is not UTF-8, so others could not use it"

HOME_FILES = {"identity.key", "version"}
"""What every home of a node has in it."""


Below = tuple[str, ...]
"""Names of directories, each in the one before."""


@dataclass(slots=True)
class Scanned:
    """What was found in a directory; lists are sorted downwards."""

    status: os.stat_result
    """Of the directory itself."""
    files: list[tuple[str, int]] = field(default_factory=list)
    """S_IFREG, S_IFLNK, or 0 for what is neither."""
    directories: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """With the reason."""
    passed: int = 0
    """Files that no pattern included."""
    had_names: bool = False
    is_home: bool = False
    """Of a node."""
    ignored: Ignored = field(default_factory=Ignored)
    """What holds in it."""


class Scanner:
    """Looks through directories, for worker threads. Command: `scan`."""

    def __init__(self, options: ImportOptions, selection: Selection) -> None:
        self.chosen = Chosen(selection.include, selection.exclude)
        self._selection = selection
        self._hidden = options.hidden
        self._ignore_files = (GITIGNORE, STACKIGNORE) if selection.gitignore else (STACKIGNORE,)

    def ignored(self) -> Ignored:
        """What holds in every tree. Raises Refused."""
        return Ignored.of_files(self._selection.ignore_files)

    def scan(self, base: Path, inside: Below, ignored: Ignored) -> Scanned:
        """A directory that is `inside` of a tree, where so much is ignored above it. No link is followed below `base`: who may write in
        a tree would have others' directories shared. Raises OSError."""
        directory = open_listed(base, inside)
        try:
            return self._scan(directory, inside, ignored)
        finally:
            let_go(directory)

    def _scan(self, directory: int, inside: Below, ignored: Ignored) -> Scanned:
        with os.scandir(directory) as entries:
            found = sorted(((entry.name, _kind(entry)) for entry in entries), reverse=True)
        kinds = dict(found)
        scanned = Scanned(os.fstat(directory), had_names=bool(found), is_home=kinds.keys() >= HOME_FILES)
        rules = [name for name in self._ignore_files if kinds.get(name) == stat.S_IFREG]
        scanned.ignored = ignored.below(directory, len(inside), rules)
        for name, kind in found:
            reason = self._left_out(directory, (*inside, name), kind, scanned.ignored)
            if reason is not None:
                scanned.left_out.append((name, reason))
            elif kind == stat.S_IFDIR:
                scanned.directories.append(name)
            elif self.chosen.matches((*inside, name)):
                scanned.files.append((name, kind))
            else:
                scanned.passed += 1
        return scanned

    def _left_out(self, directory: int, names: Sequence[str], kind: int, ignored: Ignored) -> str | None:
        """Why an entry is not taken."""
        name, is_directory = names[-1], kind == stat.S_IFDIR
        if name.startswith(".") and not self._hidden:
            return HIDDEN
        if self.chosen.excludes(names, is_directory=is_directory):
            return EXCLUDED
        if ignored.ignores(names, is_directory=is_directory):
            return IGNORED
        if not is_text(name):
            return NO_TEXT
        if not self._selection.for_others:
            return None
        try:
            safe_name(name)
        except DecodeError as error:
            return f"receivers cannot keep its name: {error}"
        if kind == stat.S_IFLNK and not self._selection.unsafe_links:
            target = os.readlink(name, dir_fd=directory)
            if leads_out(target, len(names) - 1):
                return f"{LEADS_OUT}, to {printable(target)}"
        return None


def open_listed(base: Path, inside: Below) -> int:
    """A directory of a tree, to be listed. Raises OSError: for a link too, below `base`."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if not inside:
        return os.open(base, flags)
    above = open_below(base, inside[:-1])
    try:
        return os.open(inside[-1], flags | os.O_NOFOLLOW, dir_fd=above)
    finally:
        let_go(above)


def is_text(name: str) -> bool:
    """Whether all systems can have this name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0
