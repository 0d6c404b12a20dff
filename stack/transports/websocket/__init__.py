"""WebSocket (RFC 6455), plain and over TLS, as a byte stream. Source: libp2p/specs, websockets/README.md."""

from stack.transports.websocket.transport import WebSocketTransport

__all__ = ["WebSocketTransport"]
