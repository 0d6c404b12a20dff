"""A raw stream becomes a secured, multiplexed connection, or nothing: each phase has a deadline, and what fails is closed."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import TypeVar, cast

import anyio

from stack.errors import NegotiationError, SecurityError, StackError, TransportError
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.muxers import MUXERS
from stack.muxers.interfaces import Muxer
from stack.net.negotiate import select_one, serve
from stack.sansio.budget import Scope
from stack.security import SECURITY
from stack.security.interfaces import Protector, Security
from stack.streams.interfaces import MuxedConnection, RawStream, SecureChannel
from stack.streams.sealed import SealedStream
from stack.transports.interfaces import NewConnection, SecuredConnection

T = TypeVar("T")

PHASE_SECONDS = 10.0
"""For security, and again for the muxer: limits.md has 10 s for the Noise handshake and for multistream."""


class Upgrader:
    """Agrees on security and a muxer, in that order, at either end."""

    def __init__(
        self, security: Mapping[str, Security], muxers: Mapping[str, Muxer], protector: Protector | None = None
    ) -> None:
        """Both by protocol id, preferred first; a `protector` stands in front of everything."""
        self._protector = protector
        self._security = security
        self._muxers = muxers

    @property
    def private(self) -> bool:
        """Only members of a private network get through."""
        return self._protector is not None

    @property
    def first_phase(self) -> str:
        """What it is called where it fails: a stranger to a private network may end it, or leave it hanging."""
        return "security handshake" if self._protector is None else "handshake with the key of this private network"

    @staticmethod
    def of(
        key: PrivateKey,
        protector: Protector | None = None,
        security: Mapping[str, str] = MappingProxyType(SECURITY),
        muxers: Callable[[], Mapping[str, str]] = lambda: MUXERS,
    ) -> "Upgrader":
        """With every row of `MUXERS`, and of `SECURITY` or of these; `muxers` is asked when there is the first to choose."""
        secured = _Rows(lambda: security, lambda make: cast(Security, make(key)))
        return Upgrader(secured, _Rows(muxers, lambda make: cast(Muxer, make())), protector)

    def load(self) -> None:
        """Look up what there is to choose from, which reads the disk, before the first choice does; for a worker thread."""
        len(self._muxers)

    def for_key(self, key: PrivateKey) -> "Upgrader":
        """For another identity in the same network, secured as this one."""
        table = self._security.table if isinstance(self._security, _Rows) else SECURITY
        muxers = self._muxers
        return Upgrader.of(key, self._protector, table, lambda: muxers.table if isinstance(muxers, _Rows) else MUXERS)

    async def secure(
        self,
        stream: NewConnection,
        *,
        outbound: bool,
        expected: PeerId | None,
        agreed: Callable[[], object] = lambda: None,
    ) -> SecureChannel | SecuredConnection:
        """The first phase: who is there; `agreed` is called when it has said how it will prove it. Closes `stream` when it fails. A
        connection that its transport has secured is through already.

        Raises SecurityError (PeerIdMismatch), NegotiationError, TransportError (it broke, or took too long).
        """
        if isinstance(stream, SecuredConnection):
            return stream
        if self._protector is not None:
            stream = self._protector.protect(stream, outbound=outbound)
        async with _phase(self.first_phase, stream):
            if outbound:
                name = await select_one(stream, list(self._security))
            else:
                name = await serve(stream, self._security)
            agreed()
            return await self._security[name].upgrade(
                stream, outbound=outbound, expected=expected, muxers=list(self._muxers)
            )

    async def multiplex(
        self, channel: SecureChannel | SecuredConnection, *, outbound: bool, scope: Scope
    ) -> MuxedConnection:
        """The second phase; `scope` is charged for what the muxer keeps. Closes the channel's stream when it fails.

        Raises NegotiationError, SecurityError, TransportError.
        """
        if isinstance(channel, SecuredConnection):
            return channel.multiplexed(scope=scope)
        async with _phase("choice of a muxer", channel.stream):
            name = channel.muxer
            if name is None:
                sealed = SealedStream(channel)
                if outbound:
                    name = await select_one(sealed, list(self._muxers))
                else:
                    name = await serve(sealed, self._muxers)
                channel = sealed.channel_behind()
            await (
                anyio.lowlevel.checkpoint_if_cancelled()
            )  # nobody waits from here on, and what is made has to be closed
            return self._muxers[name].connection(channel, outbound=outbound, scope=scope)


@asynccontextmanager
async def _phase(name: str, stream: RawStream) -> AsyncIterator[None]:
    """Set the deadline; on any error close `stream`, and raise what callers expect."""
    try:
        with anyio.fail_after(PHASE_SECONDS):
            yield
    except BaseException as error:
        await stream.aclose()
        if isinstance(error, TimeoutError):
            raise TransportError(f"no {name} within {PHASE_SECONDS:g} s") from None
        if isinstance(error, (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)):
            raise TransportError(f"the connection ended within the {name}") from error
        if isinstance(error, StackError) and not isinstance(error, (SecurityError, NegotiationError, TransportError)):
            raise NegotiationError(f"{name} failed: {error}") from error
        raise


class _Rows(Mapping[str, T]):
    """A table whose rows are resolved when they are first looked up: a node that meets nobody loads no handshake."""

    def __init__(self, load: Callable[[], Mapping[str, str]], make: Callable[[Callable[..., object]], T]) -> None:
        self._load = load
        self._make = make
        self._made: dict[str, T] = {}

    @cached_property
    def table(self) -> Mapping[str, str]:
        """The rows as they are written."""
        return self._load()

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            module, _, attribute = self.table[name].partition(":")
            self._made[name] = self._make(getattr(import_module(module), attribute))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)
