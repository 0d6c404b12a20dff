"""Transports that are loaded when the first address comes that no other understands: most nodes never need them."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import cast

from stack.errors import TransportError
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import RawStream
from stack.streams.supervision import Supervisor
from stack.transports import TRANSPORTS
from stack.transports.interfaces import (
    KnockingTransport,
    Listener,
    ListenError,
    NewConnection,
    PunchingTransport,
    SecuringTransport,
    Transport,
)
from stack.transports.tcp import TcpTransport


def of_row(row: str) -> list[Transport]:
    """The transport behind a row of `TRANSPORTS`."""
    home, _, attribute = row.partition(":")
    return [cast(Transport, getattr(import_module(home), attribute)())]


def protectable(transport: Transport, address: Multiaddr) -> bool:
    """Whether a private network's key can be laid around the streams that `transport` gives for `address`."""
    return getattr(_behind(transport, address), "protectable", False) is True


def hosted(transport: Transport, key: PrivateKey, tasks: Supervisor) -> Transport:
    """The same, or what takes its place in a host: see `SecuringTransport.hosted`."""
    # An ability is asked for by its name, here and below: most transports do not have it.
    in_host = getattr(transport, "hosted", None)
    return cast(Transport, in_host(key, tasks)) if in_host is not None else transport


async def dial(transport: Transport, address: Multiaddr, expected: PeerId | None) -> NewConnection:
    """What `transport` gives for `address`; where it proves who is there, that is `expected`. Raises as its `dial` or `dial_secured`."""
    behind = _behind(transport, address)
    if hasattr(behind, "dial_secured"):
        return await cast(SecuringTransport, behind).dial_secured(address, expected)
    return await transport.dial(address)


async def punch(transport: Transport, address: Multiaddr, expected: PeerId | None, *, client: bool) -> NewConnection:
    """The same from a port that is listened on, while the other end opens its router, or dials us. Where connections are secured by
    their transport only the `client` dials; who is not opens its own router for the client until it is cancelled."""
    behind = _behind(transport, address)
    if hasattr(behind, "knock"):
        if not client:
            await cast(KnockingTransport, behind).knock(address)
        return await cast(KnockingTransport, behind).dial_secured(address, expected)
    if hasattr(behind, "dial_from_port"):
        return await cast(PunchingTransport, behind).dial_from_port(address)
    raise TransportError("no transport for this address can dial from a port that is listened on")


def _behind(transport: Transport, address: Multiaddr) -> Transport | None:
    return transport.behind(address) if isinstance(transport, LateTransport) else transport


class LateTransport:
    """Stands for the transports that `load` gives; comes last in the list of a host."""

    def __init__(self, load: Callable[[], Sequence[Transport]]) -> None:
        self._load = load
        self._transports: Sequence[Transport] | None = None

    def _all(self) -> Sequence[Transport]:
        if self._transports is None:
            self._transports = self._load()
        return self._transports

    def behind(self, address: Multiaddr) -> Transport | None:
        """The one that understands an address."""
        return next((each for each in self._all() if each.can_dial(address) or each.can_listen(address)), None)

    def can_dial(self, address: Multiaddr) -> bool:
        """See `Transport.can_dial`."""
        return any(transport.can_dial(address) for transport in self._all())

    def can_listen(self, address: Multiaddr) -> bool:
        """See `Transport.can_listen`."""
        return any(transport.can_listen(address) for transport in self._all())

    def hosted(self, key: PrivateKey, tasks: Supervisor) -> "LateTransport":
        """See `SecuringTransport.hosted`."""
        return LateTransport(lambda: [hosted(transport, key, tasks) for transport in self._load()])

    def apart(self) -> "LateTransport":
        """See `transports.interfaces.Transport`."""
        return LateTransport(self._load)

    async def dial(self, address: Multiaddr) -> RawStream:
        """See `Transport.dial`."""
        for transport in self._all():
            if transport.can_dial(address):
                return await transport.dial(address)
        raise TransportError(f"no transport understands {address}")

    async def listen(self, address: Multiaddr) -> Listener:
        """See `Transport.listen`."""
        for transport in self._all():
            if transport.can_listen(address):
                return await transport.listen(address)
        raise ListenError(address, "no transport understands it")


def default_transports() -> list[Transport]:
    """TCP, which nearly every address is, then the rest of the table, each loaded when an address asks for it."""
    return [TcpTransport(), *(LateTransport(partial(of_row, row)) for name, row in TRANSPORTS.items() if name != "tcp")]
