"""Taking a code: its number is sought at all meeting points, and the code tried at who holds it."""

import logging
from collections.abc import Sequence
from functools import partial
from random import SystemRandom

import anyio
import anyio.to_thread

from stack.errors import DecodeError, NoProvider, Refused, RemoteProtocolError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.failures import ASK_ERRORS
from stack.protocols.code.exchange import Taker
from stack.protocols.code.messages import MESSAGE_BYTES_MAX, Asked, GiverStatus, Holder, Told, decode_told
from stack.protocols.code.offers import TRIES
from stack.protocols.code.service import CODE, CodeService
from stack.protocols.code.shell.meeting import dial, seek
from stack.protocols.code.words import Code
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from stack.streams.patience import patient
from stack.streams.supervision import supervised

_log = logging.getLogger(__name__)

SEEK_SECONDS = 10.0
"""For somebody to be found who holds the number; who was asked by then may still answer."""
AGAIN_SECONDS = 1.0
"""After which a meeting point is asked once more: who holds it may have come to it just now."""
HOLDERS_MAX = TRIES
"""With whom a code is tried: each of them has one guess at what was typed, and a meeting point may name any."""
MEET = (
    "Both need a network, a relay or a bootstrap peer in common, or at both the same --via HOST:PORT, of a computer that runs stack and"
    " that both reach"
)
EXCHANGE_SECONDS = 20.0
"""For reaching a holder, and again for the exchange, which may take longer while the line is busy with a fetch (`patient`)."""


class UnknownCode(NoProvider):
    """Nobody was found who gives this code, or it is good no longer."""


class WrongCode(Refused):
    """The words are not those of the code with this number. `left`: tries that there are for it, as the giver says."""

    def __init__(self, left: int) -> None:
        tries = (
            f"{left} {'try' if left == 1 else 'tries'} left for it" if left else "it is good no longer: ask for another"
        )
        super().__init__(f"that code is not right ({tries})")
        self.left = left


class _Search:
    """Who holds a number, as meeting points say it."""

    def __init__(self, service: CodeService, number: int) -> None:
        self._service = service
        self._number = number
        self.asked: dict[PeerId, float] = {}
        self.waiting: set[PeerId] = set()
        """Who was asked and has not answered yet; nobody is asked twice at a time."""
        self.found: dict[PeerId, Holder] = {}
        self.news = anyio.Event()

    def due(self, now: float) -> list[PeerId]:
        """Whom to ask now."""
        due = [
            point
            for point in self._service.points()
            if point not in self.waiting and self.asked.get(point, 0.0) <= now - AGAIN_SECONDS
        ]
        self.asked.update(dict.fromkeys(due, now))
        self.waiting.update(due)
        return due

    async def ask(self, point: PeerId) -> None:
        try:
            holder = await seek(self._service.host, point, self._number)
        except (DecodeError, *ASK_ERRORS) as error:
            _log.debug("%s says nothing of a number: %r", point, error)
            return
        finally:
            self.waiting.discard(point)
            self.news.set()
        if holder is not None and holder.peer != self._service.host.peer_id:
            self.found.setdefault(holder.peer, holder)


async def take(service: CodeService, code: Code, via: Sequence[Multiaddr]) -> str:
    """See `CodeService.take`."""
    search = _Search(service, code.number)
    tried: set[PeerId] = set()
    failure: Exception | None = None
    async with supervised(service.host.trace) as tasks:
        dial(service.host, via, tasks)
        deadline = anyio.current_time() + SEEK_SECONDS
        while len(tried) < HOLDERS_MAX:
            holder = next((each for peer, each in search.found.items() if peer not in tried), None)
            now = anyio.current_time()
            if holder is not None:
                tried.add(holder.peer)
                try:
                    return await _exchange(service, code, holder)
                except (WrongCode, UnknownCode, TransportError) as error:
                    failure = error
            elif failure is not None or (now >= deadline and not search.waiting):
                break
            else:
                search.news, changed = anyio.Event(), service.changed
                for point in search.due(now) if now < deadline else ():
                    tasks.start(search.ask, point, owner="seeking a code")
                with anyio.move_on_after(min(AGAIN_SECONDS, deadline - now) if now < deadline else AGAIN_SECONDS):
                    await _either(search.news, changed)
    if failure is None and not search.asked:
        raise UnknownCode(
            f"there is nobody whom a code could be asked of: no neighbour, relay or bootstrap peer. {MEET}"
        )
    raise failure or UnknownCode(
        f"nobody is found who gives a code with the number {code.number}: codes are good once, and for a minute. {MEET}"
    )


async def _either(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as group:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(wait, event)


async def _exchange(service: CodeService, code: Code, holder: Holder) -> str:
    """Raises WrongCode, UnknownCode, TransportError."""
    host = service.host
    try:
        with anyio.fail_after(EXCHANGE_SECONDS):
            await host.connect(holder.peer, holder.addresses)
        stream = await host.open_stream(holder.peer, CODE)
        try:
            async with patient(stream, EXCHANGE_SECONDS):
                return await _try(stream, service, code)
        finally:
            stream.reset()
    except TransportError:
        raise
    except ASK_ERRORS as error:
        raise TransportError(f"the code could not be tried: {error or 'the connection ended'}") from error


async def _try(stream: Stream, service: CodeService, code: Code) -> str:
    make = partial(Taker, code, taker=service.host.peer_id, giver=stream.remote_peer, random=SystemRandom())
    taker = await anyio.to_thread.run_sync(make)
    await send_message(stream, Asked(number=code.number, element=taker.element).encode())
    answer = await _told(stream)
    proof = await anyio.to_thread.run_sync(taker.agree, answer.element)
    await send_message(stream, Asked(proof=proof).encode())
    sealed = (await _told(stream)).sealed
    return taker.open(sealed).decode("utf-8", "replace")


async def _told(stream: Stream) -> Told:
    try:
        told = decode_told(await receive_message(stream, MESSAGE_BYTES_MAX))
    except DecodeError as error:
        raise RemoteProtocolError(str(error)) from error
    if told.status is GiverStatus.WRONG:
        raise WrongCode(told.left)
    if told.status is GiverStatus.OVER:
        raise UnknownCode(
            "that code is good no longer: it was used, its time is over, or it was tried wrongly three times"
        )
    return told
