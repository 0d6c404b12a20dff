"""A certificate authority of our own and a certificate of it for this machine, made anew for each run."""

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@cache
def _material() -> tuple[x509.Certificate, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority's certificate, ours, and the key of ours."""
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName("peer.example"), x509.IPAddress(ip_address("127.0.0.1")), x509.IPAddress(ip_address("::1"))]
    of_root = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
    authority = (
        _begin("authority.example", root)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, False, False, False), critical=True)
    )
    certificate = (
        _begin("peer.example", key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(of_root, critical=False)
    )
    return authority.sign(root, hashes.SHA256()), certificate.sign(root, hashes.SHA256()), key


def _begin(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority.example")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def write(folder: Path) -> None:
    """`authority`, `certificate` and `key`, each as .pem and as .der."""
    authority, certificate, key = _material()
    for ending, encoding in (("pem", Encoding.PEM), ("der", Encoding.DER)):
        (folder / f"authority.{ending}").write_bytes(authority.public_bytes(encoding))
        (folder / f"certificate.{ending}").write_bytes(certificate.public_bytes(encoding))
        (folder / f"key.{ending}").write_bytes(key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption()))


@cache
def server_context() -> ssl.SSLContext:
    """For listening."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        context.load_cert_chain(f"{folder}/certificate.pem", f"{folder}/key.pem")
    return context


@cache
def client_context() -> ssl.SSLContext:
    """For dialling: trusts the authority above and no other."""
    return ssl.create_default_context(cadata=_material()[0].public_bytes(Encoding.PEM).decode())
