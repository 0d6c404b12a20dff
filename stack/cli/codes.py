"""A short code in place of a ticket, as both people see it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from stack.cli import output
from stack.cli.session import waiting
from stack.errors import DeadlinePassed, DecodeError, Refused, StackError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import host_and_port
from stack.node.api import Api, CodeEnded, CodeFailed, CodeOffered, OfferCode, Shared, TakeCode
from stack.streams.supervision import supervised

if TYPE_CHECKING:
    from stack.cli.serving import ServingScreen
    from stack.protocols.code.words import Code

COUNTED_SECONDS = 1.0
"""Between two looks at how long it is good."""
NOWHERE = (
    "It is found on this network only: there is no relay and no other peer at which both could meet. For somebody elsewhere run it again"
    " with --via HOST:PORT, of a computer that runs stack and that both reach."
)
AGAIN = "For another run the same command again."


class GivenCode:
    """A code that is being given. Getters: `code`. Commands: `keep`, `ready`, `explain`, `follow`, `check`."""

    def __init__(self, via: tuple[Multiaddr, ...] = ()) -> None:
        """`via`: where both meet, as it was typed here."""
        self._via = via
        self._offered: CodeOffered | None = None
        self._until = 0.0
        self._left: int | None = None
        self._ended: CodeEnded | None = None
        self._failure: StackError | None = None
        self._vain: StackError | None = None
        self._news = anyio.Event()

    async def keep(self, api: Api, request: OfferCode) -> None:
        """Have a code given until it is over. An event is read where the request is made: a generator belongs to one task."""
        try:
            async with api.watch(request) as events:
                async for event in events:
                    match event:
                        case CodeOffered() if self._offered is None:
                            self._offered, self._until = event, anyio.current_time() + event.seconds
                        case CodeFailed():
                            self._left = event.left
                        case CodeEnded():
                            self._ended = event
                    self._tell()
        except StackError as error:
            self._failure = error
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def ready(self) -> None:
        """Until there is one. Raises Refused, and as the node does that is asked."""
        while self._offered is None and self._failure is None:
            await self._news.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def _good(self) -> CodeOffered:
        assert self._offered is not None
        return self._offered

    @property
    def code(self) -> str:
        """What the other person types."""
        return self._good.code

    def explain(self) -> None:
        """What the other person does, and until when."""
        if not self._good.points:
            output.note(NOWHERE)
        output.note(f"On the other computer, once, within {self._good.seconds:.0f} s:")
        output.command(" ".join([f"stack get {self.code}", *(f"--via {_typed(address)}" for address in self._via)]))

    async def follow(self, screen: "ServingScreen", end: Callable[[], None]) -> None:
        """Say what becomes of it. When nobody has used it nobody can come, and `end` is called."""
        said: int | None = None
        while self._ended is None and self._failure is None:
            if self._left != said:
                said = self._left or 0
                screen.bar.say(f"somebody tried that code wrongly ({tries(said)} left)")
            if not screen.has_begun:
                left = max(round(self._until - anyio.current_time()), 1)
                screen.bar.wait(f"the code is good for {left} s")
            with anyio.move_on_after(COUNTED_SECONDS):
                await self._news.wait()
        if self._ended is not None and self._ended.why == "used":
            screen.bar.say(f"the code was used by {output.short_peer(self._ended.peer_id)}, and is good no longer")
            if not screen.has_begun:
                screen.bar.wait("the other has the ticket")
        elif not screen.has_begun:
            self._vain = self._failure or self._why_not()
            end()

    def _why_not(self) -> StackError:
        if self._ended is not None and self._ended.why == "tries":
            return Refused(f"the code was tried wrongly three times, and is good no longer. {AGAIN}")
        return DeadlinePassed(f"nobody used the code in {self._good.seconds:.0f} s. {AGAIN}")

    def check(self) -> None:
        """Raises DeadlinePassed or Refused where it was of no use to anybody, and so the share was ended."""
        if self._vain is not None:
            raise self._vain


def _typed(address: Multiaddr) -> str:
    return host_and_port(address) if address.protocols[1:] == ("tcp",) else str(address)


def tries(count: int) -> str:
    """`1 try`, `2 tries`."""
    return "1 try" if count == 1 else f"{count} tries"


@asynccontextmanager
async def giving(api: Api, shared: Shared, via: tuple[Multiaddr, ...]) -> AsyncIterator[GivenCode]:
    """A code for what is shared, good for as long as the context lasts at the most. Raises as `GivenCode.ready`."""
    given = GivenCode(via)
    async with supervised() as tasks:
        request = OfferCode(cid=shared.cid, name=shared.name, size=shared.size, via=via)
        tasks.start(given.keep, api, request, owner="a code")
        async with waiting("looking for where a code can be left"):
            await given.ready()
        yield given


def code_of(text: str) -> "Code | None":
    """The code that was typed, if it is one."""
    if not text.lstrip()[:1].isdigit():
        return None
    from stack.protocols.code.words import read_code  # here: most of what is typed is no code

    try:
        return read_code(text)
    except DecodeError:
        return None


async def ticket_of(api: Api, code: "Code", via: tuple[Multiaddr, ...], *, quiet: bool) -> str:
    """The ticket that a code stands for. Raises NoProvider, Refused, TransportError."""
    with output.progress(str(code), wanted=not quiet) as bar:
        bar.wait("looking for who gives it")
        async with waiting("looking for who gives that code", quiet=quiet or output.draws()):
            taken = await api.ask(TakeCode(code=str(code), via=via))
    return taken.ticket


def with_ticket(words: list[str], ticket: str) -> list[str]:
    """A command line with the ticket in place of the code, which is used up."""
    found = [ticket if code_of(word) is not None else word for word in words]
    return found if found != words else [*words, ticket]
