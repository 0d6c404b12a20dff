"""Tasks that end no more than what they serve.

A task group ends as a whole when one of its tasks raises; started in the group of a node, a surprise of one stream would
end the node. So a task that serves a peer, a link, a stream or a background duty is started through a `Supervisor`: what it
raises is contained, logged and traced, and what it served is reset. Listeners are told through it too. Only the tasks of
one call (the parts of one fetch, the attempts of one dial) are started in a group of that call, whose caller gets the
error. `tests/test_supervision.py` finds any other.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple, Unpack

import anyio
import anyio.abc

from stack.errors import StoreError
from stack.trace import Trace, TraceEvent
from stack.values import dataclass

_log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")

PAUSE_SECONDS = 1.0
"""Before a duty that failed is begun again; doubled each time up to the next figure, so that a fault that stays costs little."""
PAUSE_SECONDS_MAX = 60.0
STEADY_SECONDS = 300.0
"""Who has worked for so long before it failed begins with the first pause again."""
LOGGED_SECONDS = 60.0
"""Between two log entries of the same fault of the same owner's kind: a stranger can cause any number of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed(TraceEvent):
    """A task has raised what nobody expected; only what it served has ended."""

    owner: str
    """What it served."""
    error: Exception


class Supervisor:
    """Starts tasks in a group and lets no failure of theirs leave it.

    Commands: `start`, `keep`, `call`, `cancel`. Getters: `cancelled`. All tasks end when the group's scope is cancelled.
    """

    __slots__ = ("_logged", "_tasks", "_trace")

    def __init__(self, tasks: anyio.abc.TaskGroup, trace: Trace | None = None) -> None:
        self._tasks = tasks
        self._trace = trace
        self._logged: dict[tuple[str, type[Exception]], float] = {}

    @property
    def cancelled(self) -> bool:
        """Everything is about to end; nothing that is started now would run."""
        return self._tasks.cancel_scope.cancel_called

    def cancel(self) -> None:
        """End all tasks."""
        self._tasks.cancel_scope.cancel()

    def start(
        self,
        work: Callable[[Unpack[Arguments]], Awaitable[object]],
        *arguments: *Arguments,
        owner: str,
        failed: Callable[[], object] | None = None,
    ) -> None:
        """Run `work(*arguments)` for `owner`, a few words for the log; when it raises, `failed` puts an end to what it served."""

        self._tasks.start_soon(self._contain, work, arguments, owner, failed, name=owner)

    def keep(
        self,
        duty: Callable[[Unpack[Arguments]], Awaitable[object]],
        *arguments: *Arguments,
        owner: str,
    ) -> None:
        """Run a duty that lasts as long as the group; when it raises it is begun again after a pause. A duty that returns is over."""

        async def kept() -> None:
            pause = PAUSE_SECONDS
            while True:
                begun = anyio.current_time()
                if await self._contain(duty, arguments, owner):
                    return
                if anyio.current_time() - begun >= STEADY_SECONDS:
                    pause = PAUSE_SECONDS
                await anyio.sleep(pause)
                pause = min(2 * pause, PAUSE_SECONDS_MAX)

        self._tasks.start_soon(kept, name=owner)

    def call(self, tell: Callable[[Unpack[Arguments]], object], *arguments: *Arguments, owner: str) -> None:
        """Tell somebody else's code something, at once; what that raises is nobody's but its own."""
        try:
            tell(*arguments)
        except Exception as error:  # noqa: BLE001 - a listener may raise anything; the others are still told
            self._report(owner, error)

    async def _contain(
        self,
        work: Callable[[Unpack[Arguments]], Awaitable[object]],
        arguments: tuple[*Arguments],
        owner: str,
        failed: Callable[[], object] | None = None,
    ) -> bool:
        """Whether the work has come to its end. A cancellation goes on, without the faults that came with it in one group."""
        try:
            await work(*arguments)
        except Exception as error:  # noqa: BLE001 - this is where a surprise of one task stays
            self._report(owner, error)
        except BaseExceptionGroup as group:
            faults, rest = group.split(Exception)
            if faults is not None:
                self._report(owner, faults)
            if rest is not None:
                raise rest from None
        else:
            return True
        if failed is not None:
            self.call(failed, owner=owner)
        return False

    def _report(self, owner: str, error: Exception) -> None:
        now = anyio.current_time()
        kind = (owner, type(error))
        if now - self._logged.get(kind, float("-inf")) >= LOGGED_SECONDS:
            self._logged = {known: at for known, at in self._logged.items() if now - at < LOGGED_SECONDS}
            self._logged[kind] = now
            if (of_system := _of_the_system(error)) is not None:
                _log.error("%s: %s", owner, of_system)
            else:
                _log.error("fault in %s", owner, exc_info=error)
        if self._trace is not None:
            try:
                self._trace(TaskFailed(owner=owner, error=error))
            except Exception:  # noqa: BLE001 - a sink may be at fault itself
                _log.exception("fault in a trace")


@asynccontextmanager
async def supervised(trace: Trace | None = None) -> AsyncIterator[Supervisor]:
    """A supervisor with a group of its own; leaving the context cancels all its tasks and waits for them. What the body
    raises is raised as it is, not wrapped in a group."""
    body: Exception | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield Supervisor(tasks, trace)
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the group
            body = error
        finally:
            tasks.cancel_scope.cancel()
    if body is not None:
        raise body


def _of_the_system(error: BaseException) -> BaseException | None:
    """What the disk or the system refused, if it was nothing else: its sentence says all that helps, a traceback is for faults of
    ours."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, (StoreError, OSError)) else None
