import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import ConfigError, DecodeError
from stack.identity import ed25519, secp256k1
from stack.identity.der import check_sequence
from stack.identity.keys import (
    KEY_BYTES_MAX,
    KEY_TYPES,
    BadSignature,
    PrivateKey,
    decode_private,
    decode_public,
    generate,
)
from stack.multiformats import varint
from stack.pb import keys_pb2
from tests.flooding import quickest

KEYS = {kind: generate(kind) for kind in KEY_TYPES}
ALL = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


def public(number: int, data: bytes) -> bytes:
    """A protobuf of a public key with any content."""
    return bytes((0x08, number, 0x12)) + varint.encode(len(data)) + data


@ALL
def test_a_key_comes_back_and_signs_the_same(key: PrivateKey) -> None:
    again = decode_private(key.encode())
    assert again.encode() == key.encode()
    assert again.public == key.public == decode_public(key.public.encode())
    assert len({again.public, key.public}) == 1
    again.public.verify(b"message", key.sign(b"message"))


@ALL
def test_a_signature_of_another_key_or_message_is_bad(key: PrivateKey) -> None:
    signature = key.sign(b"message")
    for other, message in (
        (generate(key.kind) if key.kind != "rsa" else KEYS["ed25519"], b"message"),
        (key, b"massage"),
    ):
        with pytest.raises(BadSignature):
            other.public.verify(message, signature)


@ALL
def test_the_encoding_is_what_protobuf_writes(key: PrivateKey) -> None:
    message = keys_pb2.PublicKey.FromString(key.public.encode())
    assert message.SerializeToString(deterministic=True) == key.public.encode()
    assert keys_pb2.KeyType.Name(message.type).lower() == key.kind
    secret = keys_pb2.PrivateKey.FromString(key.encode())
    assert secret.SerializeToString(deterministic=True) == key.encode()
    assert secret.type == key.number == key.public.number == message.type


@ALL
def test_the_text_of_a_key_does_not_show_it(key: PrivateKey) -> None:
    text = repr(key) + str(key)
    assert key.secret().hex()[:16] not in text
    assert repr(key.secret())[2:10] not in text
    assert key.kind in text


@ALL
def test_a_key_cannot_be_changed(key: PrivateKey) -> None:
    with pytest.raises(AttributeError):
        key.public = KEYS["ed25519"].public  # type: ignore[misc]
    with pytest.raises(AttributeError):
        key.public.data = b""  # type: ignore[misc]
    assert key.public != key.public.encode()


def test_there_is_no_key_of_another_type() -> None:
    with pytest.raises(ConfigError, match="ed448"):
        generate("ed448")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_a_decode_error(data: bytes) -> None:
    for read in (decode_public, decode_private):
        try:
            read(data)
        except DecodeError:
            continue


@given(st.sampled_from(sorted(KEYS)), st.data())
def test_a_key_with_a_changed_byte_is_a_key_or_a_decode_error(kind: str, data: st.DataObject) -> None:
    for encoded, read in ((KEYS[kind].public.encode(), decode_public), (KEYS[kind].encode(), decode_private)):
        if kind == "rsa" and read is decode_private:
            continue  # half a second each: a private key is checked by its primes
        position = data.draw(st.integers(0, len(encoded) - 1))
        changed = bytearray(encoded)
        changed[position] ^= data.draw(st.integers(1, 255))
        for attempt in (bytes(changed), encoded[:position]):
            try:
                read(attempt)
            except DecodeError:
                continue


def test_a_private_key_that_is_none_tells_nothing_of_itself() -> None:
    encoded = bytearray(KEYS["ecdsa"].encode())
    encoded[40] ^= 1
    with pytest.raises(DecodeError) as caught:
        decode_private(bytes(encoded))
    assert str(caught.value) == "this is no private key"
    assert caught.value.__cause__ is None


def test_secp256k1_signatures_have_the_lower_s_and_both_verify() -> None:
    key = KEYS["secp256k1"]
    for number in range(20):
        message = bytes([number])
        r, s = decode_dss_signature(key.sign(message))
        assert s <= secp256k1.ORDER // 2
        key.public.verify(message, encode_dss_signature(r, secp256k1.ORDER - s))


@pytest.mark.parametrize("scalar", [0, secp256k1.ORDER, 2**256 - 1])
def test_a_secp256k1_scalar_outside_the_group_is_no_key(scalar: int) -> None:
    with pytest.raises(DecodeError):
        secp256k1.decode_private(scalar.to_bytes(32))


@pytest.mark.parametrize(
    "curve", [ec.SECP224R1(), ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name
)
def test_every_nist_curve_is_read_as_go_does(curve: ec.EllipticCurve) -> None:
    theirs = ec.generate_private_key(curve)
    der = theirs.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    key = decode_private(public(3, der))
    assert key.secret() == der
    decode_public(key.public.encode()).verify(b"x", key.sign(b"x"))


def test_an_ecdsa_key_on_another_curve_or_of_another_kind_is_refused() -> None:
    bitcoin = ec.generate_private_key(ec.SECP256K1())
    der = bitcoin.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(DecodeError, match="NIST"):
        decode_public(public(3, der))
    for number, secret in ((3, bitcoin), (0, bitcoin), (3, rsa.generate_private_key(65537, 1024))):
        der = secret.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        with pytest.raises(DecodeError):
            decode_private(public(number, der))
    with pytest.raises(DecodeError):
        decode_public(public(3, bytes.fromhex("300f300a06082a864886f70d010203010000")[:17]))


def test_a_key_of_another_kind_or_behind_a_password_is_no_key_of_the_types_that_use_der() -> None:
    other = X25519PrivateKey.generate()
    for number in (0, 3):
        with pytest.raises(DecodeError):
            decode_public(
                public(number, other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
            )
        for encryption in (NoEncryption(), BestAvailableEncryption(b"password")):
            with pytest.raises(DecodeError):
                decode_private(public(number, other.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)))


def fake_rsa(bits: int, exponent: int = 65537) -> bytes:
    """A well-formed public key whose modulus is just an odd number."""
    return public(0, spki(bits, exponent))


def der(tag: int, content: bytes) -> bytes:
    """A DER value."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2) if size > 0xFF else bytes([0x81, size])
    return bytes([tag]) + length + content


def spki(bits: int, exponent: int) -> bytes:
    """SubjectPublicKeyInfo of an RSA key."""
    modulus = ((1 << bits) - 1).to_bytes(bits // 8 + 1)
    numbers = der(0x02, modulus) + der(0x02, exponent.to_bytes(exponent.bit_length() // 8 + 1))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    return der(0x30, algorithm + der(0x03, b"\0" + der(0x30, numbers)))


@pytest.mark.parametrize("bits", [2048, 3072, 4096, 8192])
def test_rsa_keys_of_usual_sizes_are_read(bits: int) -> None:
    assert decode_public(fake_rsa(bits)).kind == "rsa"


@pytest.mark.parametrize("bits", [512, 1024, 2040, 8200, 8400, 16_384, 65_536])
def test_A13_an_rsa_key_of_any_other_size_is_refused_before_it_is_used(bits: int) -> None:
    encoded = fake_rsa(bits)

    def work() -> None:
        with pytest.raises(DecodeError):
            decode_public(encoded)

    assert quickest(work) < 0.005


def test_A13_a_large_exponent_is_refused() -> None:
    def work() -> None:
        for bits in (33, 64, 2000):
            with pytest.raises(DecodeError, match="exponent"):
                decode_public(fake_rsa(2048, (1 << bits) - 1))

    assert quickest(work) < 0.02


def test_A14_two_hundred_malformed_keys_cost_less_than_a_tick() -> None:
    good = spki(2048, 65537)
    bad = [good[:cut] for cut in range(40)]
    bad += [
        b"\x30\x84\xff\xff\xff\xff" + good,
        b"\x30\x80" + good,
        b"\x30\x83\x01\0\0" + good,
        b"\x30\x88" + b"\xff" * 300,
    ]
    for fill in (b"\x84\x7f\xff\xff\xff", b"\x80\x00\x00", b"\x88" + b"\xff" * 8):
        bad += [good[:place] + fill + good[place + len(fill) :] for place in range(1, 28)]
    messages = [public(number, data) for data in bad for number in (0, 3)]
    assert len(messages) >= 200
    with pytest.raises(DecodeError):
        decode_public(messages[0])

    def work() -> None:
        for message in messages:
            with pytest.raises(DecodeError):
                decode_public(message)

    assert quickest(work) < 0.08


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "begins with"),
        (b"\x30", "begins with"),
        (b"\x31\x00", "begins with"),
        (b"\x30\x01", "says 1"),
        (b"\x30\x00\x00", "says 0"),
        (b"\x30\x81", "minimal"),
        (b"\x30\x81\x01\x00", "minimal"),
        (b"\x30\x82\x00\x80" + bytes(128), "minimal"),
        (b"\x30\x80\x00\x00", "minimal"),
        (b"\x30\x83\x01\x00\x00", "out of bounds"),
        (b"\x30" + bytes(101), "at most"),
    ],
)
def test_a_sequence_with_an_untrue_length_is_refused_unread(data: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        check_sequence(data, 100 if len(data) > 150 or why == "at most" else 200)


def test_a_true_length_passes() -> None:
    check_sequence(b"\x30\x81\x80" + bytes(128), 200)
    check_sequence(b"\x30\x00", 200)


def test_a_dsa_key_is_no_rsa_key() -> None:
    numbers = dsa.DSAParameterNumbers(p=(1 << 1023) + 1155, q=(1 << 159) + 7, g=2)
    key = dsa.DSAPublicNumbers(y=4, parameter_numbers=numbers)
    try:
        encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        pytest.skip("NOT TESTED: a DSA key in the place of an RSA key; this OpenSSL does not take made-up DSA numbers")
    with pytest.raises(DecodeError, match="RSA"):
        decode_public(public(0, encoded))


def test_a_key_has_a_longest_length_and_every_field() -> None:
    with pytest.raises(DecodeError, match="at most"):
        decode_public(bytes(KEY_BYTES_MAX + 1))
    for data in (b"", b"\x08\x01", b"\x12\x00", b"\x08\x09\x12\x00", b"\x08\x00"):
        with pytest.raises(DecodeError, match="known, and data"):
            decode_public(data)


@pytest.mark.parametrize("size", [0, 32, 63, 65, 95, 97, 128])
def test_a_private_ed25519_key_has_64_or_96_bytes(size: int) -> None:
    with pytest.raises(DecodeError):
        ed25519.decode_private(bytes(size))


FIELD = 2**255 - 19
SMALL = {
    0,
    1,
    FIELD - 1,
    int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
}


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", [*SMALL, FIELD, FIELD + 1])
def test_an_ed25519_key_of_small_order_is_no_key(y: int, sign: int) -> None:
    """With the neutral point, and R = B, S = 1, anybody has signed anything."""
    data = (y | sign).to_bytes(32, "little")
    with pytest.raises(DecodeError, match="small order"):
        ed25519.decode_public(data)


def test_what_a_key_of_small_order_would_do() -> None:
    base = bytes.fromhex("58" + "66" * 31)
    ed25519.Ed25519PublicKey((1).to_bytes(32, "little")).verify(b"anything", base + (1).to_bytes(32, "little"))


def test_reading_peer_ids_loads_neither_cryptography_nor_protobuf() -> None:
    code = (
        "from stack.identity.peer_id import PeerId\n"
        "str(PeerId.parse('12D3KooWLS5s8EtEo9ugm5vwqtxzQQBTcQGRKcLBzGjyhx83tyzD'))\n"
        "import sys\nprint(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"cryptography", "google", "cid", "multihash", "blake3"}
