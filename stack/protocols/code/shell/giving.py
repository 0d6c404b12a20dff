"""Giving a code: it is held at meeting points, and handed to whoever types it first."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import SystemRandom

import anyio
import anyio.to_thread

from stack.errors import DecodeError, Refused
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.failures import ASK_ERRORS
from stack.protocols.code.exchange import Giver
from stack.protocols.code.messages import MESSAGE_BYTES_MAX, GiverStatus, MeetStatus, Told, decode_asked
from stack.protocols.code.offers import Offer
from stack.protocols.code.service import CodeService
from stack.protocols.code.shell.meeting import VIA_SECONDS, dial, hold
from stack.protocols.code.words import Code, make_words
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from stack.streams.patience import patient
from stack.streams.supervision import Supervisor, supervised

_log = logging.getLogger(__name__)

NUMBERS = (9, 99, 99, 999, 999, 9999, 9999, 9999)
"""Up to which a number is chosen, at each try to find a free one: short ones are easier to say."""
EXCHANGE_SECONDS = 15.0
"""For a try: two round trips, through a relay perhaps; while the line is busy with a fetch, longer (`patient`)."""


class Offering:
    """A code that is being given. Getters: `code`, `offer`, `points`, `taker`, `news`. `wait` for news of them."""

    def __init__(self, code: Code, offer: Offer, ticket: Callable[[], str]) -> None:
        self.code = code
        self.offer = offer
        self.ticket = ticket
        self.points: dict[PeerId, Stream] = {}
        """Where it is held."""
        self.taker: PeerId | None = None
        """Who has got the ticket."""
        self.news = anyio.Event()
        """Set when something of it has changed."""

    def __repr__(self) -> str:
        return f"<Offering {self.code.number}, {self.offer!r}>"

    def changed(self) -> None:
        """Something of it is another now."""
        self.news.set()
        self.news = anyio.Event()

    async def wait(self, news: anyio.Event) -> None:
        """Until something has changed since this was its `news`, or its time is over."""
        with anyio.move_on_at(self.offer.until):
            await news.wait()
        self.offer.handle_timeout(anyio.current_time())


@asynccontextmanager
async def offering(
    service: CodeService, ticket: Callable[[], str], seconds: float, via: Sequence[Multiaddr]
) -> AsyncIterator[Offering]:
    """See `CodeService.offering`."""
    async with supervised(service.host.trace) as tasks:
        dial(service.host, via, tasks)
        await service.settled(len(via), VIA_SECONDS)
        number, points = await _free_number(service, tasks)
        offer = Offer(anyio.current_time() + seconds)
        given = Offering(Code(number, make_words(SystemRandom())), offer, ticket)
        given.points = points
        service.offerings[number] = given
        tasks.keep(_hold_at_more, service, given, owner="meeting points of a code")
        try:
            yield given
        finally:
            offer.withdraw()
            del service.offerings[number]
            service.plates.leave_own(number)
            for stream in given.points.values():
                stream.reset()


async def _free_number(service: CodeService, tasks: Supervisor) -> tuple[int, dict[PeerId, Stream]]:
    """One that nobody else holds at the meeting points that are there now, and the streams that hold it. Raises Refused."""
    random = SystemRandom()
    for highest in NUMBERS:
        number = random.randrange(1, highest + 1)
        if not service.plates.hold_own(number):
            continue
        held: dict[PeerId, Stream] = {}
        taken: list[PeerId] = []
        async with anyio.create_task_group() as group:
            for point in service.points():
                group.start_soon(_hold, service, point, number, held, taken)
        if not taken:
            return number, held
        service.plates.leave_own(number)
        for stream in held.values():
            stream.reset()
    raise Refused("there is no free number for a code; try again in a minute, or hand the ticket over")


async def _hold(
    service: CodeService, point: PeerId, number: int, held: dict[PeerId, Stream], taken: list[PeerId]
) -> None:
    try:
        status, stream = await hold(service.host, point, number)
    except (DecodeError, *ASK_ERRORS) as error:
        _log.debug("no number is held at %s: %r", point, error)
        return
    if status is MeetStatus.OK:
        held[point] = stream
        return
    stream.reset()
    if status is MeetStatus.TAKEN:
        taken.append(point)


async def _hold_at_more(service: CodeService, given: Offering) -> None:
    """At peers that come later; where somebody else holds the number, the code is not found, and elsewhere it is."""
    asked = set(given.points)
    while True:
        changed = service.changed
        for point in service.points():
            if point not in asked:
                asked.add(point)
                await _hold(service, point, given.code.number, given.points, [])
        given.changed()
        await changed.wait()


async def serve(service: CodeService, stream: Stream) -> None:
    """One try. Raises DecodeError, RemoteProtocolError, TimeoutError, and what the stream raises."""
    async with patient(stream, EXCHANGE_SECONDS):
        asked = decode_asked(await receive_message(stream, MESSAGE_BYTES_MAX))
        given = service.offerings.get(asked.number)
        if given is None or not given.offer.begin(anyio.current_time()):
            await send_message(stream, Told(status=GiverStatus.OVER).encode())
            return
        is_right = False
        try:
            make = partial(
                Giver, given.code, taker=stream.remote_peer, giver=service.host.peer_id, random=SystemRandom()
            )
            giver = await anyio.to_thread.run_sync(make)
            await send_message(stream, Told(status=GiverStatus.OK, element=giver.element).encode())
            await anyio.to_thread.run_sync(giver.agree, asked.element)
            proof = decode_asked(await receive_message(stream, MESSAGE_BYTES_MAX)).proof
            is_right = giver.is_right(proof)
        finally:
            if not is_right:
                given.offer.fail()
                given.changed()
        if not is_right:
            await send_message(stream, Told(status=GiverStatus.WRONG, left=given.offer.left).encode())
        elif not given.offer.take(anyio.current_time()):
            await send_message(stream, Told(status=GiverStatus.OVER).encode())
        else:
            given.taker = stream.remote_peer
            given.changed()
            await send_message(stream, Told(status=GiverStatus.OK, sealed=giver.seal(given.ticket().encode())).encode())
