"""Messages about codes, byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.code.messages import (
    ADDRESSES_MAX,
    Answer,
    Asked,
    GiverStatus,
    Holder,
    MeetStatus,
    Question,
    QuestionType,
    Told,
    decode_answer,
    decode_asked,
    decode_question,
    decode_told,
)
from tests.bitswap.simulation import peer_named

ALICE = peer_named("alice")
ADDRESS = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")
PEER = bytes(ALICE).hex()
TABLE = [
    (Question(type=QuestionType.SEEK, number=4), decode_question, "08021004"),
    (
        Question(type=QuestionType.HOLD, number=300, addresses=(ADDRESS,)),
        decode_question,
        "080110ac021a0804c0000201060fa1",
    ),
    (Answer(status=MeetStatus.TAKEN), decode_answer, "0802"),
    (
        Answer(status=MeetStatus.OK, holder=Holder(ALICE, (ADDRESS,))),
        decode_answer,
        f"0801 12{len(bytes(ALICE)) + 12:02x} 0a{len(bytes(ALICE)):02x}{PEER} 120804c0000201060fa1",
    ),
    (Asked(number=4, element=b"A"), decode_asked, "0804120141"),
    (Asked(proof=b"p"), decode_asked, "1a0170"),
    (Told(status=GiverStatus.OK, element=b"B"), decode_told, "0801120142"),
    (Told(status=GiverStatus.WRONG, left=2), decode_told, "08032002"),
    (Told(status=GiverStatus.OK, sealed=b"s"), decode_told, "08011a0173"),
]


@pytest.mark.parametrize(("message", "decode", "data"), TABLE)
def test_a_message_is_these_bytes_and_they_are_that_message(message, decode, data) -> None:  # type: ignore[no-untyped-def] # four kinds
    assert message.encode() == bytes.fromhex(data)
    assert decode(bytes.fromhex(data)) == message


@pytest.mark.parametrize("decode", [decode_question, decode_answer, decode_told])
def test_what_has_no_type_or_status_that_is_known_is_refused(decode) -> None:  # type: ignore[no-untyped-def] # three kinds
    for data in (b"", b"\x08\x09", b"\xff"):
        with pytest.raises(DecodeError):
            decode(data)


def test_of_addresses_only_a_few_are_told_and_taken() -> None:
    many = tuple(Multiaddr.parse(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 20))
    question = Question(type=QuestionType.HOLD, number=4, addresses=many)
    assert decode_question(question.encode()).addresses == many[:ADDRESSES_MAX]
    long = Multiaddr.parse(f"/dns/{'.'.join(['a' * 60] * 4)}/tcp/1/ws" + "/http" * 20)
    told = Question(type=QuestionType.HOLD, number=4, addresses=(long, ADDRESS))
    assert decode_question(told.encode()).addresses == (ADDRESS,)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_message_or_refused(data: bytes) -> None:
    for decode in (decode_question, decode_answer, decode_asked, decode_told):
        try:
            decode(data)
        except DecodeError:
            pass
