"""Noise over lines on which everything waits, and that fail."""

from stack.identity.keys import PrivateKey
from stack.security.interfaces import Security
from stack.security.noise.shell import NoiseSecurity
from stack.testing.conformance.faults import SecurityConformance


class TestNoise(SecurityConformance):
    def security(self, key: PrivateKey) -> Security:
        return NoiseSecurity(key)
