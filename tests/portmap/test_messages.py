"""The packets of NAT-PMP and PCP, byte by byte."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from stack.errors import DecodeError
from stack.portmap.messages import Answer, Transport, decode, pcp_request, pmp_address_request, pmp_request

OURS = IPv4Address("192.168.1.5")
NONCE = bytes(range(12))
MAPPED = bytes.fromhex("00000000000000000000ffff")


def answered(data: bytes) -> Answer:
    return decode(data, Transport.TCP, 4001, NONCE)


def test_the_requests_of_nat_pmp() -> None:
    assert pmp_address_request() == b"\x00\x00"
    assert pmp_request(Transport.TCP, 4001, 4001, 600) == bytes.fromhex("00020000 0fa10fa1 00000258")
    assert pmp_request(Transport.UDP, 4001, 0, 0) == bytes.fromhex("00010000 0fa10000 00000000")


def test_a_request_of_pcp() -> None:
    head = bytes.fromhex("02010000 00000258") + MAPPED + OURS.packed
    mapping = NONCE + bytes.fromhex("06000000 0fa10fa2") + MAPPED + bytes(4)
    assert pcp_request(Transport.TCP, 4001, 4002, 600, OURS, NONCE) == head + mapping
    six = pcp_request(Transport.UDP, 4001, 4002, 600, IPv6Address("fd00::5"), NONCE)
    assert len(six) == 60 and six[8:24] == IPv6Address("fd00::5").packed and six[-16:] == bytes(16)


def test_the_answers_of_nat_pmp() -> None:
    assert answered(bytes.fromhex("00800000 00000007 09010101")) == Answer(0, 0, address=IPv4Address("9.1.1.1"))
    assert answered(bytes.fromhex("00820000 00000007 0fa10fa2 00000258")) == Answer(0, 0, 4002, None, 600)
    assert answered(bytes.fromhex("00810001")) == Answer(0, 1)
    refused = answered(bytes.fromhex("00820002 00000007"))
    assert refused == Answer(0, 2) and "switched" in refused.reason


def test_the_answers_of_pcp() -> None:
    head = bytes.fromhex("0281000000000258 00000007") + bytes(12)
    mapping = NONCE + bytes.fromhex("06000000 0fa10fa2")
    assert answered(head + mapping + MAPPED + bytes([9, 1, 1, 1])) == Answer(2, 0, 4002, IPv4Address("9.1.1.1"), 600)
    six = IPv6Address("2a00::1")
    assert answered(head + mapping + six.packed).address == six
    refused = answered(head[:3] + b"\x08" + head[4:] + mapping + bytes(16))
    assert refused == Answer(2, 8) and "room" in refused.reason
    assert Answer(2, 99).reason == "error 99"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "0080",
        "00000000",
        "00800000 00000007",
        "00820000 00000007 0fa1",
        "00820000 00000007 0fa20fa2 00000258",
        "00810000 00000007 0fa10fa2 00000258",
        "0281000000000258 00000007",
        "0281000000000258 00000007" + "00" * 12,
        "02810000 00000258 00000007" + "00" * 48,
        "02820000 00000258 00000007" + "00" * 48,
        "01810000 00000258 00000007" + "00" * 48,
    ],
)
def test_what_answers_something_else_is_refused(data: str) -> None:
    with pytest.raises(DecodeError):
        answered(bytes.fromhex(data))
