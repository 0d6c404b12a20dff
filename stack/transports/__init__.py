"""Transports by name, in order of preference. A row is resolved when it is used; nothing registers itself."""

TRANSPORTS: dict[str, str] = {
    "memory": "stack.transports.memory:MemoryTransport",
    "tcp": "stack.transports.tcp:TcpTransport",
    "ws": "stack.transports.websocket:WebSocketTransport",
    "quic": "stack.transports.quic:QuicTransport",
}
