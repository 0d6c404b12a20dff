"""Where what is logged goes: to stderr, as far as that is asked for."""

import logging

from stack.cli.environment import asked_level
from stack.cli.output import harmless

LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Harmless(logging.Formatter):
    """What is logged may have a stranger's words in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Without what a terminal would obey. The lines are those of a traceback, if there is one."""
        return "\n".join(map(harmless, super().format(record).split("\n")))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line, whatever ends of lines are in it: what comes after one would be taken for a message of its own."""
        return harmless(super().formatMessage(record))


def log_to_stderr() -> None:
    """What `STACK_LOG` asks for; without it warnings, where nobody has set up anything else. Raises ConfigError."""
    logging.raiseExceptions = False  # a log on a full disk is nothing to show a traceback for
    level = asked_level()
    if level is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(Harmless(LINE))
        logging.basicConfig(level=level, handlers=[handler], force=True)
        logging.getLogger("asyncio").setLevel(logging.WARNING)
    elif logging.lastResort is not None:
        logging.lastResort.setFormatter(Harmless())
