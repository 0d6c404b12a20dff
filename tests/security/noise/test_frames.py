"""The transport phase of Noise."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import LocalProtocolError, SecurityError
from stack.security.in_place import works_in_place
from stack.security.noise import frames
from stack.security.noise.frames import FRAME_BYTES_MAX, NONCE_END, PAYLOAD_BYTES_MAX, NoiseSession

KEYS = bytes(range(32)), bytes(range(32, 64))


def ends() -> tuple[NoiseSession, NoiseSession]:
    return NoiseSession(*KEYS), NoiseSession(*reversed(KEYS))


def sealed(session: NoiseSession, plaintext: bytes) -> bytes:
    frame = memoryview(bytearray(len(plaintext) + 18))
    frame[2 : 2 + len(plaintext)] = plaintext
    assert session.seal(frame, len(plaintext)) == len(frame)
    return bytes(frame)


def opened(session: NoiseSession, data: bytes) -> tuple[int, bytes] | None:
    result = session.open(memoryview(bytearray(data)))
    return None if result is None else (result[0], bytes(result[1]))


@pytest.mark.parametrize("size", [0, 1, 255, 256, PAYLOAD_BYTES_MAX - 1, PAYLOAD_BYTES_MAX])
def test_what_is_sealed_is_opened(size: int) -> None:
    first, second = ends()
    plaintext = bytes(size)
    frame = sealed(first, plaintext)
    assert int.from_bytes(frame[:2], "big") == size + 16
    assert opened(second, frame) == (size + 18, plaintext)


def test_the_largest_frame_is_65537_bytes() -> None:
    assert len(sealed(ends()[0], bytes(PAYLOAD_BYTES_MAX))) == FRAME_BYTES_MAX == 65537


def test_the_nonce_is_a_little_endian_counter_behind_four_zero_bytes() -> None:
    first, _ = ends()
    sealed(first, b"a")
    frame = sealed(first, b"b")
    assert ChaCha20Poly1305(KEYS[0]).decrypt(bytes(4) + b"\x01" + bytes(7), frame[2:], None) == b"b"


@pytest.mark.parametrize("size", [-1, PAYLOAD_BYTES_MAX + 1])
def test_a_size_out_of_bounds_is_the_caller_s_error_and_uses_no_nonce(size: int) -> None:
    first, second = ends()
    with pytest.raises(LocalProtocolError):
        first.seal(memoryview(bytearray(FRAME_BYTES_MAX + 1)), size)
    assert opened(second, sealed(first, b"x")) == (19, b"x")


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.data())
def test_every_cut_of_the_bytes_opens_the_same_frames(plaintexts: list[bytes], data: st.DataObject) -> None:
    first, second = ends()
    stream = b"".join(sealed(first, plaintext) for plaintext in plaintexts)
    found = []
    waiting = b""
    while stream or waiting:
        cut = data.draw(st.integers(min_value=1, max_value=max(1, len(stream))))
        waiting, stream = waiting + stream[:cut], stream[cut:]
        while (result := opened(second, waiting)) is not None:
            found.append(result[1])
            waiting = waiting[result[0] :]
        assert stream or not waiting
    assert found == plaintexts


def test_a_frame_that_is_cut_short_consumes_nothing() -> None:
    first, second = ends()
    frame = sealed(first, b"hello")
    for size in range(len(frame)):
        assert opened(second, frame[:size]) is None
    assert opened(second, frame) == (23, b"hello")


def test_A19_a_forged_frame_closes_the_session_and_nothing_is_opened_behind_it() -> None:
    first, second = ends()
    frames = [sealed(first, b"one"), sealed(first, b"two"), sealed(first, b"three")]
    assert opened(second, frames[0]) == (21, b"one")
    forged = bytearray(frames[1])
    forged[5] ^= 1
    with pytest.raises(SecurityError, match="forged"):
        opened(second, bytes(forged))
    for frame in (frames[1], frames[2]):
        with pytest.raises(SecurityError, match="before"):
            opened(second, frame)


def test_A19_the_nonce_is_not_advanced_by_a_forged_frame() -> None:
    first, second = ends()
    forged = bytearray(sealed(first, b"one"))
    forged[-1] ^= 1
    with pytest.raises(SecurityError):
        opened(second, bytes(forged))
    assert "0 received" in repr(second)


def test_A19_a_frame_replayed_is_refused() -> None:
    first, second = ends()
    frame = sealed(first, b"one")
    opened(second, frame)
    with pytest.raises(SecurityError):
        opened(second, frame)


@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_frame_shorter_than_its_tag_is_refused_before_it_is_there(length: int) -> None:
    _, second = ends()
    with pytest.raises(SecurityError, match="shorter than its tag"):
        opened(second, length.to_bytes(2, "big"))
    with pytest.raises(SecurityError, match="before"):
        opened(second, bytes(2))


def test_A19_the_last_nonce_is_used_and_the_reserved_one_never() -> None:
    first, second = ends()
    first._sent = second._received = NONCE_END - 1
    assert opened(second, sealed(first, b"last")) == (22, b"last")
    with pytest.raises(SecurityError, match="used up"):
        sealed(first, b"")
    with pytest.raises(SecurityError, match="used up"):
        opened(second, b"\x00\x10" + bytes(16))


def test_no_key_is_shown() -> None:
    assert repr(ends()[0]) == "<NoiseSession 0 frames sent, 0 received>"


class Overlapping:
    """A cipher as other versions may have it: what it writes it must not read."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def encrypt(self, nonce: bytes, data: bytes, associated: None) -> bytes:
        return self._cipher.encrypt(nonce, data, associated)

    def encrypt_into(self, nonce: bytes, data: bytes | memoryview, associated: None, out: memoryview) -> None:
        out[:] = bytes(len(out))
        out[:] = self._cipher.encrypt(nonce, bytes(data), associated)

    def decrypt_into(self, nonce: bytes, data: bytes | memoryview, associated: None, out: memoryview) -> None:
        out[:] = bytes(len(out))
        out[:] = self._cipher.decrypt(nonce, bytes(data), associated)


class DecryptsOverlapping(Overlapping):
    """The same, but for one direction."""

    def encrypt_into(self, nonce: bytes, data: bytes | memoryview, associated: None, out: memoryview) -> None:
        out[:] = self._cipher.encrypt(nonce, bytes(data), associated)


@pytest.mark.parametrize("cipher", [Overlapping, DecryptsOverlapping])
def test_finding_38_a_cipher_that_does_not_work_in_place_is_given_a_copy(
    cipher: type[Overlapping], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cryptography` has never promised that input and output may be the same memory, and a range of versions is allowed."""
    assert works_in_place(ChaCha20Poly1305)
    assert not works_in_place(cipher)  # type: ignore[arg-type] # as far as it is used
    monkeypatch.setattr(frames, "ChaCha20Poly1305", cipher)
    first, second = ends()
    plaintext = bytes(range(200))
    assert opened(second, sealed(first, plaintext)) == (218, plaintext)


def test_finding_38_a_frame_that_could_not_be_encrypted_is_the_last() -> None:
    """Its nonce is used up: a second text under the same nonce would tell both."""
    first, _ = ends()
    good = first._send

    class Fails:
        def encrypt_into(self, nonce: bytes, data: memoryview, associated: None, out: memoryview) -> None:
            out[:1] = b"?"
            raise MemoryError("no room")

    first._send = Fails()  # type: ignore[assignment] # as far as it is used
    with pytest.raises(SecurityError, match="could not be encrypted: no room"):
        sealed(first, b"one")
    first._send = good
    with pytest.raises(SecurityError, match="used up"):
        sealed(first, b"two")


def test_finding_38_a_frame_without_room_for_its_tag_is_the_caller_s_error_and_uses_no_nonce() -> None:
    first, second = ends()
    with pytest.raises(LocalProtocolError):
        first.seal(memoryview(bytearray(20)), 3)
    assert opened(second, sealed(first, b"x")) == (19, b"x")


def test_attack_5_empty_frames_without_end_end_the_session() -> None:
    first, second = ends()
    for _ in range(3):
        for _ in range(frames.EMPTY_FRAMES_MAX):
            assert opened(second, sealed(first, b"")) == (18, b"")
        assert opened(second, sealed(first, b"x")) == (19, b"x")
    for _ in range(frames.EMPTY_FRAMES_MAX):
        opened(second, sealed(first, b""))
    with pytest.raises(SecurityError, match="without end"):
        opened(second, sealed(first, b""))
    with pytest.raises(SecurityError):
        opened(second, sealed(first, b"x"))
