"""The exchange: whoever knows the code gets the ticket, and nobody else does, whatever he passes on or says again."""

import json
import random
from pathlib import Path

import pytest

from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.protocols.code.exchange import ELEMENT_BYTES, Giver, Taker
from stack.protocols.code.words import Code, read_code
from tests.bitswap.simulation import peer_named

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "code.json").read_text())
ALICE, BOB, MALLORY = (peer_named(name) for name in ("alice", "bob", "mallory"))
RIGHT = Code(4, ("otter", "lamp", "violin"))
WRONG = Code(4, ("otter", "lamp", "village"))
ELSEWHERE = Code(5, RIGHT.words)
TICKET = b"stack:aebacaeq"


def giver(code: Code = RIGHT, *, taker: PeerId = BOB, giver: PeerId = ALICE, seed: int = 1) -> Giver:
    return Giver(code, taker=taker, giver=giver, random=random.Random(seed))


def taker(code: Code = RIGHT, *, taker: PeerId = BOB, giver: PeerId = ALICE, seed: int = 2) -> Taker:
    return Taker(code, taker=taker, giver=giver, random=random.Random(seed))


class Given(random.Random):
    """Random bytes that are given."""

    def __init__(self, data: str) -> None:
        super().__init__(0)
        self._data = bytes.fromhex(data)

    def randbytes(self, n: int) -> bytes:
        assert n == len(self._data)
        return self._data


@pytest.mark.parametrize("vector", VECTORS["exchanges"], ids=lambda vector: vector["note"])
def test_a_vector_is_what_both_machines_say(vector: dict[str, str]) -> None:
    code, who, whom = read_code(vector["code"]), PeerId.parse(vector["taker"]), PeerId.parse(vector["giver"])
    assert code is not None
    takes = Taker(code, taker=who, giver=whom, random=Given(vector["taker_random"]))
    gives = Giver(code, taker=who, giver=whom, random=Given(vector["giver_random"]))
    gives.agree(takes.element)
    proof = takes.agree(gives.element)
    sealed = gives.seal(vector["ticket"].encode())
    said = [takes.element, gives.element, proof, sealed]
    assert [each.hex() for each in said] == [
        vector[name] for name in ("taker_element", "giver_element", "proof", "sealed")
    ]


def test_who_types_what_was_said_gets_the_ticket() -> None:
    gives, takes = giver(), taker()
    gives.agree(takes.element)
    assert gives.is_right(takes.agree(gives.element))
    sealed = gives.seal(TICKET)
    assert TICKET not in sealed and takes.open(sealed) == TICKET
    assert len(takes.element) == len(gives.element) == ELEMENT_BYTES


@pytest.mark.parametrize("code", [WRONG, ELSEWHERE], ids=str)
def test_who_types_something_else_proves_nothing_and_reads_nothing(code: Code) -> None:
    gives, takes = giver(), taker(code)
    gives.agree(takes.element)
    assert not gives.is_right(takes.agree(gives.element))
    with pytest.raises(RemoteProtocolError, match="does not know the code"):
        takes.open(gives.seal(TICKET))


def test_a_meeting_point_that_stands_between_the_two_gets_nothing() -> None:
    """It answers Bob as if it gave the code, and passes on to Alice what he says, as if it took it: each peer has proved who it is."""
    gives, takes = giver(taker=MALLORY), taker(giver=MALLORY)
    gives.agree(takes.element)
    proof = takes.agree(gives.element)
    assert not gives.is_right(proof)
    with pytest.raises(RemoteProtocolError):
        takes.open(gives.seal(TICKET))


def test_what_was_said_in_one_exchange_is_of_no_use_in_another() -> None:
    """Somebody has heard all that Bob said, and says it again as Bob."""
    first, takes = giver(), taker()
    first.agree(takes.element)
    proof = takes.agree(first.element)
    assert first.is_right(proof)
    again = giver(seed=3)
    again.agree(takes.element)
    assert not again.is_right(proof)


def test_who_sends_back_what_he_heard_proves_nothing() -> None:
    gives = giver()
    with pytest.raises(RemoteProtocolError):
        gives.agree(gives.element)
    with pytest.raises(RemoteProtocolError):
        giver().agree(b"A" + gives.element[1:])  # as if it were another's
    assert not gives.is_right(b"")


@pytest.mark.parametrize(
    "element",
    [
        b"",
        b"A" * 32,
        b"A" + bytes(32),
        b"A" + (1).to_bytes(32, "little"),
        b"C" + bytes(32),
        b"A" + b"\x02" + bytes(31),
        b"A" + b"\xff" * 32,
    ],
)
def test_what_is_no_element_is_refused(element: bytes) -> None:
    """Too short, of small order, of neither side, on no curve."""
    with pytest.raises(RemoteProtocolError):
        giver().agree(element)


def test_no_key_and_no_word_is_shown() -> None:
    assert repr(giver()) == "<Giver of a code>" and repr(taker()) == "<Taker of a code>"
