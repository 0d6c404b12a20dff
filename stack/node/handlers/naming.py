"""From what a request names to whom it is asked of."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import anyio

from stack.bitswap.interfaces import Provider
from stack.errors import Refused, StackError
from stack.files.sources import Source, read_source
from stack.files.ticket import TEXT_MAX
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.node.interfaces import Handled
from stack.node.patience import PatientSession
from stack.values import dataclass


@dataclass(frozen=True, slots=True)
class Sought:
    """Content that was named, and who may have it."""

    source: Source
    providers: tuple[Provider, ...]
    """Those that the ticket and the user name."""

    @property
    def public(self) -> bool:
        """Whether others may be told what is sought: not what a ticket names."""
        return self.source.ticket is None

    @property
    def name(self) -> str:
        """What the ticket calls it; empty without one. Hostile text like any other."""
        return self.source.ticket.name if self.source.ticket is not None else ""

    @property
    def secret(self) -> bytes:
        """What only the ticket tells; empty without one, and where the content is for everybody."""
        return self.source.ticket.secret if self.source.ticket is not None else b""


def sought(node: Handled, text: str, addresses: Sequence[Multiaddr] = ()) -> Sought:
    """Read what was typed; `addresses` are those the user gave besides. One without a peer is the ticket's maker's.

    Raises DecodeError, and Refused for an address that does not say who is there when no ticket does.
    """
    source = read_source(text)
    ticket = source.ticket
    named = [Provider(ticket.peer, ticket.addresses, "ticket")] if ticket is not None else []
    given = providers_of(addresses, "user", ticket.peer if ticket is not None else None)
    return Sought(source, tuple(each for each in given + named if each.peer != node.peer_id))


def providers_of(addresses: Sequence[Multiaddr], source: str, default: PeerId | None = None) -> list[Provider]:
    """Addresses as providers; one that names no peer is that of `default`. Raises Refused where there is none."""
    found: dict[PeerId, list[Multiaddr]] = {}
    for address in addresses:
        bare, told = address.split_peer()
        peer = PeerId.parse(told) if told is not None else default
        if peer is None:
            raise Refused(f"{address} does not say who is there: it must end in /p2p/PEER, or come with a ticket")
        found.setdefault(peer, []).append(bare)
    return [Provider(peer, tuple(theirs), source) for peer, theirs in found.items()]


@asynccontextmanager
async def session_for(
    node: Handled, text: str, addresses: Sequence[Multiaddr] = (), timeout: float | None = None
) -> AsyncIterator[tuple[PatientSession, Source]]:
    """A session for what was named, whose `get` gives up; what comes belongs into its `store`. Raises as `sought`."""
    wanted = sought(node, text, addresses)
    async with node.patient_session(
        wanted.source.root, wanted.providers, timeout, public=wanted.public, secret=wanted.secret
    ) as session:
        yield session, wanted.source


NAME_SECONDS = 2.0
"""For asking what something is called, when a ticket had no room for its name; others than its maker have a quarter of it. A maker that
has gone must not hold up the fetch."""

CUT_SLACK = 8
"""A ticket whose name was cut lacks at most so many characters of the longest: no name is cut further than to its last whole letter."""


async def whole_name(node: Handled, named: Sought) -> str:
    """The name to give to what is fetched: the ticket's, or the whole one where that may have been cut, as its maker says it or,
    when it cannot be reached, another peer that has it. Only a name of which the ticket's is a part is believed."""
    hint, root = named.name, named.source.root
    if named.source.ticket is None and not named.source.path:
        return await _name_said(node, named)
    if named.source.path or len(named.source.ticket_text) < TEXT_MAX - CUT_SLACK:
        return hint
    for job in await node.jobs.jobs():
        if job.root == root and not job.path and is_cut_of(hint, job.target.name):
            return job.target.name
    with anyio.move_on_after(NAME_SECONDS):
        for provider in named.providers:
            with suppress(StackError, anyio.BrokenResourceError):
                await node.host.connect(provider.peer, provider.addresses)
                name = await node.ask_name(root, provider.peer, named.secret)
                if is_cut_of(hint, name):
                    return name
    with anyio.move_on_after(NAME_SECONDS / 4):
        for peer in {connection.peer: None for connection in node.host.connections()}:
            name = await node.ask_name(root, peer, named.secret)
            if is_cut_of(hint, name):
                return name
    return hint


async def _name_said(node: Handled, named: Sought) -> str:
    """What those whom the user named call it: nobody else is believed, for a stranger's name may be of another kind of file."""
    with anyio.move_on_after(NAME_SECONDS):
        for provider in named.providers:
            with suppress(StackError, anyio.BrokenResourceError):
                await node.host.connect(provider.peer, provider.addresses)
                if name := await node.ask_name(named.source.root, provider.peer, b""):
                    return name
    return ""


def is_cut_of(hint: str, name: str) -> bool:
    """Whether a ticket that calls it `hint` may have meant `name`: its start, and its suffix where that was kept."""
    stem, dot, suffix = hint.rpartition(".")
    return bool(hint) and (name.startswith(hint) or bool(dot and name.startswith(stem) and name.endswith(dot + suffix)))
