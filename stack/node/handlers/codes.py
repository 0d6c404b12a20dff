"""Handlers of requests about short codes."""

from collections.abc import AsyncGenerator

import anyio

from stack.errors import DecodeError
from stack.files.sources import read_source
from stack.node.api import CodeEnded, CodeEvent, CodeFailed, CodeOffered, CodeTaken, OfferCode, TakeCode
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled
from stack.protocols.code.words import read_code


@streaming
async def offer_code(node: Handled, request: OfferCode) -> AsyncGenerator[CodeEvent, None]:
    """A code, and what becomes of it. It stands for a ticket with the addresses of the moment at which it is used."""

    def ticket() -> str:
        return node.ticket(request.cid, request.name, request.size)

    seconds = float(node.config.code_seconds)
    async with node.codes.offering(ticket, seconds, request.via) as given:
        offer, points, failed = given.offer, len(given.points), 0
        yield CodeOffered(code=str(given.code), seconds=seconds, points=points)
        while True:
            news = given.news
            if len(given.points) > points:
                points = len(given.points)
                yield CodeOffered(code=str(given.code), seconds=seconds, points=points)
            if offer.failed > failed:
                failed = offer.failed
                yield CodeFailed(left=offer.left)
            if offer.ending is not None:
                break
            await given.wait(news)
        yield CodeEnded(why=offer.ending.value, peer_id=str(given.taker or ""))
        await anyio.sleep_until(
            offer.until
        )  # who types it meanwhile hears that it is over, and does not look for it in vain


async def take_code(node: Handled, request: TakeCode) -> CodeTaken:
    """The ticket that a code stands for, in its plain form. Raises DecodeError for what is no code, and as `CodeService.take`."""
    code = read_code(request.code)
    if code is None:
        raise DecodeError(f"{request.code} is no code")
    return CodeTaken(ticket=str(read_source(await node.codes.take(code, request.via))))
