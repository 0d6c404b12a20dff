"""Protocols that a host serves. A row is a class that takes the host and registers itself there; resolved on use."""

SERVICES: dict[str, str] = {
    "identify": "stack.protocols.identify.service:IdentifyService",
    "ping": "stack.protocols.ping.service:PingService",
    "providers": "stack.protocols.providers.service:ProvidersService",
    "access": "stack.protocols.access.service:AccessService",
    "autonat": "stack.protocols.autonat.service:AutonatService",
    "relay": "stack.protocols.relay.service:RelayService",
    "dcutr": "stack.protocols.dcutr.service:DcutrService",
    "code": "stack.protocols.code.service:CodeService",
    "perf": "stack.protocols.perf.service:PerfService",
}
