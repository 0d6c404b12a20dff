"""What WebSocket addresses say."""

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.transports.websocket import WebSocketTransport
from stack.transports.websocket.address import WebSocketAddress

READ = [
    ("/ip4/1.2.3.4/tcp/1234/ws", "/ip4/1.2.3.4/tcp/1234", False, None, "/", "1.2.3.4:1234"),
    ("/ip4/1.2.3.4/tcp/80/ws", "/ip4/1.2.3.4/tcp/80", False, None, "/", "1.2.3.4"),
    ("/ip4/1.2.3.4/ws", "/ip4/1.2.3.4/tcp/80", False, None, "/", "1.2.3.4"),
    ("/ip4/1.2.3.4/tls/ws", "/ip4/1.2.3.4/tcp/443", True, None, "/", "1.2.3.4"),
    ("/ip4/1.2.3.4/wss", "/ip4/1.2.3.4/tcp/443", True, None, "/", "1.2.3.4"),
    ("/ip6/::1/tcp/9/wss", "/ip6/::1/tcp/9", True, None, "/", "[::1]:9"),
    ("/ip6zone/eth0/ip6/fe80::1/tcp/9/ws", "/ip6zone/eth0/ip6/fe80::1/tcp/9", False, None, "/", "[fe80::1]:9"),
    ("/ip4/1.2.3.4/tcp/1/tls/sni/a.example/ws", "/ip4/1.2.3.4/tcp/1", True, "a.example", "/", "a.example:1"),
    ("/ip4/1.2.3.4/tcp/1/ws/http-path/a%2Fb", "/ip4/1.2.3.4/tcp/1", False, None, "/a/b", "1.2.3.4:1"),
]


@pytest.mark.parametrize(("text", "tcp", "tls", "name", "path", "host"), READ)
def test_an_address_is_taken_apart(text: str, tcp: str, tls: bool, name: str | None, path: str, host: str) -> None:
    parts = WebSocketAddress.of(Multiaddr.parse(text))
    assert parts is not None
    assert (str(parts.tcp), parts.tls, parts.server_name, parts.path) == (tcp, tls, name, path)
    assert parts.host_header == host


@pytest.mark.parametrize(
    "text", ["/ip4/1.2.3.4/tcp/1", "/dns4/a.example/tcp/1/ws", "/memory/1", "/ip4/1.2.3.4/udp/1/ws"]
)
def test_other_addresses_are_none(text: str) -> None:
    address = Multiaddr.parse(text)
    assert WebSocketAddress.of(address) is None
    assert not WebSocketTransport().can_dial(address)
    assert not WebSocketTransport().can_listen(address)


def test_listening_over_tls_needs_a_certificate() -> None:
    address = Multiaddr.parse("/ip4/127.0.0.1/tcp/0/tls/ws")
    assert WebSocketTransport().can_dial(address)
    assert not WebSocketTransport().can_listen(address)
