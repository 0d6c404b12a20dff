"""Dialling: one shared dial per peer, its attempts by the plan of `dial_plan`, within limits."""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import anyio.abc

from stack.errors import LimitExceeded, NegotiationError, SecurityError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.connection import Connection
from stack.net.dial_plan import DialBackoff, DialPlan
from stack.net.events import DialAttempted, DialOutcome
from stack.net.interfaces import DialError
from stack.net.resolver import Resolver, is_named
from stack.streams.supervision import Supervisor
from stack.trace import Trace

_log = logging.getLogger(__name__)

ATTEMPTS_MAX = 256
"""Attempts under way in all: 200 black holes at once leave room for a good dial (A09); each holds a descriptor."""
DIAL_SECONDS = 60.0
"""For all attempts of one dial together: go-libp2p's DialTimeout."""

Establish = Callable[[PeerId | None, Multiaddr], Awaitable[Connection]]
"""Dial one address and upgrade it. Raises TransportError, SecurityError, NegotiationError, LimitExceeded."""

_OUTCOMES: tuple[tuple[type[Exception], DialOutcome], ...] = (
    (SecurityError, DialOutcome.SECURITY),
    (NegotiationError, DialOutcome.NEGOTIATION),
    (LimitExceeded, DialOutcome.LIMIT),
    (TransportError, DialOutcome.TRANSPORT),
)


class _Dial:
    """One dial that several callers may wait for."""

    def __init__(self, peer: PeerId | None, plan: DialPlan) -> None:
        self.peer = peer
        self.plan = plan
        self.scope = anyio.CancelScope()
        self.new: list[Multiaddr] = []
        self.resolving = 0
        self.waiters = 0
        self.errors: list[Exception] = []
        self.connection: Connection | None = None
        self.finished = anyio.Event()
        self._changed = anyio.Event()

    def wake(self) -> None:
        self._changed.set()

    async def wait(self, deadline: float | None, now: float) -> None:
        """Until something changes, or until `deadline`."""
        with anyio.move_on_after(None if deadline is None else max(0.0, deadline - now)):
            await self._changed.wait()
        self._changed = anyio.Event()

    def result(self) -> Connection:
        """Raises what `Host.connect` promises."""
        if self.connection is not None:
            return self.connection
        # When every attempt met the same obstacle that is not the way there, the caller should see it as what it is.
        if self.errors and len(self.errors) == len(self.plan.attempts):
            for kind in (SecurityError, LimitExceeded):
                if all(isinstance(error, kind) for error in self.errors):
                    raise self.errors[0]
        raise DialError(self.peer, [(attempt.address, attempt.reason) for attempt in self.plan.attempts])


class Dialer:
    """Commands: `dial`. Facts: `peer_connected`, `network_changed`."""

    def __init__(
        self,
        establish: Establish,
        can_dial: Callable[[Multiaddr], bool],
        resolver: Resolver,
        tasks: Supervisor,
        *,
        attempts_max: int = ATTEMPTS_MAX,
        clock: Callable[[], float] = time.monotonic,
        trace: Trace | None = None,
    ) -> None:
        """`tasks` is the host's: a dial lives there, so that a caller who gives up does not end it for the others."""
        self._establish = establish
        self._can_dial = can_dial
        self._resolver = resolver
        self._tasks = tasks
        self._clock = clock
        self._trace = trace
        self._backoff = DialBackoff()
        self._dials: dict[PeerId, _Dial] = {}
        self._slots = anyio.CapacityLimiter(min(attempts_max, ATTEMPTS_MAX))

    async def dial(
        self, peer: PeerId | None, addresses: Iterable[Multiaddr], known: Sequence[Multiaddr] = ()
    ) -> Connection:
        """A new connection. `addresses` were asked for by name; `known` ones rest after failures.

        Raises DialError; SecurityError or LimitExceeded when every attempt ended so.
        """
        dial = self._dials.get(peer) if peer is not None else None
        if dial is None:
            dial = _Dial(peer, DialPlan(self._can_dial))
            if peer is not None:
                self._dials[peer] = dial
            self._offer(dial, addresses, known)
            self._tasks.start(self._run, dial, owner="a dial")
        else:
            self._offer(dial, addresses, known)
        dial.waiters += 1
        try:
            await dial.finished.wait()
        finally:
            dial.waiters -= 1
            if not dial.waiters:
                self._forget(dial)
                dial.scope.cancel()
        return dial.result()

    def peer_connected(self, connection: Connection) -> None:
        """A connection to a peer that is being dialled came from elsewhere: that will do."""
        dial = self._dials.get(connection.peer)
        if dial is not None and dial.connection is None:
            dial.connection = connection
            dial.wake()

    def network_changed(self) -> None:
        """What failed before may work now."""
        self._backoff.clear()

    def _offer(self, dial: _Dial, addresses: Iterable[Multiaddr], known: Sequence[Multiaddr]) -> None:
        now = self._clock()
        dial.new += [a for a in (_for_peer(dial, address) for address in addresses) if a is not None]
        for address in known:
            if self._backoff.resting(address, now) and address not in dial.new:
                dial.plan.refuse(address, "failed a moment ago, not tried again yet")
            else:
                dial.new.append(address)
        dial.wake()

    async def _run(self, dial: _Dial) -> None:
        dial.scope.deadline = anyio.current_time() + DIAL_SECONDS
        try:
            with dial.scope:
                async with anyio.create_task_group() as attempts:
                    await self._work(dial, attempts)
                    self._forget(dial)
                    attempts.cancel_scope.cancel()
        finally:
            self._forget(dial)
            timed_out = dial.scope.cancelled_caught
            dial.plan.give_up(f"gave up after {DIAL_SECONDS:g} s" if timed_out else "given up")
            dial.finished.set()

    def _forget(self, dial: _Dial) -> None:
        """Nobody may join it any more: what it has not tried by now it never will."""
        if dial.peer is not None and self._dials.get(dial.peer) is dial:
            del self._dials[dial.peer]

    async def _work(self, dial: _Dial, attempts: anyio.abc.TaskGroup) -> None:
        while dial.connection is None:
            fresh, dial.new = dial.new, []
            dial.plan.add([address for address in fresh if not is_named(address)], self._clock())
            named = [address for address in fresh if is_named(address)]
            if named:
                dial.resolving += 1
                attempts.start_soon(self._resolve, dial, named)
            while (address := dial.plan.next_address(self._clock())) is not None:
                attempts.start_soon(self._attempt, dial, address)
            if dial.plan.done and not dial.resolving and not dial.new:
                return
            await dial.wait(dial.plan.next_timeout(), self._clock())

    async def _resolve(self, dial: _Dial, named: list[Multiaddr]) -> None:
        resolved, failed = await self._resolver.resolve(named)
        for address, reason in failed:
            dial.plan.refuse(address, reason)
        dial.new += [a for a in (_for_peer(dial, address) for address in resolved) if a is not None]
        dial.resolving -= 1
        dial.wake()

    async def _attempt(self, dial: _Dial, address: Multiaddr) -> None:
        async with self._slots:
            started = self._clock()
            outcome, reason = DialOutcome.CONNECTED, ""
            try:
                connection = await self._establish(dial.peer, address)
            except Exception as error:  # noqa: BLE001 - transports of other packages too: a fault there fails one attempt
                outcome = next((o for kind, o in _OUTCOMES if isinstance(error, kind)), DialOutcome.FAULT)
                if outcome is DialOutcome.FAULT:
                    _log.exception("fault while dialling %s", address)
                self._backoff.failed(address, self._clock())
                dial.errors.append(error)
                reason = str(error) or repr(error)
                dial.plan.failed(address, reason, self._clock())
            else:
                self._backoff.succeeded(address)
                if dial.connection is None:
                    dial.connection = connection
            if self._trace is not None:
                seconds = self._clock() - started
                self._trace(
                    DialAttempted(peer=dial.peer, address=address, outcome=outcome, seconds=seconds, reason=reason)
                )
        dial.wake()


async def connect_by_addresses(
    connect: Callable[[PeerId, Sequence[Multiaddr]], Awaitable[PeerId]], dialer: Dialer, addresses: Sequence[Multiaddr]
) -> PeerId:
    """Be connected to one of those whom the addresses name; where none is named to whoever is there. Raises as `Host.connect`."""
    by_peer: dict[PeerId | None, list[Multiaddr]] = {}
    for address in addresses:
        text = address.split_peer()[1]
        by_peer.setdefault(PeerId.parse(text) if text else None, []).append(address)
    attempts: list[tuple[Multiaddr, str]] = []
    for peer, theirs in by_peer.items():
        try:
            if peer is not None:
                return await connect(peer, theirs)
            return (await dialer.dial(None, theirs)).peer
        except DialError as error:
            if len(by_peer) == 1:
                raise
            attempts += error.attempts
    raise DialError(None, attempts)


def _for_peer(dial: _Dial, address: Multiaddr) -> Multiaddr | None:
    """The address without its `/p2p`; None, noted, when it is another peer's."""
    if is_named(address) and address.protocols[0] == "dnsaddr":
        return address  # what it resolves to is looked at again
    bare, text = address.split_peer()
    if text is not None and dial.peer is not None and PeerId.parse(text) != dial.peer:
        dial.plan.refuse(address, "it is an address of another peer")
        return None
    return bare
