"""The `stack` command: one file a command, loaded when it is used, so that `stack --version` stays fast."""

import gc
import os
import sys
from io import TextIOWrapper
from typing import NoReturn, TextIO

COMMANDS: dict[str, str] = {
    "share": "stack.cli.share:share",
    "get": "stack.cli.get:get",
    "shares": "stack.cli.shares:shares",
    "ticket": "stack.cli.ticket:ticket",
    "find": "stack.cli.find:find",
    "providers": "stack.cli.find:providers",
    "announce": "stack.cli.announce:announce",
    "jobs": "stack.cli.jobs:jobs",
    "add": "stack.cli.add:add",
    "cat": "stack.cli.read:cat",
    "ls": "stack.cli.read:ls",
    "daemon": "stack.cli.daemon:daemon",
    "stop": "stack.cli.stop:stop",
    "id": "stack.cli.identity:identity",
    "peers": "stack.cli.peers:peers",
    "connect": "stack.cli.peers:connect",
    "disconnect": "stack.cli.peers:disconnect",
    "ping": "stack.cli.peers:ping",
    "pubsub": "stack.cli.pubsub:pubsub",
    "pin": "stack.cli.pin:pin",
    "gc": "stack.cli.repo:gc",
    "repo": "stack.cli.repo:repo",
    "car": "stack.cli.car:car",
    "block": "stack.cli.block:block",
    "bench": "stack.cli.bench:bench",
    "key": "stack.cli.key:key",
    "config": "stack.cli.config:config",
    "doctor": "stack.cli.doctor:doctor",
    "demo": "stack.cli.demo:demo",
    "completion": "stack.cli.completion:completion",
    "schema": "stack.cli.schema:schema",
}
"""In the order of `stack --help`."""

GC_THRESHOLD = 20_000
"""Container objects made before the youngest are searched for cycles, where Python's default is 700. Not at all while a command starts
(`stack.cli.app.START_SECONDS`): loading its modules makes 100,000 that all stay, and searching them took 19 of 330 ms."""


def keep_standard_streams() -> None:
    """Where stdin or stderr is closed (`2>&-`, some cron and supervisors), nothing is read and what is written there is gone; what is
    written to a stdout that is closed fails, as with every tool. Python has None for such a stream, and the next file that is opened,
    say a database, would be what the system calls stdout."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode))


def take_all_characters() -> None:
    """What is not in the character set of a terminal or a pipe is written as an escape. Latin-1 has no name in Japanese, and one such
    name would end a listing of thousands."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not is_utf_8(stream):
            stream.reconfigure(errors="backslashreplace")


def is_utf_8(stream: TextIO) -> bool:
    """Whether all characters there are can be written to it."""
    return stream.encoding is None or stream.encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def main() -> None:
    """Entry point of the scripts `stack` and `p2p-stack`."""
    keep_standard_streams()
    take_all_characters()
    if sys.argv[1:] in (["--version"], ["-V"]):
        from stack import __version__

        try:
            print(f"stack {__version__}", flush=True)
            return
        except OSError:
            pass  # the long way has a sentence for that
    gc.set_threshold(GC_THRESHOLD)
    gc.disable()
    try:
        import signal  # here: loading it takes 3 ms in which a Ctrl-C would show a traceback

        # While modules load there is nothing to clean up, and an exception raised there can get lost; `run_async` changes that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from stack.cli.app import run

        run()
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(130)
    except SystemExit as end:
        _leave(end.code)


def _leave(code: object) -> NoReturn:
    """End the process at once: all is stored and flushed, and to take the interpreter apart would cost another 50 to 70 ms."""
    import atexit
    import os

    try:
        atexit._run_exitfuncs()  # of plug-ins, and of tools that look on
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
