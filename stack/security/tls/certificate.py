"""The certificate in which a peer shows its identity: self-signed by a throw-away key, to which the host key says yes.

Source: libp2p specs tls/tls.md, "Peer Authentication". Nothing here trusts a name or an authority.
"""

from datetime import UTC, datetime
from hashlib import sha256
from warnings import catch_warnings

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID

from stack.errors import DecodeError, SecurityError
from stack.identity import ecdsa as ecdsa_keys
from stack.identity import rsa as rsa_keys
from stack.identity.keys import PrivateKey, PublicKey, decode_public
from stack.values import dataclass

KEY_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
"""Where the host key and its signature are."""

SIGNATURE_PREFIX = b"libp2p-tls-handshake:"

CERTIFICATE_BYTES_MAX = 8192
"""With a host key of RSA 8192 and its signature, certified by a key of RSA 4096, it has 4 KiB."""

NOT_BEFORE = datetime(1975, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(4096, 1, 1, tzinfo=UTC)
"""As rust-libp2p: the clocks of peers are wrong, and no date protects a key that is never stored."""

UNDERSTOOD = frozenset({KEY_EXTENSION, ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})
"""What may be marked critical. Who is an authority means nothing here, and what a key may be used for is looked at."""

HASHES = frozenset({"sha256", "sha384", "sha512"})
"""Of the self-signature, where its kind has a hash of its own."""


_DAMAGE = (
    ValueError,
    TypeError,
    DecodeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Whatever the readers of the package and ours say to bytes that are not that."""


class BadCertificate(SecurityError):
    """The peer's certificate proves nothing."""


@asn1.sequence
@dataclass(frozen=True, slots=True)
class SignedKey:
    """The content of the extension, in DER."""

    public_key: bytes
    """The protobuf of the host key."""
    signature: bytes
    """Over `SIGNATURE_PREFIX` and the certificate's own public key."""


def make_certificate(identity: PrivateKey, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A certificate for `key`, which has nothing to do with the host key `identity` and is to serve for nothing else."""
    public = _encoded(key.public_key())
    signed = SignedKey(public_key=identity.public.encode(), signature=identity.sign(SIGNATURE_PREFIX + public))
    serial = int.from_bytes(sha256(public).digest()[:8])
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, str(serial))])
    return (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.UnrecognizedExtension(KEY_EXTENSION, asn1.encode_der(signed)), critical=True)
        .sign(key, hashes.SHA256())
    )


def check_certificate(data: bytes, wall: float) -> PublicKey:
    """The host key that a certificate in DER proves, at `wall` (seconds since 1970). Raises BadCertificate, BadSignature."""
    if len(data) > CERTIFICATE_BYTES_MAX:
        raise BadCertificate(f"a certificate of {len(data)} bytes, {CERTIFICATE_BYTES_MAX} are allowed")
    try:
        with catch_warnings(
            action="ignore", category=CryptographyDeprecationWarning
        ):  # a peer writes nothing to our stderr
            certificate = x509.load_der_x509_certificate(data)
        if certificate.version is not x509.Version.v3:
            raise BadCertificate("the certificate is of a version that has no extensions")
        key = certificate.public_key()
        _check_key(key)
        now = datetime.fromtimestamp(wall, UTC)
        if now < certificate.not_valid_before_utc:
            raise BadCertificate(f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")
        if now > certificate.not_valid_after_utc:
            raise BadCertificate(f"the certificate has expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        signed = _signed_key(certificate.extensions)
        host_key = decode_public(signed.public_key)
        algorithm = certificate.signature_hash_algorithm
        if algorithm is not None and algorithm.name not in HASHES:
            raise BadCertificate(f"the certificate is signed over a hash of {algorithm.name}")
        certificate.verify_directly_issued_by(certificate)
        host_key.verify(SIGNATURE_PREFIX + _encoded(key), signed.signature)
    except InvalidSignature as error:
        raise BadCertificate("the certificate is not signed by its own key") from error
    except _DAMAGE as error:
        raise BadCertificate(f"the certificate is damaged: {error}") from error
    return host_key


def _check_key(key: CertificatePublicKeyTypes) -> None:
    """Before anything is verified with it: the kinds that TLS signs with, and of RSA no size that costs us minutes."""
    if isinstance(key, rsa.RSAPublicKey):
        rsa_keys.decode_public(_encoded(key))
    elif isinstance(key, ec.EllipticCurvePublicKey):
        ecdsa_keys.decode_public(_encoded(key))
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise BadCertificate("the key of the certificate is not ECDSA, Ed25519 or RSA")


def _signed_key(extensions: x509.Extensions) -> SignedKey:
    found = None
    for extension in extensions:
        if extension.critical and extension.oid not in UNDERSTOOD:
            raise BadCertificate(
                f"the certificate has a critical extension we do not know, {extension.oid.dotted_string}"
            )
        if isinstance(extension.value, x509.KeyUsage) and not extension.value.digital_signature:
            raise BadCertificate("the key of the certificate is not for signatures")
        if isinstance(extension.value, x509.UnrecognizedExtension) and extension.oid == KEY_EXTENSION:
            found = extension.value.value
    if found is None:
        raise BadCertificate("the certificate has no libp2p extension")
    return asn1.decode_der(SignedKey, found)


def _encoded(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
