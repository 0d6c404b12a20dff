"""What no peer may show: a table of handshakes, each wrong in one place, and what is said about it.

A row is built from the parts of a good certificate, which the first test accepts. The certificates are put together by hand, since
no library would make most of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from stack.identity.keys import PrivateKey, generate
from stack.multiformats import varint
from stack.security.tls.certificate import KEY_EXTENSION, SIGNATURE_PREFIX
from tests.security.tls.forger import Show

WALL = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
"""When all of them are shown."""
NOW = datetime.fromtimestamp(WALL, UTC)

ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
ECDSA_SHA1 = bytes.fromhex("06072a8648ce3d0401")
RSA_SHA256 = bytes.fromhex("06092a864886f70d01010b0500")
ED25519 = bytes.fromhex("06032b6570")
ED448 = bytes.fromhex("06032b6571")
DSA_SHA256 = bytes.fromhex("0609608648016503040302")


def der(tag: int, *content: bytes) -> bytes:
    """One element of DER."""
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + body


def signed_key(public: bytes, signature: bytes) -> bytes:
    """The content of the libp2p extension."""
    return der(0x30, der(0x04, public), der(0x04, signature))


def an_extension(oid: x509.ObjectIdentifier | str, value: bytes, *, critical: bool = False) -> bytes:
    """An extension as it stands in a certificate."""
    encoded = x509.ObjectIdentifier(oid) if isinstance(oid, str) else oid
    return der(0x30, an_oid(encoded.dotted_string), der(0x01, b"\xff") if critical else b"", der(0x04, value))


def an_oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = bytes((40 * first + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return der(0x06, content)


def a_name(text: str) -> bytes:
    return der(0x30, der(0x31, der(0x30, an_oid("2.5.4.3"), der(0x0C, text.encode())))) if text else der(0x30)


def a_date(when: datetime | bytes) -> bytes:
    return der(0x18, when if isinstance(when, bytes) else f"{when:%Y%m%d%H%M%S}Z".encode())


CERTIFIED = ec.derive_private_key(7, ec.SECP256R1())
"""The key of most certificates."""
OTHER = ec.derive_private_key(8, ec.SECP256R1())


def spki(key: object) -> bytes:
    public: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return public


@cache
def host(kind: str = "ed25519", number: int = 0) -> PrivateKey:
    """The identity that is, or should be, shown."""
    return generate(kind)


def an_extension_of(
    identity: PrivateKey, certified: bytes = spki(CERTIFIED), prefix: bytes = SIGNATURE_PREFIX
) -> bytes:
    return signed_key(identity.public.encode(), identity.sign(prefix + certified))


def signature_of(key: object, data: bytes) -> bytes:
    """By the algorithm that a certificate names for this kind of key."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        case dsa.DSAPrivateKey():
            return key.sign(data, hashes.SHA256())
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key.sign(data)
    return bytes(70)


def algorithm_of(key: object) -> bytes:
    match key:
        case rsa.RSAPrivateKey():
            return RSA_SHA256
        case ed25519.Ed25519PrivateKey():
            return ED25519
        case ed448.Ed448PrivateKey():
            return ED448
        case dsa.DSAPrivateKey():
            return DSA_SHA256
    return ECDSA_SHA256


def certificate(
    extension: bytes | None = None,
    *,
    key: object = CERTIFIED,
    extensions: Sequence[bytes] | None = None,
    critical: bool = False,
    before: datetime | bytes = NOW - timedelta(hours=1),
    after: datetime | bytes = NOW + timedelta(hours=1),
    subject: str = "peer",
    issuer: str = "peer",
    signer: object = None,
    algorithm: bytes | None = None,
    inner_algorithm: bytes | None = None,
    version: int = 2,
    serial: int = 1,
    public: bytes | None = None,
    change: Callable[[bytes], bytes] = lambda signature: signature,
) -> bytes:
    """A good certificate of `host()`, but for what is said."""
    algorithm = algorithm or algorithm_of(signer or key)
    if extensions is None:
        if extension is None:
            extension = an_extension_of(host(), spki(key))
        extensions = [an_extension(KEY_EXTENSION, extension, critical=critical)]
    tbs = der(
        0x30,
        der(0xA0, der(0x02, bytes((version,)))) if version else b"",
        der(0x02, bytes((serial,))),
        der(0x30, inner_algorithm or algorithm),
        a_name(issuer),
        der(0x30, a_date(before), a_date(after)),
        a_name(subject),
        spki(key) if public is None else public,
        der(0xA3, der(0x30, *extensions)) if extensions else b"",
    )
    return der(0x30, tbs, der(0x30, algorithm), der(0x03, b"\0" + change(signature_of(signer or key, tbs))))


def libp2p(extension: bytes | None = None, *, critical: bool = False) -> bytes:
    return an_extension(KEY_EXTENSION, an_extension_of(host()) if extension is None else extension, critical=critical)


def host_key(kind: int, data: bytes) -> bytes:
    """The extension with a public key of our making; it has to fail before its signature is looked at."""
    return signed_key(bytes((0x08, kind, 0x12)) + varint.encode(len(data)) + data, bytes(64))


def rsa_numbers(bits: int, exponent: int = 65537) -> bytes:
    """An RSA key that nobody has, in DER."""
    return (
        rsa.RSAPublicNumbers(exponent, (1 << (bits - 1)) + 1)
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


@dataclass(frozen=True)
class Bad:
    """A row: what is shown, and what the error says at the end that refuses it."""

    show: Callable[[], Show]
    says: str


def bad(says: str, *arguments: object, certified: object = CERTIFIED, **named: object) -> Bad:
    """The certificate that `certificate` makes of these."""

    def show() -> Show:
        given = [argument() if callable(argument) else argument for argument in arguments]
        key = certified() if callable(certified) else certified
        made = certificate(*given, key=key, **named)  # type: ignore[arg-type] # as that says
        return Show(certificates=[made], key=key)

    return Bad(show, says)


def shown(says: str, *certificates: bytes, **named: object) -> Bad:
    """These very certificates."""
    return Bad(lambda: Show(certificates=certificates, **{"key": CERTIFIED, **named}), says)  # type: ignore[arg-type] # likewise


def flipped(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


GOOD = certificate()
POINT_OFF_CURVE = flipped(spki(CERTIFIED))
OPENSSL = "the TLS handshake failed"
DAMAGED = "the certificate is damaged"
AUTHORITY = an_extension(ExtensionOID.BASIC_CONSTRAINTS, der(0x30, der(0x01, b"\xff")), critical=True)
IN_TLS_OR = f"{OPENSSL}|{DAMAGED}"

BAD: dict[str, Bad] = {
    # Nothing, or no certificate at all.
    "no certificate": shown(OPENSSL),
    "an empty certificate": shown(OPENSSL, b""),
    "random bytes": shown(OPENSSL, bytes(range(256))),
    "a sequence of nothing": shown(IN_TLS_OR, der(0x30)),
    "cut off": shown(IN_TLS_OR, GOOD[:-1]),
    "a byte behind it": shown(IN_TLS_OR, GOOD + b"\0"),
    "larger than we read": bad("bytes, 8192 are allowed", extensions=[libp2p(), an_extension("1.2.3", bytes(8192))]),
    "of 60 kB": bad("more than 32768 bytes", extensions=[libp2p(), an_extension("1.2.3", bytes(60_000))]),
    "of version 1": bad("a version that has no extensions", version=0, extensions=[]),
    "of version 1 with extensions": bad("a version that has no extensions", version=0),
    "of version 7": bad(IN_TLS_OR, version=6),
    # Chains.
    "its own twice": shown("more than one certificate", GOOD, GOOD),
    "its own and another": shown("more than one certificate", GOOD, certificate(subject="b", issuer="b")),
    "a chain of its own and the issuer's": Bad(
        lambda: Show(
            certificates=[
                certificate(issuer="ca", signer=OTHER),
                certificate(key=OTHER, subject="ca", issuer="ca", extensions=[libp2p(), AUTHORITY]),
            ],
            key=CERTIFIED,
        ),
        "more than one certificate",
    ),
    "twenty": shown("more than one certificate", *[GOOD] * 20),
    "a hundred": shown("more than 32768 bytes", *[GOOD] * 100),
    "one that cannot be read behind it": shown(OPENSSL, GOOD, b"\x30\x03"),
    # The libp2p extension and what stands beside it.
    "no extension at all": bad("no libp2p extension", extensions=[]),
    "another extension": bad("no libp2p extension", extensions=[an_extension("1.3.6.1.4.1.53594.1.2", b"\5\0")]),
    "two libp2p extensions": bad(DAMAGED, extensions=[libp2p(), libp2p()]),
    "two libp2p extensions, the second is another's": bad(
        DAMAGED, extensions=[libp2p(), libp2p(an_extension_of(host(number=1)))]
    ),
    "another extension twice": bad(
        DAMAGED, extensions=[libp2p(), an_extension("1.2.3", b"\5\0"), an_extension("1.2.3", b"")]
    ),
    "an unknown critical extension": bad(
        "critical extension we do not know, 1.2.3", extensions=[libp2p(), an_extension("1.2.3", b"\5\0", critical=True)]
    ),
    "an unknown critical extension in front": bad(
        "critical extension we do not know", extensions=[an_extension("1.2.3", b"", critical=True), libp2p()]
    ),
    "critical constraints on names": bad(
        "critical extension we do not know",
        extensions=[
            libp2p(),
            an_extension(
                ExtensionOID.NAME_CONSTRAINTS, der(0x30, der(0xA0, der(0x30, der(0x82, b"a")))), critical=True
            ),
        ],
    ),
    "a critical purpose": bad(
        "critical extension we do not know",
        extensions=[
            libp2p(),
            an_extension(
                ExtensionOID.EXTENDED_KEY_USAGE,
                der(0x30, an_oid(ExtendedKeyUsageOID.CODE_SIGNING.dotted_string)),
                critical=True,
            ),
        ],
    ),
    "a key that is not for signatures": bad(
        "not for signatures", extensions=[libp2p(), an_extension(ExtensionOID.KEY_USAGE, der(0x03, b"\x05\x20"))]
    ),
    "damaged constraints": bad(
        DAMAGED, extensions=[libp2p(), an_extension(ExtensionOID.BASIC_CONSTRAINTS, b"\xff\xff")]
    ),
    # What is in it.
    "an extension of nothing": bad(DAMAGED, b""),
    "an extension of zeros": bad(DAMAGED, bytes(100)),
    "an extension of random bytes": bad(DAMAGED, b"".join(sha256(bytes((n,))).digest() for n in range(32))),
    "cut off in the extension": bad(DAMAGED, lambda: an_extension_of(host())[:-1]),
    "a byte behind what is in it": bad(DAMAGED, lambda: an_extension_of(host()) + b"\0"),
    "a length that is not minimal": bad(DAMAGED, lambda: b"\x30\x81" + an_extension_of(host())[1:]),
    "a length that never ends": bad(DAMAGED, lambda: b"\x30\x80" + an_extension_of(host())[2:] + b"\0\0"),
    "a length of 4 GiB": bad(DAMAGED, lambda: b"\x30\x84\xff\xff\xff\xff" + an_extension_of(host())[2:]),
    "a set": bad(DAMAGED, lambda: b"\x31" + an_extension_of(host())[1:]),
    "a number for the key": bad(DAMAGED, der(0x30, der(0x02, b"\x01"), der(0x04, b"x"))),
    "bits for the signature": bad(DAMAGED, der(0x30, der(0x04, host().public.encode()), der(0x03, bytes(65)))),
    "no signature": bad(DAMAGED, der(0x30, der(0x04, host().public.encode()))),
    "a third field": bad(DAMAGED, der(0x30, der(0x04, host().public.encode()), der(0x04, bytes(64)), der(0x04))),
    "signature and key in each other's place": bad(
        DAMAGED,
        lambda: der(
            0x30, der(0x04, host().sign(SIGNATURE_PREFIX + spki(CERTIFIED))), der(0x04, host().public.encode())
        ),
    ),
    "sequences nested a thousand deep": bad(DAMAGED, b"\x30\x80" * 1000),
    # The host key.
    "an empty host key": bad(DAMAGED, signed_key(b"", bytes(64))),
    "a host key that is no protobuf": bad(DAMAGED, signed_key(b"\xff" * 36, bytes(64))),
    "a host key without a type": bad(DAMAGED, signed_key(b"\x12\x20" + bytes(32), bytes(64))),
    "a host key without data": bad(DAMAGED, signed_key(b"\x08\x01", bytes(64))),
    "a host key of a type there is not": bad(DAMAGED, host_key(9, bytes(32))),
    "an Ed25519 key that says it is secp256k1": bad(DAMAGED, lambda: host_key(2, host().public.data)),
    "an Ed25519 key that says it is ECDSA": bad(DAMAGED, lambda: host_key(3, host().public.data)),
    "an Ed25519 key that says it is RSA": bad(DAMAGED, lambda: host_key(0, host().public.data)),
    "an ECDSA key that says it is RSA": bad(DAMAGED, host_key(0, spki(CERTIFIED))),
    "an Ed25519 key of 31 bytes": bad(DAMAGED, host_key(1, bytes(31))),
    "an Ed25519 key of 33 bytes": bad(DAMAGED, host_key(1, bytes(33))),
    "an Ed25519 key off the curve": bad("does not verify", host_key(1, b"\x02" + bytes(31))),
    "a secp256k1 key off the curve": bad(DAMAGED, host_key(2, b"\x02" + b"\xff" * 32)),
    "a secp256k1 key that is not compressed": bad(DAMAGED, host_key(2, b"\x04" + bytes(64))),
    "an ECDSA key off the curve": bad(DAMAGED, host_key(3, POINT_OFF_CURVE)),
    "an ECDSA key on secp256k1": bad(DAMAGED, lambda: host_key(3, spki(ec.derive_private_key(5, ec.SECP256K1())))),
    "an RSA key of 1024 bits": bad(DAMAGED, lambda: host_key(0, rsa_numbers(1024))),
    "an RSA key of 16384 bits": bad(DAMAGED, lambda: host_key(0, rsa_numbers(16384))),
    "an RSA key with an exponent that takes minutes": bad(
        DAMAGED, lambda: host_key(0, rsa_numbers(2048, (1 << 2000) + 1))
    ),
    # Its signature.
    "an empty signature": bad("does not verify", lambda: signed_key(host().public.encode(), b"")),
    "a signature of zeros": bad("does not verify", lambda: signed_key(host().public.encode(), bytes(64))),
    "one bit of the signature": bad("does not verify", lambda: flipped(an_extension_of(host()))),
    "a signature over another prefix": bad(
        "does not verify", lambda: an_extension_of(host(), prefix=b"noise-libp2p-static-key:")
    ),
    "a signature without the prefix": bad("does not verify", lambda: an_extension_of(host(), prefix=b"")),
    "a signature over the point alone": bad("does not verify", lambda: an_extension_of(host(), spki(CERTIFIED)[-65:])),
    "the extension of another's certificate": bad("does not verify", lambda: an_extension_of(host(), spki(OTHER))),
    **{
        f"a signature of another {kind} key": bad(
            "does not verify",
            lambda kind=kind: signed_key(
                host(kind).public.encode(), host(kind, 1).sign(SIGNATURE_PREFIX + spki(CERTIFIED))
            ),
        )
        for kind in ("ed25519", "secp256k1", "ecdsa", "rsa")
    },
    # Dates.
    "expired a second ago": bad("has expired", after=NOW - timedelta(seconds=1)),
    "expired in 1975": bad("has expired", before=datetime(1970, 1, 1), after=datetime(1975, 1, 1)),
    "valid in a second": bad("not valid before", before=NOW + timedelta(seconds=1)),
    "valid in a century": bad("not valid before", before=datetime(2126, 1, 1), after=datetime(2127, 1, 1)),
    "expired before it began": bad(
        "not valid before|expired", before=NOW + timedelta(days=1), after=NOW - timedelta(days=1)
    ),
    "the 13th month": bad(IN_TLS_OR, after=b"20271301000000Z"),
    "a date that is text": bad(IN_TLS_OR, after=b"tomorrow"),
    # The self-signature.
    "signed by another key": bad("not signed by its own key", signer=OTHER),
    "signed by the host key": bad(f"{DAMAGED}|not signed by", signer=ed25519.Ed25519PrivateKey.generate()),
    "one bit of the self-signature": bad("not signed by its own key", change=flipped),
    "an empty self-signature": bad("not signed by its own key", change=lambda signature: b""),
    "a self-signature of zeros": bad("not signed by its own key", change=lambda signature: bytes(len(signature))),
    "signed over SHA-1": bad(f"hash of sha1|{OPENSSL}", algorithm=ECDSA_SHA1),
    "an algorithm there is not": bad(IN_TLS_OR, algorithm=an_oid("1.2.3.4")),
    "another algorithm inside": bad(IN_TLS_OR, inner_algorithm=ECDSA_SHA1),
    "an algorithm of another kind of key": bad(DAMAGED, algorithm=RSA_SHA256),
    "issued by another name": bad(DAMAGED, issuer="authority"),
    # The key of the certificate.
    "no key": bad(IN_TLS_OR, public=der(0x30, der(0x30), der(0x03, b"\0"))),
    "a key off the curve": bad(IN_TLS_OR, public=POINT_OFF_CURVE),
    "an RSA key of 1024 bits, certified": bad(IN_TLS_OR, certified=lambda: rsa.generate_private_key(65537, 1024)),
    "an RSA key of 16384 bits, certified": bad(f"{IN_TLS_OR}|more than", public=rsa_numbers(16384)),
    "a slow exponent, certified": bad(IN_TLS_OR, public=rsa_numbers(2048, (1 << 2000) + 1)),
    "a key on secp256k1, certified": bad(IN_TLS_OR, certified=lambda: ec.derive_private_key(5, ec.SECP256K1())),
    "an Ed448 key, certified": bad("is not ECDSA, Ed25519 or RSA", certified=ed448.Ed448PrivateKey.generate),
    "a key that cannot sign": bad(
        f"{IN_TLS_OR}|is not ECDSA", public=spki(x25519.X25519PrivateKey.from_private_bytes(bytes(range(32))))
    ),
    # The proof that the key is there.
    "another's certificate": shown(OPENSSL, GOOD, key=OTHER),
    "no proof of the key": shown(OPENSSL, GOOD, verify=lambda scheme, signature: None),
    "an empty proof": shown(OPENSSL, GOOD, verify=lambda scheme, signature: (scheme, b"")),
    "one bit of the proof": shown(OPENSSL, GOOD, verify=lambda scheme, signature: (scheme, flipped(signature))),
    "a proof by a kind of signature that is not the key's": shown(
        OPENSSL, GOOD, verify=lambda scheme, signature: (0x0807, signature)
    ),
    "a proof by PKCS 1, which TLS 1.3 does not have": shown(
        OPENSSL, GOOD, verify=lambda scheme, signature: (0x0401, signature)
    ),
    "a proof that says something else": shown(OPENSSL, GOOD, context="TLS 1.3, nobody CertificateVerify"),
    "an end of the handshake that is wrong": shown(OPENSSL, GOOD, finished=bytes(32)),
}
