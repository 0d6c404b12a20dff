"""multistream-select as pure machines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import LimitExceeded, NegotiationError, RemoteProtocolError
from stack.net.multistream import (
    HEADER,
    NOT_AVAILABLE,
    ROUNDS_MAX,
    TOKEN_BYTES_MAX,
    Agreed,
    Proposer,
    Responder,
    State,
    encode_token,
)
from stack.testing.pair import BytePair

SUPPORTED = ("/noise", "/yamux/1.0.0")


def negotiated(proposed: list[str], step: int = 1000) -> BytePair[Agreed, Agreed]:
    return BytePair(
        Proposer(proposed),
        Responder(SUPPORTED),
        cut=lambda data: [data[i : i + step] for i in range(0, len(data), step)],
    )


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("proposed", [["/noise"], ["/tls", "/noise"], ["/a", "/b", "/yamux/1.0.0", "/noise"]])
def test_the_first_proposal_that_is_supported_is_agreed(proposed: list[str], step: int) -> None:
    link = negotiated(proposed, step)
    link.run()
    agreed = [Agreed(protocol=next(name for name in proposed if name in SUPPORTED))]
    assert link.first_events == link.second_events == agreed
    assert link.first.next_event() is None


def test_header_and_first_proposal_go_out_together() -> None:
    assert Proposer(["/noise"]).data_to_send() == encode_token(HEADER) + encode_token("/noise")


def test_attack_3_who_says_nothing_is_told_nothing_and_header_and_proposal_get_one_answer() -> None:
    machine = Responder(SUPPORTED)
    assert machine.data_to_send() == b""
    assert machine.wanted() == len(encode_token(HEADER))
    machine.receive_data(encode_token(HEADER), 0.0)
    machine.receive_data(encode_token(SUPPORTED[0]), 0.0)
    assert machine.data_to_send() == encode_token(HEADER) + encode_token(SUPPORTED[0])


def test_a_proposer_that_waits_for_the_header_gets_it() -> None:
    machine = Responder(SUPPORTED)
    machine.receive_data(encode_token(HEADER), 0.0)
    assert machine.data_to_send() == encode_token(HEADER)


def test_nothing_in_common_is_an_error_that_names_the_proposals() -> None:
    with pytest.raises(NegotiationError, match="none of /a, /b"):
        negotiated(["/a", "/b"]).run()


def test_no_proposal_is_the_caller_s_error() -> None:
    with pytest.raises(NegotiationError):
        Proposer([])


@pytest.mark.parametrize("name", ["a\nb", "x" * TOKEN_BYTES_MAX])
def test_a_name_that_fits_no_message_is_refused(name: str) -> None:
    with pytest.raises(NegotiationError):
        encode_token(name)


def test_a_name_of_1023_bytes_fits() -> None:
    assert encode_token("x" * (TOKEN_BYTES_MAX - 1)).startswith(b"\x80\x08x")


@pytest.mark.parametrize("machine", [Proposer(["/noise"]), Responder(SUPPORTED)])
def test_another_first_message_than_the_header_is_an_error(machine: Proposer | Responder) -> None:
    with pytest.raises(RemoteProtocolError, match="header"):
        machine.receive_data(encode_token("/noise"), 0.0)
    assert machine.state is State.FAILED


def test_an_answer_to_another_question_is_an_error() -> None:
    machine = Proposer(["/noise"])
    with pytest.raises(RemoteProtocolError, match="no answer"):
        machine.receive_data(encode_token(HEADER) + encode_token("/tls"), 0.0)


@pytest.mark.parametrize("machine", [Proposer(["/noise"]), Responder(SUPPORTED)])
def test_a_peer_that_closes_before_the_agreement_is_an_error(machine: Proposer | Responder) -> None:
    with pytest.raises(NegotiationError, match="closed"):
        machine.receive_data(b"", 0.0)


def test_a_peer_that_closes_after_the_agreement_is_none_of_our_business() -> None:
    machine = Responder(SUPPORTED)
    machine.receive_data(encode_token(HEADER) + encode_token("/noise"), 0.0)
    machine.receive_data(b"", 0.0)
    assert machine.next_event() == Agreed(protocol="/noise")


def test_ls_and_na_are_answered_with_na() -> None:
    machine = Responder(["/noise", NOT_AVAILABLE])
    machine.receive_data(encode_token(HEADER) + encode_token("ls") + encode_token("na"), 0.0)
    assert machine.data_to_send() == encode_token(HEADER) + 2 * encode_token("na")
    assert machine.next_event() is None


def test_bytes_behind_the_agreement_are_handed_on_unread() -> None:
    machine = Responder(SUPPORTED)
    machine.receive_data(encode_token(HEADER) + encode_token("/noise") + b"\xff\xffpayload", 0.0)
    machine.receive_data(b"more", 0.0)
    assert machine.take_rest() == b"\xff\xffpayloadmore"


@given(st.lists(st.sampled_from(["/a", "/b", "/noise", "/yamux/1.0.0"]), min_size=1, max_size=5))
def test_reading_only_what_is_wanted_never_reads_too_far(proposed: list[str]) -> None:
    proposer, responder = Proposer(proposed), Responder(SUPPORTED)
    agreed = any(name in SUPPORTED for name in proposed)
    waiting = proposer.data_to_send()
    answered = b""
    try:
        while responder.state is not State.AGREED:
            if not waiting:
                answered += responder.data_to_send()
                while answered:
                    size = proposer.wanted()
                    assert size >= 1
                    proposer.receive_data(answered[:size], 0.0)
                    answered = answered[size:]
                waiting = proposer.data_to_send()
            size = responder.wanted()
            responder.receive_data(waiting[:size], 0.0)
            waiting = waiting[size:]
    except NegotiationError:
        assert not agreed
    else:
        assert waiting == b"" and responder.take_rest() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 9 + b"\x01",  # a varint of ten bytes
        b"\xff" * 8 + b"\x7f",  # 2**63 - 1
        b"\x81\x08" + b"/" * 1024 + b"\n",  # 1,025 bytes
        b"\x06/noise",  # no newline
        b"\x00",  # empty
        b"\x87\x00/noise\n",  # a varint that is not minimal
        b"\x03\xff\xfe\n",  # not UTF-8
    ],
)
@pytest.mark.parametrize("kind", ["proposer", "responder"])
def test_A29_a_message_that_is_none_is_refused(data: bytes, kind: str) -> None:
    machine = Proposer(["/noise"]) if kind == "proposer" else Responder(SUPPORTED)
    with pytest.raises(RemoteProtocolError):
        machine.receive_data(encode_token(HEADER) + data, 0.0)
    assert machine.state is State.FAILED


def test_A29_endless_proposals_end_after_64() -> None:
    machine = Responder(SUPPORTED)
    machine.receive_data(encode_token(HEADER), 0.0)
    for _ in range(ROUNDS_MAX - 1):
        machine.receive_data(encode_token("/nothing"), 0.0)
    with pytest.raises(NegotiationError, match="64"):
        machine.receive_data(encode_token("/nothing"), 0.0)


def test_A29_a_length_is_checked_before_its_bytes_are_kept() -> None:
    machine = Responder(SUPPORTED)
    machine.receive_data(encode_token(HEADER), 0.0)
    with pytest.raises(RemoteProtocolError, match="1025 bytes"):
        machine.receive_data(b"\x81\x08", 0.0)


def test_a_megabyte_behind_a_message_is_not_kept() -> None:
    machine = Responder(SUPPORTED)
    with pytest.raises(LimitExceeded):
        machine.receive_data(encode_token(HEADER) + bytes(2 << 20), 0.0)


def test_a_negotiation_has_no_deadline_of_its_own() -> None:
    machine = Responder(SUPPORTED)
    assert machine.next_timeout() is None
    machine.handle_timeout(0.0)
    assert repr(machine) == "<Responder waiting for the header>"
