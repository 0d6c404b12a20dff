"""Options that say what is taken of a directory, and what the user is told of the rest."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import click

from stack.cli import output
from stack.cli.types import PathType, existing
from stack.files.events import EXCLUDED, HIDDEN, IGNORED, NOT_WANTED, EntrySkipped

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("-H", "--hidden", is_flag=True, help="Take hidden files of a directory too."),
    click.option("--include", multiple=True, metavar="GLOB", help="Take only these of a directory; may be repeated."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these out of a directory; may be repeated."),
    click.option(
        "--ignore-file",
        "ignore_files",
        multiple=True,
        metavar="FILE",
        type=PathType(dir_okay=False),
        callback=lambda ctx, param, values: tuple(existing(value) for value in values),
        help="Leave out what these lines name, written as in .gitignore; .stackignore in a directory is heeded without.",
    ),
    click.option("--gitignore", is_flag=True, help="Heed .gitignore in a directory too."),
)


def selecting(command: _F) -> _F:
    """`--hidden`, `--include`, `--exclude`, `--ignore-file`, `--gitignore`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class LeftOut:
    """What an import left out. Fact: `skipped`. Command: `conclude`. Getter: `lost`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.lost = 0
        """Entries that were wanted."""

    def skipped(self, event: EntrySkipped, bar: output.Progress) -> None:
        """What was wanted is told at once."""
        if event.reason in NOT_WANTED:
            self._counts[event.reason] += 1
        else:
            self.lost += 1
            bar.say(f"skipped {event.path}: {event.reason}")

    def conclude(self) -> None:
        """How much it was."""
        if hidden := self._counts[HIDDEN]:
            output.note(f"{output.count(hidden, 'hidden file')} left out; --hidden takes them too")
        if excluded := self._counts[EXCLUDED]:
            output.note(f"{output.count(excluded, 'name')} left out by --exclude")
        if ignored := self._counts[IGNORED]:
            output.note(f"{output.count(ignored, 'name')} left out by ignore files")
        if self.lost:
            output.note(f"{self.lost:,} skipped, as said above")
