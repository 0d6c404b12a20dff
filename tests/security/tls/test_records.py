"""The records of TLS 1.3 behind the handshake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import LocalProtocolError, SecurityError
from stack.security.tls import records
from stack.security.tls.records import (
    ALERT,
    APPLICATION_DATA,
    CONTENT_BYTES_MAX,
    HANDSHAKE,
    HEADER_BYTES,
    IDLE_RECORDS_MAX,
    KEY_UPDATE_BYTES,
    MESSAGE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RECORD_BYTES_MAX,
    SUITES,
    TlsSession,
)

SECRETS = bytes(range(48)), bytes(range(48, 96))
AES = "TLS_AES_128_GCM_SHA256"
TICKET = b"\x04\0\0\x05hello"
UPDATE, UPDATE_BOTH = b"\x18\0\0\x01\0", b"\x18\0\0\x01\x01"


def ends(suite: str = AES) -> tuple[TlsSession, TlsSession]:
    return TlsSession(suite, *SECRETS), TlsSession(suite, *reversed(SECRETS))


def sealed(session: TlsSession, plaintext: bytes) -> bytes:
    frame = memoryview(bytearray(session.prefix + len(plaintext) + session.suffix))
    frame[5 : 5 + len(plaintext)] = plaintext
    return bytes(frame[: session.seal(frame, len(plaintext))])


def other(session: TlsSession, kind: int, content: bytes) -> bytes:
    """A record of another kind; with zeros at its end, padded."""
    frame = memoryview(bytearray(HEADER_BYTES + len(content) + 17))
    frame[5 : 5 + len(content)] = content
    return bytes(frame[: session._seal(frame, len(content), kind)])


def opened(session: TlsSession, data: bytes) -> list[bytes]:
    """What is in each record; data that is cut short is left."""
    rest, found = memoryview(bytearray(data)), []
    while (result := session.open(rest)) is not None:
        found.append(bytes(result[1]))
        rest = rest[result[0] :]
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_what_one_end_seals_the_other_opens(suite: str) -> None:
    first, second = ends(suite)
    text = bytes(range(251)) * 262
    for size, count in ((0, 1), (1, 1), (16384, 1), (16385, 2), (32768, 2), (49153, 4), (PAYLOAD_BYTES_MAX, 4)):
        for sender, receiver in ((first, second), (second, first)):
            data = sealed(sender, text[:size])
            assert len(data) == size + 22 * count
            assert b"".join(opened(receiver, data)) == text[:size]


def test_RFC_8448_a_record_of_application_data_has_these_bytes() -> None:
    """Simple 1-RTT handshake: the secret of the client, and the 50 bytes it sends."""
    secret = bytes.fromhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
    session = TlsSession(AES, secret, secret)
    assert sealed(session, bytes(range(50))) == bytes.fromhex(
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b 98 19"
        "a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49"
        "15 e4"
    )


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 700))
def test_every_cut_of_the_bytes_opens_the_same_records(texts: list[bytes], step: int) -> None:
    first, second = ends()
    data = b"".join(sealed(first, text) for text in texts)
    found, rest = [], b""
    for start in range(0, len(data), step):
        rest += data[start : start + step]
        buffer = memoryview(bytearray(rest))
        while (result := second.open(buffer)) is not None:
            found.append(bytes(result[1]))
            buffer = buffer[result[0] :]
        rest = bytes(buffer)
    assert (found, rest) == (texts, b"")


def test_tickets_that_were_sent_before_are_counted() -> None:
    first, second = ends()
    tickets = other(first, HANDSHAKE, TICKET) + other(first, HANDSHAKE, TICKET)
    behind = sealed(TlsSession(AES, *SECRETS, sent=2), b"data")
    assert opened(second, tickets + behind) == [b"", b"", b"data"]


@pytest.mark.parametrize("size", [-1, PAYLOAD_BYTES_MAX + 1])
def test_a_size_out_of_bounds_is_the_caller_s_error(size: int) -> None:
    first, _ = ends()
    with pytest.raises(LocalProtocolError):
        first.seal(memoryview(bytearray(70_000)), size)


def test_a_frame_without_room_is_the_caller_s_error_and_uses_no_nonce() -> None:
    first, second = ends()
    with pytest.raises(LocalProtocolError):
        first.seal(memoryview(bytearray(30)), 9)
    assert opened(second, sealed(first, b"x")) == [b"x"]


def test_a_forged_record_is_an_error_and_nothing_is_opened_behind_it() -> None:
    first, second = ends()
    good, next_one = sealed(first, b"one"), sealed(first, b"two")
    with pytest.raises(SecurityError, match="forged"):
        opened(second, good[:-1] + bytes((good[-1] ^ 1,)))
    for _ in range(2):
        with pytest.raises(SecurityError, match="forged"):
            opened(second, next_one)
    with pytest.raises(SecurityError, match="forged"):
        sealed(second, b"x")


def test_every_flipped_bit_of_a_record_is_refused() -> None:
    record = sealed(ends()[0], b"one")
    for at in range(len(record)):
        forged = bytearray(record + bytes(1 << 15))
        forged[at] ^= 1
        with pytest.raises(SecurityError):
            opened(ends()[1], bytes(forged))


@pytest.mark.parametrize(
    "header",
    [
        b"\x17\x03\x03\x00\x10",
        b"\x17\x03\x03\x00\x00",
        b"\x17\x03\x03" + (RECORD_BYTES_MAX + 1).to_bytes(2),
        b"\x15\x03\x03\x00\x02",
        b"\x14\x03\x03\x00\x01",
        b"\x16\x03\x03\x00\x50",
    ],
)
def test_a_header_that_may_not_come_is_refused_before_its_record_is_there(header: bytes) -> None:
    with pytest.raises(SecurityError, match="not encrypted"):
        opened(ends()[1], header)


def test_records_in_another_order_are_refused() -> None:
    first, second = ends()
    sealed(first, b"one")
    with pytest.raises(SecurityError):
        opened(second, sealed(first, b"two"))


def test_padding_is_taken_off() -> None:
    first, second = ends()
    assert opened(second, other(first, 0, b"hello\x17" + bytes(100))) == [b"hello"]
    with pytest.raises(SecurityError, match="without content"):
        opened(second, other(first, 0, bytes(100)))


def test_a_record_with_too_much_in_it_is_refused() -> None:
    first, second = ends()
    with pytest.raises(SecurityError, match="too much"):
        opened(second, other(first, APPLICATION_DATA, bytes(CONTENT_BYTES_MAX + 1)))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("asked", [UPDATE, UPDATE_BOTH])
def test_a_peer_may_change_its_key_and_ask_us_to_change_ours(suite: str, asked: bytes) -> None:
    first, second = ends(suite)
    assert opened(second, sealed(first, b"old") + other(first, HANDSHAKE, asked)) == [b"old", b""]
    first._send.change_key()
    assert opened(second, sealed(first, b"new")) == [b"new"]
    answer = sealed(second, b"answer")
    assert len(answer) == 6 + 22 + (KEY_UPDATE_BYTES if asked == UPDATE_BOTH else 0)
    assert [text for text in opened(first, answer) if text] == [b"answer"]
    assert opened(first, sealed(second, b"more")) == [b"more"]


def test_a_change_of_key_goes_before_all_records_of_a_frame() -> None:
    first, second = ends()
    text = bytes(range(251)) * 200
    opened(second, other(first, HANDSHAKE, UPDATE_BOTH))
    data = sealed(second, text)
    assert len(data) == KEY_UPDATE_BYTES + len(text) + 4 * 22
    assert b"".join(opened(first, data)) == text


def test_many_requests_for_a_key_are_answered_by_one() -> None:
    first, second = ends()
    for _ in range(3):
        opened(second, other(first, HANDSHAKE, UPDATE_BOTH))
        first._send.change_key()
    assert len(sealed(second, b"x")) == KEY_UPDATE_BYTES + 23
    assert len(sealed(second, b"x")) == 23


def test_our_key_is_changed_before_it_has_sealed_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RECORDS_OF_KEY", 3)
    first, second = ends()
    data = [sealed(first, bytes((n,)) * (n + 1)) for n in range(10)]
    assert sum(len(one) > 40 for one in data) == 3
    assert [text for text in opened(second, b"".join(data)) if text] == [bytes((n,)) * (n + 1) for n in range(10)]


@pytest.mark.parametrize(
    "body", [b"\x18\0\0\x01\x02", b"\x18\0\0\x00", b"\x18\0\0\x02\0\0", UPDATE + TICKET, UPDATE + b"\4"]
)
def test_a_damaged_change_of_keys_is_refused(body: bytes) -> None:
    first, second = ends()
    with pytest.raises(SecurityError, match="damaged change of keys"):
        opened(second, other(first, HANDSHAKE, body))


def test_a_ticket_may_be_cut_over_records_and_is_thrown_away() -> None:
    first, second = ends()
    pieces = [TICKET[:2], TICKET[2:5], TICKET[5:] + TICKET]
    assert opened(second, b"".join(other(first, HANDSHAKE, piece) for piece in pieces)) == [b""] * 3
    assert opened(second, sealed(first, b"data")) == [b"data"]
    assert second._message == b""


@pytest.mark.parametrize("kind", [APPLICATION_DATA, ALERT])
def test_a_message_that_is_interrupted_is_refused(kind: int) -> None:
    first, second = ends()
    with pytest.raises(SecurityError, match="interrupted"):
        opened(second, other(first, HANDSHAKE, TICKET[:5]) + other(first, kind, b"\1\0"))


@pytest.mark.parametrize(
    "message", [b"\x0d\0\0\0", b"\x14\0\0\x20" + bytes(32), b"\x04" + (MESSAGE_BYTES_MAX + 1).to_bytes(3)]
)
def test_a_message_that_may_not_come_is_refused_at_its_head(message: bytes) -> None:
    """To be asked for a certificate again, for one; and a ticket that would have to be held."""
    first, second = ends()
    with pytest.raises(SecurityError, match="unexpected handshake message"):
        opened(second, other(first, HANDSHAKE, message))


@pytest.mark.parametrize("content", [(HANDSHAKE, b""), (24, b"x"), (ALERT, b"\1"), (1, b"")])
def test_a_record_of_an_unexpected_kind_is_refused(content: tuple[int, bytes]) -> None:
    first, second = ends()
    with pytest.raises(SecurityError, match="unexpected kind"):
        opened(second, other(first, *content))


@pytest.mark.parametrize(
    "content", [(HANDSHAKE, UPDATE_BOTH), (HANDSHAKE, TICKET), (APPLICATION_DATA, b""), (ALERT, b"\1\x5a")]
)
def test_records_without_a_byte_for_us_do_not_go_on_for_ever(content: tuple[int, bytes]) -> None:
    """Each costs us far more than it costs the peer: a new key takes 40 us."""
    first, second = ends()

    def come(times: int) -> None:
        for _ in range(times):
            assert opened(second, other(first, *content)) == [b""]
            if content == (HANDSHAKE, UPDATE_BOTH):
                first._send.change_key()

    come(IDLE_RECORDS_MAX)
    assert opened(second, sealed(first, b"data")) == [b"data"]
    come(IDLE_RECORDS_MAX)
    with pytest.raises(SecurityError, match="17 TLS records without a byte for us"):
        opened(second, other(first, *content))


def test_after_close_notify_whatever_comes_is_passed_over() -> None:
    first, second = ends()
    data = sealed(first, b"last") + other(first, ALERT, b"\1\0") + b"anything"
    assert opened(second, data) == [b"last", b"", b""]
    assert second.open(memoryview(b"")) is None
    assert opened(first, sealed(second, b"still sent")) == [b"still sent"]


@pytest.mark.parametrize(
    ("code", "says"), [(42, "bad certificate"), (48, "unknown certificate authority"), (7, "TLS alert 7")]
)
def test_an_alert_ends_the_connection_and_says_why(code: int, says: str) -> None:
    first, second = ends()
    with pytest.raises(SecurityError, match=f"the peer ended the connection: {says}"):
        opened(second, first.seal_alert(code))


def test_a_record_that_could_not_be_encrypted_is_the_last() -> None:
    first, _ = ends()

    class Fails:
        def encrypt_into(self, nonce: bytes, data: memoryview, associated: bytes, out: memoryview) -> None:
            raise MemoryError("no room")

    first._send.cipher = Fails()  # type: ignore[assignment] # as far as it is used
    for _ in range(2):
        with pytest.raises(SecurityError, match="could not be encrypted: no room"):
            sealed(first, b"one")


def test_a_cipher_that_does_not_work_in_place_is_given_a_copy() -> None:
    first, second = ends()
    first._send.in_place = second._receive.in_place = False
    assert opened(second, sealed(first, b"hello")) == [b"hello"]


def test_a_session_shows_no_key() -> None:
    first, _ = ends()
    sealed(first, b"x")
    assert repr(first) == "<TlsSession 1 records sent, 0 received>"
