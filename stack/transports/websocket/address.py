"""What a WebSocket address says: `/ip4/1.2.3.4/tcp/80/ws`, `.../tcp/443/tls/ws`, `.../tcp/443/wss`,
`.../tls/sni/example.com/ws`. Source: libp2p/specs, websockets/README.md, "Addressing"."""

from urllib.parse import quote, unquote

from stack.multiformats.multiaddr import Multiaddr
from stack.values import dataclass

_HOSTS = (("ip4",), ("ip6",), ("ip6zone", "ip6"))
_WRAPPINGS = (("ws",), ("wss",), ("tls", "ws"), ("tls", "wss"), ("tls", "sni", "ws"), ("tls", "sni", "wss"))
PLAIN_PORT = "80"
TLS_PORT = "443"


@dataclass(frozen=True, slots=True)
class WebSocketAddress:
    """An address taken apart."""

    tcp: Multiaddr
    """Where the TCP connection goes."""
    tls: bool
    server_name: str | None
    """What the certificate must be for; None means the IP address."""
    path: str
    """The request target."""

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        host = self.server_name or self.tcp.get("ip4") or f"[{self.tcp.get('ip6')}]"
        port = self.tcp.get("tcp")
        return host if port == (TLS_PORT if self.tls else PLAIN_PORT) else f"{host}:{port}"

    @staticmethod
    def of(address: Multiaddr) -> "WebSocketAddress | None":
        """None when `address` is not a WebSocket address with an IP address in front."""
        names = address.protocols
        host = next((form for form in _HOSTS if names[: len(form)] == form), None)
        if host is None:
            return None
        rest = names[len(host) :]
        has_port = rest[:1] == ("tcp",)
        rest = rest[1:] if has_port else rest
        path = "/"
        if rest[-1:] == ("http-path",):
            path = "/" + quote(unquote(address.get("http-path") or "").lstrip("/"), safe="/~-._")
            rest = rest[:-1]
        if rest not in _WRAPPINGS:
            return None
        tls = rest != ("ws",)
        port = address.get("tcp") if has_port else (TLS_PORT if tls else PLAIN_PORT)
        text = "".join(f"/{name}/{value}" for name, value in list(address)[: len(host)]) + f"/tcp/{port}"
        return WebSocketAddress(Multiaddr.parse(text), tls, address.get("sni"), path)

    def over(self, tcp: Multiaddr) -> Multiaddr:
        """The address of a peer at `tcp` reached in the same way."""
        return tcp.encapsulate(Multiaddr.parse("/tls/ws" if self.tls else "/ws"))
