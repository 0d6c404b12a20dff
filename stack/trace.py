"""Facts that matter, told to whoever listens; absent, a trace costs one `is not None`.

Each event is a frozen dataclass derived from `TraceEvent`, defined beside its emitter. Sinks are synchronous and must not
block. Shape after go-libp2p-pubsub's tracer and trio's instruments.
"""

import logging
from collections.abc import Callable

from stack.values import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """Base of all trace events; fields are added by each emitter's own class."""


Trace = Callable[[TraceEvent], None]


class TraceFan:
    """Hands each event to every sink; a sink that raises is removed and logged, so it cannot harm the node."""

    def __init__(self) -> None:
        self._sinks: list[Trace] = []

    def add(self, sink: Trace) -> None:
        """Start telling `sink`."""
        self._sinks.append(sink)

    def remove(self, sink: Trace) -> None:
        """Stop telling `sink`; unknown sinks are ignored."""
        if sink in self._sinks:
            self._sinks.remove(sink)

    def __call__(self, event: TraceEvent) -> None:
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except Exception:  # noqa: BLE001 - a foreign sink may raise anything and must not stop the node
                _log.exception("trace sink %r raised and was removed", sink)
                self.remove(sink)
