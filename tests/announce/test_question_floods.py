"""Floods of questions and answers: what a node holds afterwards is printed and bounded. See test_floods."""

from contextlib import suppress
from itertools import cycle, islice
from time import process_time

import pytest

from stack.announce.contacts import OWN_SHARD_MAX
from stack.announce.events import Ask, Judgement, Push
from stack.announce.keyspace import WHOLE, Shard
from stack.announce.messages import Kind, Request, Response, Status, decode_request, decode_response
from stack.announce.params import AnnounceParams
from stack.announce.records import (
    RECORD_BYTES_MAX,
    SIGN_PREFIX,
)
from stack.errors import RemoteProtocolError
from stack.pb import announce_pb2 as pb
from tests.announce.build import NOW, a_key, keys_of, record_bytes
from tests.announce.network import key_of, peer_of
from tests.announce.test_attacks import KEY, NEIGHBOUR
from tests.announce.test_floods import IDENTITIES, MESSAGES, NOTHING, WHOLE_RECORDS, address, neighbours, quiet, records
from tests.flooding import MIB, flood


def questions(kind: str, number: int) -> Request:
    key = a_key(number % 256, number)
    return {
        "asks for providers": Request(kind=Kind.FIND, key=key),
        "asks with interests": Request(kind=Kind.FIND, key=key, keep=True),
        "asks for names": Request(kind=Kind.SEARCH, key=key, words=(f"word{number}",) * 16),
        "asks for members": Request(kind=Kind.MEMBERS, shard=Shard(0x10000 + number % 0x10000)),
        "asks for pages": Request(kind=Kind.PAGE, after=bytes([number % 256]), digests=bytes(512)),
        "records handed in": Request(kind=Kind.PUT, record=records("good")[number % IDENTITIES]),
        "asks for nothing": Request(kind=Kind.NONE, record=bytes(RECORD_BYTES_MAX)),
    }[kind]


ASKS = {
    "asks for providers": (2500, NOTHING),
    "asks with interests": (MESSAGES, MIB),
    "asks for names": (1500, NOTHING),
    "asks for members": (1000, NOTHING),
    "asks for pages": (500, NOTHING),
    "records handed in": (WHOLE_RECORDS, 2 * MIB),
    "asks for nothing": (2500, NOTHING),
}
"""How many, and what may be left of them."""


@pytest.mark.parametrize("kind", ASKS)
def test_a_flood_of_questions_leaves_little_and_is_answered(kind: str) -> None:
    count, bound = ASKS[kind]
    lab = quiet()
    asked = [questions(kind, number) for number in range(count)]

    def attack() -> None:
        for at, (request, peer) in enumerate(zip(asked, neighbours(), strict=False)):
            lab.ask(request, peer, now=20.0 + at / 2000)
            lab.drain()

    flood(f"of {kind}", IDENTITIES, count, attack, bound=bound)
    assert len(lab.machine._serving) <= AnnounceParams().interests
    assert lab.ask(Request(kind=Kind.FIND, key=KEY), peer_of(901), now=40.0).status is Status.OK
    lab.machine.handle_timeout(200.0, NOW + 200.0)
    assert len(lab.machine._serving) == 0
    assert not lab.machine._serving._by_key and not lab.machine._serving._by_peer


@pytest.mark.parametrize(
    "data", [b"\xff" * 50, b"\x0b" * 20_000, b"\x1a\x00" * 10_000, b"\x3a\x80\x80\x02" + bytes(32768)]
)
def test_A34_a_flood_of_malformed_questions_and_answers_leaves_nothing_and_takes_little_time(data: bytes) -> None:
    def attack() -> None:
        for decode in (decode_request, decode_response):
            for _ in range(100):
                with suppress(RemoteProtocolError):
                    decode(data)

    began = process_time()
    attack()
    spent = process_time() - began
    flood("of malformed questions and answers", IDENTITIES, 200, attack, bound=NOTHING)
    assert spent < 200 * 0.05


def test_a_flood_of_answers_from_lying_members_leaves_a_bounded_table_and_few_contacts() -> None:
    """Pages without end, each full of records of made-up authors, that say there is more."""
    lab = quiet(table=MIB)
    lab.machine._state.missing = [WHOLE]
    pages = [
        tuple(record_bytes(25 * page + n, address=address(n), keys=keys_of(5, n), member=True) for n in range(1, 26))
        for page in range(10)
    ]

    def attack() -> None:
        lab.machine.peer_connected(NEIGHBOUR, None, 20.0, NOW + 20)
        number = 0
        while number < 40:
            for effect in lab.drain():
                if isinstance(effect, Ask):
                    number += 1
                    page = pages[number % 10]
                    answer = Response(shard=WHOLE, records=page, closer=page, next=number.to_bytes(8, "big"))
                    lab.machine.answered(effect.id, NEIGHBOUR, answer, 20.0 + number, NOW + 20 + number)
            lab.machine.handle_timeout(21.0 + number, NOW + 21 + number)
        lab.machine.peer_disconnected(NEIGHBOUR)
        lab.machine.close()

    flood("of answers", 250, 2000, attack, bound=MIB)
    assert len(lab.machine._state.contacts) <= OWN_SHARD_MAX


def test_A12_records_and_answers_without_content_are_harmless() -> None:
    lab = quiet(verify=True)
    empty = record_bytes(1, address="")
    assert lab.gossip(empty) is Judgement.ACCEPT
    lab.machine.peer_connected(NEIGHBOUR, None, 20.0, NOW + 20)
    lookup = lab.machine.find(KEY, 20.0, NOW + 20)
    for effect in lab.drain():
        if isinstance(effect, Ask):
            lab.machine.answered(effect.id, NEIGHBOUR, Response(), 20.0, NOW + 20)
            lab.machine.pushed(effect.id, NEIGHBOUR, Response(), NOW + 20)
    for request in (Request(kind=kind) for kind in Kind):
        lab.ask(request)
    lab.machine.stop(lookup)
    assert lab.gossip(b"") is Judgement.REJECT and lab.put(b"") is Status.REFUSED


def test_A06_A15_records_in_the_name_of_another_or_of_nobody_are_refused() -> None:
    lab = quiet(verify=True)
    for author in (
        bytes(peer_of(2)),
        b"",
        b"\x12\x20",
        b"\x00\x24" + bytes(3),
        b"\xff" * 34,
        bytes(64),
        b"\x12\x21" + bytes(33),
    ):
        outer, inner = pb.SignedRecord(), pb.Record()
        outer.ParseFromString(record_bytes(1))
        inner.ParseFromString(outer.record)
        inner.author = author
        outer.record = inner.SerializeToString()
        outer.signature = key_of(1).sign(SIGN_PREFIX + outer.record)
        assert lab.gossip(outer.SerializeToString()) is Judgement.REJECT


def test_neighbours_that_come_and_go_leave_nothing() -> None:
    lab = quiet()
    peers = [peer_of(1000 + number) for number in range(IDENTITIES)]

    def attack() -> None:
        for peer in islice(cycle(peers), MESSAGES):
            lab.machine.peer_connected(peer, "9.9.9.0/24", 20.0, NOW + 20)
            lab.drain()
            lab.machine.peer_disconnected(peer)

    flood("of neighbours that come and go", IDENTITIES, MESSAGES, attack, bound=NOTHING)


def test_records_that_nobody_reads_wait_within_a_bound() -> None:
    """Interests of those who do not read, and a flood of records that match: what waits for each is cut off in its stream."""
    lab = quiet(neighbour_burst=1e9, group_burst=1e9)
    for number in range(16):
        for _ in range(16):
            lab.ask(Request(kind=Kind.FIND, key=KEY, keep=True), peer_of(number + 1))
    data = [record_bytes(number, address=address(number), keys=[KEY]) for number in range(1, IDENTITIES + 1)]
    pushed = 0

    def attack() -> None:
        nonlocal pushed
        for each in data:
            lab.gossip(each)
            pushed += sum(isinstance(effect, Push) for effect in lab.drain())
        lab.machine.close()

    flood("of records with interests", IDENTITIES, IDENTITIES, attack, bound=MIB)
    assert pushed == 256 * IDENTITIES
