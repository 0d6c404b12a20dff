"""Every transport does what all transports must do."""

from collections.abc import Awaitable, Callable

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.testing.conformance.transports import CHECKS
from stack.testing.lines import Line, LineTransport
from stack.transports.interfaces import Transport
from stack.transports.memory import MemoryNetwork, MemoryTransport
from stack.transports.tcp import TcpTransport
from stack.transports.websocket import WebSocketTransport
from tests.transports.certificates import client_context, server_context

CASES: dict[str, tuple[Callable[[], Transport], str]] = {
    "memory": (lambda: MemoryTransport(MemoryNetwork()), "/memory/0"),
    "a bad line": (LineTransport, "/memory/0"),
    "a bad line that can only be waited for": (lambda: LineTransport(Line(direct=False)), "/memory/0"),
    "tcp over IPv4": (TcpTransport, "/ip4/127.0.0.1/tcp/0"),
    "tcp over IPv6": (TcpTransport, "/ip6/::1/tcp/0"),
    "websocket over IPv4": (WebSocketTransport, "/ip4/127.0.0.1/tcp/0/ws"),
    "websocket over IPv6": (WebSocketTransport, "/ip6/::1/tcp/0/ws"),
    "websocket over TLS": (
        lambda: WebSocketTransport(client_tls=client_context(), server_tls=server_context()),
        "/ip4/127.0.0.1/tcp/0/tls/ws",
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", CASES)
async def test_a_transport_does_what_all_transports_must(
    case: str, check: Callable[[Transport, Multiaddr], Awaitable[None]]
) -> None:
    make, address = CASES[case]
    await check(make(), Multiaddr.parse(address))
