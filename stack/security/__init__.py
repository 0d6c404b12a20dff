"""How a raw stream becomes a secured one; each row is resolved on use, first is preferred."""

SECURITY: dict[str, str] = {
    "/noise": "stack.security.noise.shell:NoiseSecurity",
    "/tls/1.0.0": "stack.security.tls.shell:TlsSecurity",
}
