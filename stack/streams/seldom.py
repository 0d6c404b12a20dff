"""Log entries of what may happen any number of times, because of a stranger or of a disk that fails: one a minute."""

import logging
from time import monotonic

SECONDS = 60.0
"""Between two entries."""


class Seldom:
    """Command: `warning`, as that of a logger."""

    __slots__ = ("_log", "_logged")

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._logged = float("-inf")

    def warning(self, message: str, *arguments: object) -> None:
        """Log it, if nothing was logged for a while."""
        now = monotonic()
        if now - self._logged >= SECONDS:
            self._logged = now
            self._log.warning(message, *arguments)
