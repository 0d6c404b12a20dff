"""Tickets against docs/ticket.md and its vectors, and against every kind of damage."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError, LimitExceeded
from stack.files.ticket import (
    ADDRESSES_MAX,
    INPUT_MAX,
    TEXT_MAX,
    NotATicket,
    Ticket,
    TicketCutOff,
    TicketError,
    TicketMistyped,
    TicketTooNew,
    decode_ticket,
    encode_ticket,
    is_ticket,
)
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from tests.flooding import quickest

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "ticket.json").read_text())
GOOD = VECTORS["tickets"][0]["text"]
ERRORS = {
    "not-a-ticket": NotATicket,
    "mistyped": TicketMistyped,
    "cut-off": TicketCutOff,
    "too-new": TicketTooNew,
}


def ticket_of(values: dict) -> Ticket:
    return Ticket(
        Cid.parse(values["root"]),
        values["name"],
        values["size"],
        PeerId.parse(values["peer"]),
        tuple(Multiaddr.parse(text) for text in values["addresses"]),
        bytes.fromhex(values.get("secret", "")),
    )


@pytest.mark.parametrize("record", VECTORS["tickets"], ids=lambda record: record["note"])
def test_recorded_tickets_have_their_text_and_mean_what_is_recorded(record: dict) -> None:
    assert encode_ticket(ticket_of(record["ticket"])) == record["text"]
    assert decode_ticket(record["text"]) == ticket_of(record["decoded"])
    assert len(record["text"]) <= TEXT_MAX


@pytest.mark.parametrize("record", VECTORS["same"], ids=lambda record: record["note"])
def test_spelling_does_not_matter(record: dict) -> None:
    assert decode_ticket(record["text"]) == decode_ticket(GOOD)
    assert is_ticket(record["text"])


@pytest.mark.parametrize("record", VECTORS["lenient"], ids=lambda record: record["note"])
def test_what_a_newer_program_added_is_passed_over(record: dict) -> None:
    assert [str(address) for address in decode_ticket(record["text"]).addresses] == record["addresses"]


@pytest.mark.parametrize("record", VECTORS["refused"], ids=lambda record: record["note"])
def test_B03_damage_is_told_as_what_it_is(record: dict) -> None:
    with pytest.raises(TicketError) as caught:
        decode_ticket(record["text"])
    assert type(caught.value) is ERRORS[record["why"]]
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_a_newer_ticket_names_its_version() -> None:
    (record,) = (record for record in VECTORS["refused"] if record["why"] == "too-new")
    with pytest.raises(TicketTooNew, match="version 2") as caught:
        decode_ticket(record["text"])
    assert caught.value.version == 2


def test_a_wrong_character_is_told_with_its_place() -> None:
    with pytest.raises(TicketMistyped, match="'1' at character 11"):
        decode_ticket(GOOD[:16] + "1" + GOOD[17:])


@given(st.data())
def test_B03_no_single_typo_goes_unnoticed(data: st.DataObject) -> None:
    place = data.draw(st.integers(len("stack:"), len(GOOD) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567").filter(lambda letter: letter != GOOD[place]))
    with pytest.raises(TicketError):
        decode_ticket(GOOD[:place] + letter + GOOD[place + 1 :])


def test_B03_every_cut_is_told_as_a_cut() -> None:
    for length in range(len("stack:"), len(GOOD)):
        with pytest.raises(TicketCutOff):
            decode_ticket(GOOD[:length])


@given(st.text(max_size=400))
def test_B01_any_text_is_refused_with_a_decode_error(text: str) -> None:
    for candidate in (text, "stack:" + text):
        with pytest.raises(DecodeError):
            decode_ticket(candidate)


@given(st.binary(max_size=200))
def test_B01_any_bytes_behind_a_good_checksum_are_a_ticket_or_refused(data: bytes) -> None:
    body = b"\x01" + data
    sealed = body + hashlib.sha256(body).digest()[:4]
    text = "stack:" + base64.b32encode(sealed).decode().lower().rstrip("=")
    try:
        ticket = decode_ticket(text)
    except DecodeError:
        return
    assert len(ticket.addresses) <= ADDRESSES_MAX


def test_B02_ten_megabytes_cost_nothing() -> None:
    for text in ("a" * 10_000_000, "stack:" + "a" * 10_000_000, " " * 10_000_000, "https://x#" + "-" * 10_000_000):

        def work(text: str = text) -> None:
            assert not is_ticket(text)
            with pytest.raises(NotATicket, match="characters"):
                decode_ticket(text)

        assert quickest(work) < 0.05
    assert INPUT_MAX < 10_000


ADDRESSES = st.sampled_from(
    [
        "/ip4/203.0.113.9/tcp/4001",
        "/ip4/10.0.0.9/tcp/4001",
        "/ip4/127.0.0.1/tcp/4001",
        "/ip6/2606:4700::5/tcp/4001/ws",
        "/ip6/fe80::1/tcp/1",
        "/dns4/a.example.org/tcp/443/tls/ws",
        "/ip4/8.8.8.8/udp/4001/quic-v1",
    ]
).map(Multiaddr.parse)


@given(
    st.text(max_size=400),
    st.integers(0, 2**64 - 1),
    st.lists(ADDRESSES, max_size=20),
    st.sampled_from([1, 0]),
)
def test_every_ticket_fits_and_keeps_what_matters(
    name: str, size: int, addresses: list[Multiaddr], version: int
) -> None:
    root = Cid.of(name.encode("utf-8", "replace"), codec=0x70, version=version)
    peer = decode_ticket(GOOD).peer
    text = encode_ticket(Ticket(root, name, size, peer, tuple(addresses)))
    assert len(text) <= TEXT_MAX
    decoded = decode_ticket(text)
    assert (decoded.root, decoded.size, decoded.peer) == (root, size, peer)
    whole = name.encode("utf-8", "replace").decode()
    assert decoded.name == whole or len(decoded.name.encode()) >= min(len(whole.encode()), 17)
    assert set(decoded.addresses) <= set(addresses) and len(decoded.addresses) <= ADDRESSES_MAX


def test_a_root_that_is_too_long_for_a_ticket_is_told() -> None:
    long_root = Cid.v1(0x55, b"\x00\x80\x01" + bytes(128))
    peer = decode_ticket(GOOD).peer
    with pytest.raises(LimitExceeded):
        encode_ticket(Ticket(long_root, "name", 2**64 - 1, peer, ()))


def test_an_address_that_is_no_ip_address_counts_as_private() -> None:
    good = decode_ticket(GOOD)
    unix = Multiaddr.parse("/memory/1")
    loopback = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
    text = encode_ticket(Ticket(good.root, "", 0, good.peer, (loopback, unix)))
    assert decode_ticket(text).addresses == (unix,)
