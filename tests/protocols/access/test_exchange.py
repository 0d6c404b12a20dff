"""The two sides of a proof of access, against docs/access.md, its vectors, and whoever does not know the secret."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.blocks.interfaces import RealmId
from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.protocols.access.exchange import NONCE_BYTES, PROOF_BYTES, Asker, Teller
from stack.protocols.access.keyring import KEY_BYTES, Keyring, access_key
from tests.bitswap.simulation import peer_named

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "access.json").read_text())
ALICE, BOB, MALLORY = (peer_named(name) for name in ("alice", "bob", "mallory"))
SECRET, OTHER = b"s" * 16, b"o" * 16
DECOY = b"d" * 32
QUESTION_BYTES = NONCE_BYTES + KEY_BYTES + PROOF_BYTES


def teller(
    *secrets: bytes, asker: PeerId = BOB, teller: PeerId = ALICE, nonce: bytes = b"t" * 32, decoy: bytes = DECOY
) -> Teller:
    keyring = Keyring(teller)
    for number, secret in enumerate(secrets, start=1):
        keyring.add(secret, RealmId(number), b"root")
    return Teller(keyring.find, asker=asker, teller=teller, nonce=nonce, decoy=decoy)


def asker(secret: bytes = SECRET, *, asker: PeerId = BOB, teller: PeerId = ALICE, nonce: bytes = b"a" * 32) -> Asker:
    return Asker(secret, asker=asker, teller=teller, nonce=nonce)


def run(told: Teller, asked: Asker, size: int = 1 << 16) -> tuple[bytes, bytes]:
    """Let both talk, so many bytes at a time; what each has said."""
    said = bytearray(), bytearray()
    while not asked.done:
        for speaker, hearer, log in ((told, asked, said[0]), (asked, told, said[1])):
            data = speaker.data_to_send()
            log += data
            for start in range(0, len(data), size):
                hearer.receive_data(data[start : start + size])
    return bytes(said[0]), bytes(said[1])


def hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """RFC 2104, from its definition."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


@pytest.mark.parametrize("vector", VECTORS["proofs"], ids=lambda vector: vector["note"])
def test_a_vector_is_what_the_document_says_and_what_both_machines_say(vector: dict[str, str]) -> None:
    secret, told_nonce, asked_nonce = (
        bytes.fromhex(vector[name]) for name in ("secret", "teller_nonce", "asker_nonce")
    )
    who_asks, who_tells = PeerId.parse(vector["asker"]), PeerId.parse(vector["teller"])
    names = b"".join(len(bytes(peer)).to_bytes(2, "big") + bytes(peer) for peer in (who_asks, who_tells))
    key = hmac_by_hand(secret, b"stack/access/1 key" + bytes(who_tells))[:16]
    ours = hmac_by_hand(secret, b"stack/access/1 asker" + names + told_nonce + asked_nonce)
    theirs = hmac_by_hand(secret, b"stack/access/1 teller" + names + told_nonce + asked_nonce)
    assert [key.hex(), ours.hex(), theirs.hex()] == [vector["key"], vector["asker_proof"], vector["teller_proof"]]
    told = teller(secret, asker=who_asks, teller=who_tells, nonce=told_nonce)
    asked = asker(secret, asker=who_asks, teller=who_tells, nonce=asked_nonce)
    assert run(told, asked) == (told_nonce + theirs, asked_nonce + key + ours)
    assert told.proved == secret and asked.proved


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_who_both_know_the_secret_both_hear_it(size: int) -> None:
    told, asked = teller(OTHER, SECRET), asker()
    run(told, asked, size)
    assert told.proved == SECRET and asked.proved


def test_a_wrong_secret_proves_nothing_to_either() -> None:
    told, asked = teller(OTHER), asker(SECRET)
    said, _ = run(told, asked)
    assert told.proved is None and not asked.proved
    assert len(said) == NONCE_BYTES + PROOF_BYTES


def test_the_right_key_with_a_wrong_proof_is_answered_as_an_unknown_key_is() -> None:
    """Who has seen the key, but not the secret, hears bytes that depend on nothing that it could know."""
    key = access_key(SECRET, ALICE)
    answers = []
    for known in ((SECRET,), ()):
        told = teller(*known)
        told.data_to_send()
        told.receive_data(b"a" * 32 + key + b"p" * 32)
        assert told.proved is None and told.done
        answers.append(told.data_to_send())
    assert answers[0] == answers[1]  # with the same decoy, which is new for each stream


def test_a_proof_is_of_no_use_on_another_stream() -> None:
    told, asked = teller(SECRET), asker()
    _, question = run(told, asked)
    again = teller(SECRET, nonce=b"u" * 32)
    again.data_to_send()
    again.receive_data(question)
    assert again.proved is None


def test_a_proof_is_of_no_use_to_another_peer_or_at_another() -> None:
    told, asked = teller(SECRET), asker()
    _, question = run(told, asked)
    for other in (teller(SECRET, asker=MALLORY), teller(SECRET, teller=MALLORY)):
        other.data_to_send()
        other.receive_data(question)
        assert other.proved is None


def test_a_man_in_the_middle_who_passes_everything_on_gets_nothing() -> None:
    """Bob asks Mallory, who asks Alice with what Bob says, and answers with what Alice says."""
    told = teller(SECRET, asker=MALLORY)
    asked = asker(teller=MALLORY)
    run(told, asked)
    assert told.proved is None and not asked.proved


def test_a_reflected_proof_proves_nothing() -> None:
    """Mallory makes Alice ask it, and gives back to Alice what she says."""
    asking = asker(asker=ALICE, teller=MALLORY)
    told = teller(SECRET, asker=MALLORY)
    asking.receive_data(told.data_to_send())
    told.receive_data(asking.data_to_send())
    assert told.proved is None
    asking = asker(asker=ALICE, teller=MALLORY)
    asking.receive_data(b"t" * 32)
    question = asking.data_to_send()
    asking.receive_data(question[-PROOF_BYTES:])
    assert asking.done and not asking.proved


def test_two_tellers_cannot_tell_that_it_was_the_same_secret() -> None:
    assert access_key(SECRET, ALICE) != access_key(SECRET, BOB)


@pytest.mark.parametrize("cut", [0, 1, 32, QUESTION_BYTES - 1])
def test_a_question_that_is_cut_off_is_an_offence(cut: int) -> None:
    told = teller(SECRET)
    if cut:
        told.receive_data(b"x" * cut)
    with pytest.raises(RemoteProtocolError, match="cut off"):
        told.receive_data(b"")
    assert told.proved is None and not told.done


def test_what_is_too_long_is_an_offence() -> None:
    with pytest.raises(RemoteProtocolError, match="too long"):
        teller(SECRET).receive_data(b"x" * (QUESTION_BYTES + 1))
    told = teller(SECRET)
    told.receive_data(b"x" * QUESTION_BYTES)
    with pytest.raises(RemoteProtocolError, match="too long"):
        told.receive_data(b"x")
    asked = asker()
    with pytest.raises(RemoteProtocolError, match="too long"):
        asked.receive_data(b"x" * 33)
    asked = asker()
    asked.receive_data(b"x" * 32)
    asked.receive_data(b"x" * 32)
    with pytest.raises(RemoteProtocolError, match="too long"):
        asked.receive_data(b"x")


@pytest.mark.parametrize("came", [b"", b"x" * 31, b"x" * 32, b"x" * 32 + b"y" * 31])
def test_an_answer_that_is_cut_off_is_an_offence(came: bytes) -> None:
    asked = asker()
    for part in (came[:32], came[32:]):
        if part:
            asked.receive_data(part)
    with pytest.raises(RemoteProtocolError, match="cut off"):
        asked.receive_data(b"")
    assert not asked.proved


@given(st.binary(min_size=QUESTION_BYTES, max_size=QUESTION_BYTES))
def test_whatever_is_said_without_the_secret_proves_nothing(question: bytes) -> None:
    told = teller(SECRET, OTHER)
    told.receive_data(question)
    assert told.done and told.proved is None


def test_a_keyring_finds_one_of_ten_thousand_by_one_look_and_forgets_it() -> None:
    keyring = Keyring(ALICE)
    for number in range(1, 10_001):
        keyring.add(number.to_bytes(16, "big"), RealmId(number), number.to_bytes(4, "big"))
    secret = (777).to_bytes(16, "big")
    assert keyring.find(access_key(secret, ALICE)) == secret
    assert keyring.find(access_key(secret, BOB)) is None
    assert keyring.realms(secret) == {777}
    keyring.remove(RealmId(777), (777).to_bytes(4, "big"))
    assert keyring.find(access_key(secret, ALICE)) is None
    assert keyring.realms(secret) == frozenset()
    assert "9999" in repr(keyring)


def test_a_root_is_told_to_those_who_may_enter_one_of_its_realms_and_to_all_once_one_is_open() -> None:
    keyring = Keyring(ALICE)
    assert keyring.is_for(b"root", frozenset())
    keyring.add(SECRET, RealmId(1), b"root")
    keyring.add(SECRET, RealmId(2), b"other root")
    assert not keyring.is_for(b"root", frozenset({RealmId(2)}))
    assert keyring.is_for(b"root", frozenset({RealmId(1)}))
    keyring.open(RealmId(3), b"root")
    assert keyring.is_for(b"root", frozenset())
    keyring.remove(RealmId(3), b"root")
    assert not keyring.is_for(b"root", frozenset())
    keyring.remove(RealmId(1), b"root")
    assert keyring.find(access_key(SECRET, ALICE)) == SECRET  # it opens another still
