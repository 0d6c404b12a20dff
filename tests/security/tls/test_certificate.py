"""The certificates of libp2p TLS by themselves."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate
from hypothesis import assume, given
from hypothesis import strategies as st

from stack.errors import SecurityError
from stack.identity.peer_id import PeerId
from stack.security.tls.certificate import BadCertificate, check_certificate, make_certificate
from tests.security.tls.bad_certificates import GOOD, WALL, host

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "libp2p-spec.json").read_text())["tls_certificates"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["case"])
def test_the_certificates_of_the_specification(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["certificate_der_hex"])
    if vector.get("peer_id"):
        assert str(PeerId.of(check_certificate(data, WALL))) == vector["peer_id"]
    else:
        with pytest.raises(SecurityError, match="does not verify"):
            check_certificate(data, WALL)


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_what_we_make_proves_our_identity_whenever_it_is_looked_at(kind: str) -> None:
    made = make_certificate(host(kind), ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.DER)
    for year in (1980, 2026, 4000):
        assert check_certificate(made, datetime(year, 1, 1, tzinfo=UTC).timestamp()) == host(kind).public
    with pytest.raises(BadCertificate, match="expired on 4096-01-01"):
        check_certificate(made, datetime(4096, 1, 2, tzinfo=UTC).timestamp())


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_certificate_with_one_byte_changed_is_refused(at: int, change: int) -> None:
    assume(
        at != len(GOOD) - len(load_der_x509_certificate(GOOD).signature) - 1
    )  # how many of its last bits are padding
    damaged = bytearray(GOOD)
    damaged[at] ^= change
    with pytest.raises(SecurityError):
        check_certificate(bytes(damaged), WALL)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_certificate_or_our_error(data: bytes) -> None:
    with pytest.raises(SecurityError):
        check_certificate(data, WALL)
