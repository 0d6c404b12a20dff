"""What Tab offers: jobs, shares, pins, and what lies below a CID or a ticket. It starts no node and takes no home: rows are read as they
are, a node that runs is asked for a moment, and whatever goes wrong is silence.

What strangers have named is put on the user's own command line, and shells run what stands there: only names of plain letters are offered.
"""

import os
import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from functools import wraps
from typing import NoReturn

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from stack.dag.unixfs.names import printable
from stack.multiformats.cid import Cid
from stack.node.home import default_home

PLAIN = re.compile(r"[\w+@%=][\w.,@%+=-]{0,199}", re.ASCII)
"""Nothing in it means anything to a shell, and it is no option."""

OFFERED_MAX = 200
"""More is no help to choose from."""

DATABASE_SECONDS, NODE_SECONDS = 0.1, 0.25
"""For rows that another process is changing, and for a node to say what is in a directory."""

Offer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def quietly(offer: Offer) -> Offer:
    """Nothing instead of a fault, and never too much."""

    @wraps(offer)
    def quiet(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            return [item for item in offer(context, parameter, begun) if item.value.startswith(begun)][:OFFERED_MAX]
        except Exception:  # noqa: BLE001 - a person is typing: a traceback would stand in the middle of the line
            return []

    return quiet


class Bash(BashComplete):
    """bash parts words at colons, and every ticket has one: parts are put together again, and of what is offered only that is said which
    follows the last colon, because only that is replaced. And click's script forgets what came before the word for files."""

    _said = 0

    def get_completion_args(self) -> tuple[list[str], str]:
        """See `ShellComplete`."""
        words: list[str] = []
        before, begun = super().get_completion_args()
        for word in (*before, begun):
            if words and (word == ":" or words[-1].endswith(":")):
                words[-1] += word
            else:
                words.append(word)
        self._said = words[-1].rfind(":") + 1
        return words[:-1], words[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """See `ShellComplete`."""
        return sorted(super().get_completions(args, incomplete), key=lambda item: item.type == "plain")

    def format_completion(self, item: CompletionItem) -> str:
        """See `ShellComplete`."""
        return f"{item.type},{item.value[self._said :] if item.type == 'plain' else item.value}"


def complete() -> NoReturn:
    """Answer the shell, and end this process."""
    code = 1
    with suppress(Exception, SystemExit):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        from click.shell_completion import shell_complete

        from stack.cli.app import cli

        add_completion_class(Bash)
        code = shell_complete(cli, {}, "stack", "_STACK_COMPLETE", os.environ["_STACK_COMPLETE"])
        sys.stdout.flush()
    os._exit(code)


def _rows(file: str, statement: str) -> list[tuple[object, ...]]:
    place = default_home() / file
    with closing(sqlite3.connect(f"{place.as_uri()}?mode=ro", uri=True, timeout=DATABASE_SECONDS)) as connection:
        return connection.execute(f"{statement} LIMIT {OFFERED_MAX}").fetchall()


def _named(rows: list[tuple[object, ...]], *, with_names: bool) -> list[CompletionItem]:
    """Roots by their CIDs and, where they are plain, by their names."""
    items = []
    for root, name in rows:
        assert isinstance(root, bytes)
        items.append(CompletionItem(Cid.decode(root).text, help=printable(str(name)) or "no name"))
        if with_names and PLAIN.fullmatch(str(name)):
            items.append(CompletionItem(str(name)))
    return items


def jobs_in(*states: str) -> Offer:
    """Jobs in one of these states, or all."""

    @quietly
    def offer(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        rows = _rows("jobs.sqlite", "SELECT id, state, name FROM job ORDER BY id DESC")
        wanted = [row for row in rows if not states or row[1] in states]
        return [CompletionItem(str(id_), help=f"{state}: {printable(str(name))}") for id_, state, name in wanted]

    return offer


SHARES = "SELECT root, name FROM share ORDER BY since DESC"
PINS = "SELECT cid, name FROM pin WHERE kind = 'user'"


@quietly
def shares(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What is shared, by CID and name, and files."""
    return [*_named(_rows("jobs.sqlite", SHARES), with_names=True), CompletionItem(begun, type="file")]


@quietly
def pins(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What the user has pinned."""
    return _named(_rows("blocks/index.sqlite", PINS), with_names=False)


@quietly
def sources(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What is shared or pinned here; behind a slash, what is in that directory; files, which may hold a ticket."""
    files = [CompletionItem(begun, type="file")]
    if "/" in begun and not begun.startswith((".", "/", "~")):
        return [*_below(begun), *files]
    found = {item.value: item for item in (*shares(context, parameter, begun), *pins(context, parameter, begun))}
    return [item for item in found.values() if item.type == "plain" and item.help] + files


@quietly
def codes(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The words of a code, of which some letters are there."""
    from stack.protocols.code.words import COUNT, WORDS

    number, *words = begun.lower().split("-")
    if not number.isdecimal() or not 0 < len(words) <= COUNT or not words[-1]:
        return []
    before = "-".join((number, *words[:-1]))
    return [CompletionItem(f"{before}-{word}") for word in WORDS if word.startswith(words[-1])]


@quietly
def profiles(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """How files become blocks."""
    from stack.node.settings import PROFILES

    return [CompletionItem(name) for name in PROFILES]


@quietly
def setting_values(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The values of a setting that has few."""
    from stack.node.settings import SETTINGS, SWITCH

    setting = SETTINGS[context.params["name"]]
    return [CompletionItem(value) for value in setting.choices or (("true", "false") if setting.kind == SWITCH else ())]


@quietly
def settings_written(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The settings that stand in the file of this home."""
    from stack.node.settings import read_file

    return [CompletionItem(name) for name in read_file(default_home())]


def _below(begun: str) -> list[CompletionItem]:
    """What a node that runs knows of the directory that was typed so far."""
    import anyio

    from stack.cli.session import running_node
    from stack.files.sources import read_source
    from stack.node.api import ListDirectory
    from stack.node.config import load

    above = begun[: begun.rindex("/")]
    request = ListDirectory(source=str(read_source(above)), timeout=NODE_SECONDS)
    found: list[CompletionItem] = []

    async def ask() -> None:
        node = running_node(load())
        if node is None:
            return
        with anyio.move_on_after(NODE_SECONDS):
            async with node.watch(request) as entries:
                async for entry in entries:
                    if PLAIN.fullmatch(entry.name) and len(found) < OFFERED_MAX:
                        slash = "/" if entry.type == "directory" else ""
                        found.append(CompletionItem(f"{above}/{entry.name}{slash}", help=entry.type))

    anyio.run(ask)
    return found
