"""What the ignore files of a tree leave out of it: lines as in `.gitignore`, which hold for the directory they lie in.

Source: gitignore(5). Each line becomes names and `**`, which are compared with those of a path one by one: a regular expression for the
whole would take a stranger's line for hours of work.
"""

import os
import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from stack.errors import Refused

STACKIGNORE = ".stackignore"
GITIGNORE = ".gitignore"

BYTES_MAX = 1 << 20
"""Of an ignore file that is read."""

_ANYWHERE = None
"""`**`: any directories, or none."""

_ANYTHING = re.compile(translate("*"))


class _Line(NamedTuple):
    names: Sequence[re.Pattern[str] | None]
    takes_back: bool
    """What fits is not ignored."""
    for_directories: bool

    def fits(self, names: Sequence[str]) -> bool:
        """Whether a path is as this line says."""
        here = there = 0
        again: tuple[int, int] | None = None
        while there < len(names):
            pattern = self.names[here] if here < len(self.names) else _NOTHING
            if pattern is _ANYWHERE:
                again = here + 1, there
                here += 1
            elif pattern.match(names[there]):
                here, there = here + 1, there + 1
            elif again is not None:
                again = again[0], again[1] + 1
                here, there = again
            else:
                return False
        return here == len(self.names)


_NOTHING = re.compile(r"(?!)")


class Ignored:
    """The ignore files that hold in a directory; frozen. Getter: `ignores`. `below` gives those that hold in one below it."""

    __slots__ = ("_files",)

    def __init__(self, files: Sequence[tuple[int, Sequence[_Line]]] = ()) -> None:
        self._files = tuple(files)
        """Each with the depth of its directory and its lines; what counts most is the last of each."""

    @classmethod
    def of_files(cls, files: Sequence[Path]) -> "Ignored":
        """Those that were named, as if they lay in the tree's own directory. Raises Refused."""
        try:
            return cls([(0, _lines(path)) for path in files])
        except OSError as error:
            raise Refused(f"the ignore file {error.filename} cannot be read: {error.strerror}") from error

    def below(self, directory: int, depth: int, names: Sequence[str]) -> "Ignored":
        """With these files of an open directory that lies so deep in the tree. Raises OSError."""
        if not names:
            return self

        def within(name: str, flags: int) -> int:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)

        return Ignored([*self._files, *((depth, _lines(name, within)) for name in names)])

    def ignores(self, names: Sequence[str], *, is_directory: bool) -> bool:
        """Whether what has this path in the tree is left out, where what is above it is not: the last line that fits decides, of the
        file that lies deepest."""
        for depth, lines in reversed(self._files):
            inside = names[depth:]
            for line in reversed(lines):
                if (is_directory or not line.for_directories) and line.fits(inside):
                    return not line.takes_back
        return False


def _lines(path: Path | str, opener: Callable[[str, int], int] | None = None) -> list[_Line]:
    with open(path, "rb", opener=opener) as file:
        text = file.read(BYTES_MAX).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    return [line for row in text.split("\n") if (line := _line(row.removesuffix("\r"))) is not None]


def _line(row: str) -> _Line | None:
    """None for what leaves nothing out."""
    if row.startswith("#"):
        return None
    text = re.sub(r"((?:[^\\ ]|\\.| +(?=[^ ]))*) *$", r"\1", row)
    takes_back, text = text.startswith("!"), text.removeprefix("!")
    for_directories, text = text.endswith("/"), text.removesuffix("/")
    if not text:
        return None
    segments = text.removeprefix("/").split("/")
    names: list[re.Pattern[str] | None] = [] if "/" in text else [_ANYWHERE]
    for segment in segments:
        shell = _shell(segment)
        if shell is None:
            return None
        is_anywhere = segment == "**" and len(segments) > 1
        names.append(_ANYWHERE if is_anywhere else re.compile(translate(shell)))
    if names[-1] is _ANYWHERE:
        names.append(_ANYTHING)  # what is in a directory, and not itself
    return _Line(names, takes_back, for_directories)


def _shell(segment: str) -> str | None:
    """As the pattern of a shell that knows no escapes; None for what fits no name."""
    shell, position = "", 0
    while position < len(segment):
        character = segment[position]
        if character == "\\":
            position += 1
            if position == len(segment):
                return None
            character = segment[position]
            shell += f"[{character}]" if character in "*?[" else character
        elif character == "[":
            start = position + 1 + (segment[position + 1 : position + 2] in ("!", "^"))
            end = segment.find("]", start + 1)  # one that comes first is one of the characters
            if end < 0:
                return None
            shell += f"[{'!' if start > position + 1 else ''}{segment[start:end]}]"
            position = end
        else:
            shell += character
        position += 1
    return shell
