"""TLS over lines on which everything waits, and that fail."""

from stack.identity.keys import PrivateKey
from stack.security.interfaces import Security
from stack.security.tls.shell import TlsSecurity
from stack.testing.conformance.faults import SecurityConformance


class TestTls(SecurityConformance):
    moments = 10

    def security(self, key: PrivateKey) -> Security:
        return TlsSecurity(key)
