"""Which files of a tree are wanted. Pure."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from stack.values import dataclass

PATTERNS_SHOWN = 3
_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is taken of the trees that were named."""

    include: tuple[str, ...] = ()
    """Patterns of what is taken alone (`Chosen`)."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out."""
    ignore_files: tuple[Path, ...] = ()
    """Files with lines as in `.gitignore`, which hold for each tree."""
    gitignore: bool = False
    """Heed the files called `.gitignore` too, beside those called `.stackignore`."""
    for_others: bool = False
    """Leave out what `get` would not write down."""
    unsafe_links: bool = False
    """Yet take symbolic links that lead out of the tree."""


class Chosen:
    """Patterns of paths below a tree, and what they chose. Getters: `matches`, `excludes`, `may_hold`, `nothing`. Facts: `took`, `passed`.

    A pattern is as a shell has them, and fits a path or a directory above it. One without a slash fits names at any depth; one that
    ends in a slash, directories only.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Without `include` everything is wanted that `exclude` leaves."""
        self._include = tuple(pattern.removeprefix("./") for pattern in include)
        self._exclude = tuple(pattern.removeprefix("./") for pattern in exclude)
        self._took = 0
        self._passed = 0

    def __bool__(self) -> bool:
        """Whether anything less than all is wanted."""
        return bool(self._include or self._exclude)

    @property
    def includes(self) -> bool:
        """Whether only what was named is wanted."""
        return bool(self._include)

    def took(self, files: int) -> None:
        """So many are wanted."""
        self._took += files

    def passed(self, files: int) -> None:
        """So many are not."""
        self._passed += files

    def matches(self, names: Sequence[str], *, is_directory: bool = False) -> bool:
        """Whether what has this path is wanted."""
        return _fits(self._include, names, is_directory, empty=True) and not self.excludes(
            names, is_directory=is_directory
        )

    def excludes(self, names: Sequence[str], *, is_directory: bool = False) -> bool:
        """Whether nothing is wanted of what has this path, nor of what is below it."""
        return _fits(self._exclude, names, is_directory, empty=False)

    def may_hold(self, names: Sequence[str]) -> bool:
        """Whether what has this path, a file or a directory, may be wanted or have something below it that is; told from the beginnings
        of patterns, before anybody is asked what it is."""
        path = "/".join(names) + "/"
        starts = [_WILD.split(pattern, maxsplit=1)[0] for pattern in self._include if "/" in pattern.rstrip("/")]
        return not self.excludes(names) and (
            len(starts) == 0
            or len(starts) < len(self._include)
            or any(start.startswith(path) or path.startswith(start) for start in starts)
        )

    def nothing(self, hint: str = "") -> str | None:
        """Once all is listed: what to say where no file was chosen of those that were named, else None; `hint` says how to see them."""
        if self._took or not (self._include or self._passed):
            return None
        files = f"{self._passed:,} file{'' if self._passed == 1 else 's'}" if self._passed else "of what was looked at"
        if not self._include:
            return f"no file is left: all are excluded ({files}{hint})"
        shown = ", ".join(map(repr, self._include[:PATTERNS_SHOWN]))
        more = ", ..." if len(self._include) > PATTERNS_SHOWN else ""
        return f"no file matches {shown}{more} ({files}{hint})"


def _fits(patterns: Sequence[str], names: Sequence[str], is_directory: bool, *, empty: bool) -> bool:
    if not patterns:
        return empty
    paths = ["/".join(names[: count + 1]) for count in range(len(names))]
    return any(
        _fits_one(path, pattern, is_directory or path is not paths[-1]) for pattern in patterns for path in paths
    )


def _fits_one(path: str, pattern: str, is_directory: bool) -> bool:
    if pattern.endswith("/"):
        if not is_directory:
            return False
        pattern = pattern.rstrip("/")
    return fnmatchcase(path, pattern) or ("/" not in pattern and fnmatchcase(path.rpartition("/")[2], pattern))
