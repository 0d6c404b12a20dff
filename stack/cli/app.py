"""The frame of every command: lazy loading, errors as one line, exit codes, Ctrl-C."""

import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

import click

from stack import __version__
from stack.cli import COMMANDS
from stack.cli.groups import SECTIONS, Group
from stack.errors import ConfigError, StackError
from stack.node.exit_codes import BUG, INTERRUPTED, OK, REFUSED, USAGE

if TYPE_CHECKING:
    from stack.streams.threads import CallSoon

T = TypeVar("T")

ERROR_LENGTH_MAX = 2_000
"""An error repeats what was typed, or what a peer sent: never more than a screen of it."""

COLUMNS_USUAL = 80
HELP_COLUMNS_MIN, HELP_COLUMNS_MAX = 30, 100
"""Narrower than that a list of options has no room, wider the eye loses its line."""

READER_GONE = 141
"""What a shell says of a tool that SIGPIPE has ended."""

LOST = "OutputLost"

NO_MEMORY = (
    "the system gives no more memory: the limit of this process (`ulimit -v`), or of its container, is too low for this"
)
NO_THREAD = (
    "the system gives no more threads, or no memory for one: a limit (`ulimit -u`, `ulimit -v`) is too low for this"
)

BACKENDS = ("asyncio", "trio")
"""What `STACK_BACKEND` may name."""

SHOW_CURSOR = b"\x1b[?25h\n"
"""A progress bar hides it."""

AWAKE_SECONDS = 0.25
"""At the most as long a thread waits whose word to the event loop was lost."""

NEEDED_TO_FAIL = ("stack.node.exits", "stack.platform")
"""Loaded before a command is: what it fails of may be that no more files can be opened. Help needs neither."""

START_SECONDS = 1.0
"""What lasts longer has begun, and cycles are searched for."""

_endings: list[Callable[[], object]] = []
"""What is done even at a second Ctrl-C."""

_told_by: list[int] = []
"""The signal that told the command to end."""


class LazyGroup(Group):
    """Loads a command's file when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        for module in NEEDED_TO_FAIL:
            import_module(module)
        home, _, attribute = row.partition(":")
        command: click.Command = getattr(import_module(home), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click; for `--help` as `invoke`."""
        try:
            return super().parse_args(ctx, args)
        except BrokenPipeError as error:
            raise click.exceptions.Exit(READER_GONE) from error

    def invoke(self, ctx: click.Context) -> object:
        """As click, which would make 1 of a reader that has gone: that code is kept for bugs; and an empty line of a Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.exceptions.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            raise click.exceptions.Exit(READER_GONE) from error

    def summaries(self, ctx: click.Context, names: list[str]) -> dict[str, str]:
        """From the table; what that does not name is loaded."""
        told = {name: text for section in SECTIONS.values() for name, text in section.items()}
        others = super().summaries(ctx, [name for name in names if name not in told])
        return {name: told.get(name) or others[name] for name in names if name in told or name in others}

    def sections(self, names: list[str]) -> dict[str, list[str]]:
        """Headings, and what stands below each."""
        listed = {title: [name for name in each if name in names] for title, each in SECTIONS.items()}
        rest = [name for name in names if not any(name in each for each in listed.values())]
        return listed | ({"More": rest} if rest else {})


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="stack", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say what goes on, as STACK_LOG=debug.")
def cli(verbose: bool) -> None:
    """Share files straight from computer to computer, and fetch from all who have them at once.

    \b
    stack share FILE  prints a ticket
    stack get TICKET  fetches it
    """
    from stack.cli import environment

    if verbose:
        os.environ["STACK_LOG"] = "debug"
    environment.asked_level()
    environment.warn()


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. Every StackError, and what the system refuses, becomes one line on stderr and its exit code; with
    `--json` or `--jsonl` an object on stdout too."""
    words = list(arguments if arguments is not None else sys.argv[1:])
    failure: tuple[str, str] | None = None
    if "_STACK_COMPLETE" in os.environ:
        from stack.cli.completing import complete

        complete()
    try:
        result = cli.main(args=words, prog_name="stack", standalone_mode=False, terminal_width=_help_width())
        code = result if isinstance(result, int) else OK
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        code, failure = USAGE, ("UsageError", _say_usage(error))
    except StackError as error:
        from stack.node.exits import kind_of

        complain(str(error))
        code, failure = _exit_code(error), (kind_of(error), str(error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        code, failure = _exit_code(error), _of_the_system(error)
        complain(failure[1])
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":
            raise
        from stack.platform import no_such_characters

        code, failure = REFUSED, ("Refused", no_such_characters(error))
        complain(failure[1])
    except RecursionError:
        complain("internal error: recursion without end; please report it")
        code, failure = BUG, ("RecursionError", "internal error")
    except (MemoryError, ImportError, RuntimeError) as error:
        lacking = _lacking(error)
        if lacking is None:
            raise
        code, failure = REFUSED, ("OSError", lacking)
        complain(lacking)
    if code == INTERRUPTED:
        code = _interrupted_by()
    try:
        if failure is not None and failure[0] != LOST and {"--json", "--jsonl"} & set(words):
            from stack.cli.answers import Error
            from stack.cli.output import error_line

            error_line(Error(kind=failure[0], message=failure[1], exit_code=code))
        sys.stdout.flush()
    except OSError as error:
        if code == OK and not isinstance(error, BrokenPipeError):  # else it is said already what happened
            from stack.cli.output import OutputLost

            code = _exit_code(error)
            complain(str(OutputLost(error.errno, error.strerror)))
        give_up(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:
        give_up(sys.stderr)
    sys.exit(code)


def _exit_code(error: StackError | OSError) -> int:
    from stack.node.exits import exit_code

    return exit_code(error)


def _of_the_system(error: OSError) -> tuple[str, str]:
    """The kind and the sentence of what the system refused. Click writes help by itself, and what it could not write is output too."""
    from traceback import walk_tb

    from stack.cli.output import OutputLost
    from stack.node.exits import what_the_system_says

    if not isinstance(error, OutputLost) and any(
        frame.f_code is click.echo.__code__ for frame, _ in walk_tb(error.__traceback__)
    ):
        error = OutputLost(error.errno, error.strerror)
    return (LOST, str(error)) if isinstance(error, OutputLost) else ("OSError", what_the_system_says(error))


def _lacking(error: Exception) -> str | None:
    """The sentence of an error that says that this process may have no more of the system; None for any other."""
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return NO_MEMORY
    return NO_THREAD if str(error) == "can't start new thread" else None


def give_up(stream: TextIO) -> None:
    """What could not be written is not tried again by Python, which would make its own exit code of that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _help_width() -> int:
    """Columns of help: click's own choice is never under 50, and would break lines in narrower terminals."""
    asked = os.environ.get("COLUMNS", "")
    columns = int(asked) if asked.isdecimal() and len(asked) < 6 else 0
    if not columns:
        with suppress(OSError):
            columns = os.get_terminal_size().columns
    return min(max((columns or COLUMNS_USUAL) - 2, HELP_COLUMNS_MIN), HELP_COLUMNS_MAX)


def _say_usage(error: click.ClickException) -> str:
    """Say what was wrong, and return it; how the command is used only where that helps: an argument too few, too many, or an unknown
    option."""
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        option = error.param if isinstance(error.param, click.Option) else None
        message = f"{option.opts[0]}: {error.message}" if option is not None else error.message
        complain(message)
        return message
    if isinstance(error, click.UsageError) and error.ctx is not None:
        from stack.cli.output import note

        note(error.ctx.get_usage().splitlines()[0][:ERROR_LENGTH_MAX])
    message = error.format_message()
    complain(message)
    return message


def complain(message: str) -> None:
    """One line on stderr, without control characters and not longer than a screen."""
    from stack.cli.output import harmless, note

    line = harmless(" ".join(message.split()))
    if len(line) > ERROR_LENGTH_MAX:
        line = f"{line[:ERROR_LENGTH_MAX]}... ({len(line)} characters)"
    note(f"stack: {line}")


def run_async(function: Callable[[], Awaitable[T]]) -> T:
    """Run a command's coroutine. The first Ctrl-C cancels it and lets it clean up; the second ends the process there and then. What else
    tells it to end does as the first.

    Raises KeyboardInterrupt when it was cancelled, never while the event loop runs: there an exception out of nowhere is lost,
    or leaves threads behind that keep the process from ending. What is stored outlives the second as it outlives `kill -9`.
    """
    import anyio

    from stack.cli.logs import log_to_stderr

    log_to_stderr()
    backend = os.environ.get("STACK_BACKEND") or BACKENDS[0]
    if backend not in BACKENDS:
        raise ConfigError(f"STACK_BACKEND: {backend[:80]!r} is not one of {', '.join(BACKENDS)}")
    try:
        results = anyio.run(_interruptible, function, backend, backend=backend)
    except BaseExceptionGroup as group:
        raise flatten(group) from group
    if not results:
        raise KeyboardInterrupt
    return results[0]


async def _interruptible(function: Callable[[], Awaitable[T]], backend: str) -> list[T]:
    """What it returned, or nothing when Ctrl-C ended it."""
    import anyio

    from stack.streams.threads import loop_caller

    call_soon = loop_caller()
    results: list[T] = []
    _told_by.clear()
    async with anyio.create_task_group() as awake:
        # Until all is cleaned up: threads do that too.
        awake.start_soon(_stay_awake, call_soon)
        awake.start_soon(_search_for_cycles)
        with anyio.CancelScope() as scope:

            def interrupt(number: int, frame: object) -> None:
                if not _told_by:
                    _told_by.append(number)
                    call_soon(scope.cancel)
                elif signal.SIGINT in (
                    number,
                    *_told_by,
                ):  # of the others several come at once, from a shell and from the system
                    _end()

            told_by = (signal.SIGINT, *endings())
            for each in told_by:
                signal.signal(each, interrupt)
            try:
                results.append(await function())
            finally:
                # What remains is to end: another Ctrl-C need not show how Python does that.
                for each in told_by:
                    if each == signal.SIGINT or not _told_by:
                        signal.signal(each, signal.SIG_DFL)
        awake.cancel_scope.cancel()
    return results


def endings() -> list[signal.Signals]:
    """Signals besides Ctrl-C that tell a command to end. The second comes when its terminal is closed, which `nohup` has ignored."""
    return [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]


def _interrupted_by() -> int:
    """The exit code of a command that was told to end: what a shell says of a program that such a signal has ended."""
    return 128 + _told_by[0] if _told_by else INTERRUPTED


async def _stay_awake(call_soon: "CallSoon") -> None:
    """Look again at what threads have done: the event loop is woken by a byte to itself, and a system out of memory loses that
    byte without anybody being told (ENOBUFS). Then a command would wait for a thread that ended long ago."""
    import anyio

    while True:
        await anyio.sleep(AWAKE_SECONDS)
        with suppress(OSError):
            call_soon(int)


async def _search_for_cycles() -> None:
    import anyio

    await anyio.sleep(START_SECONDS)
    gc.enable()


def _end() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR)
    for clean_up in _endings * 3:  # while threads still write
        clean_up()
    os._exit(_interrupted_by())


@contextmanager
def temporary_folder(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards, however often Ctrl-C is pressed: it may be as large as the disk."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(dir=place, prefix=prefix) as folder:
        _endings.append(partial(shutil.rmtree, folder, ignore_errors=True))
        yield Path(folder)


def flatten(error: BaseException) -> BaseException:
    """The one error of a group that a user should hear of."""
    while isinstance(error, BaseExceptionGroup):
        error = next((item for item in error.exceptions if isinstance(item, StackError)), error.exceptions[0])
    return error
