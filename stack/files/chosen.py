"""Which files of a tree are wanted. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

PATTERNS_SHOWN = 3


class Chosen:
    """Patterns of paths below a tree, and what they chose. Getters: `matches`, `nothing`. Facts: `took`, `passed`."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(pattern.removeprefix("./") for pattern in patterns)
        self._took = 0
        self._passed = 0

    def __bool__(self) -> bool:
        """Whether anything less than all is wanted."""
        return bool(self._patterns)

    def took(self, files: int) -> None:
        """So many are wanted."""
        self._took += files

    def passed(self, files: int) -> None:
        """So many are not."""
        self._passed += files

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the path, or a directory above it, matches; a pattern without a slash matches names at any depth, one that
        ends in a slash directories only."""
        if not self._patterns:
            return True
        paths = ["/".join(names[: count + 1]) for count in range(len(names))]
        return any(self._fits(path, pattern, paths[-1]) for pattern in self._patterns for path in paths)

    @staticmethod
    def _fits(path: str, pattern: str, whole: str) -> bool:
        if pattern.endswith("/"):
            if path == whole:
                return False  # of what lies in a directory only those above it are known to be directories
            pattern = pattern.rstrip("/")
        return fnmatchcase(path, pattern) or ("/" not in pattern and fnmatchcase(path.rpartition("/")[2], pattern))

    def nothing(self) -> str | None:
        """Once all is listed: what to say where no file was chosen, else None."""
        if not self._patterns or self._took:
            return None
        shown = ", ".join(map(repr, self._patterns[:PATTERNS_SHOWN]))
        more = ", ..." if len(self._patterns) > PATTERNS_SHOWN else ""
        files = f"{self._passed:,} file{'' if self._passed == 1 else 's'}"
        return f"no file matches {shown}{more} ({files}; `stack ls` shows them)"
