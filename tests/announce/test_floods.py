"""Floods of records from many identities behind few addresses: what a node holds afterwards is printed and bounded."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import cycle, islice
from random import Random

import pytest

from stack.announce.contacts import CONTACT_BYTES_MAX, OTHER_SHARD_MAX, OWN_SHARD_MAX, Contacts
from stack.announce.events import Judgement
from stack.announce.keyspace import home_of_peer, shard_at
from stack.announce.messages import Kind, Request, Status
from stack.announce.records import (
    ADDRESS_PROTOCOLS_MAX,
    ADDRESSES_MAX,
    NAMES_MAX,
    RECORD_BYTES_MAX,
    RECORD_OVERHEAD_BYTES,
    SKEW_SECONDS,
    PublicName,
    RecordReader,
    decode_record,
    encode_record,
)
from stack.announce.reputation import Reputation
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from tests.announce.build import HOUR, NOW, keys_of, record_bytes
from tests.announce.network import key_of, peer_of, root_of
from tests.announce.test_attacks import KEY, Lab, record_of
from tests.flooding import KIB, MIB, flood

IDENTITIES = 500
NETWORKS = 8
"""IPv4 /24 in which all of them are."""
MESSAGES = 5000
WHOLE_RECORDS = 1000
"""As many where each is read to its end, which takes 100 us and thrice that while memory is traced."""

NOTHING = MIB
"""For what leaves no trace but budgets of neighbours, of bytes and of questions (1,024 of 200 bytes each), the
1,024 public keys and the 64 records that were read last."""


def address(number: int) -> str:
    return f"/ip4/9.9.{number % NETWORKS}.{number % 250 + 1}/tcp/1"


@cache
def records(kind: str) -> tuple[bytes, ...]:
    """One record of each identity."""
    issued = {"future": NOW + 2 * SKEW_SECONDS, "expired": NOW - 3 * HOUR}.get(kind, NOW)
    return tuple(record_bytes(n, address=address(n), issued=issued) for n in range(1, IDENTITIES + 1))


def neighbours() -> Iterator[PeerId]:
    return cycle(peer_of(number) for number in range(1000, 1000 + IDENTITIES))


def quiet(*, verify: bool = False, **options: object) -> Lab:
    """A machine that nobody traces: what a trace keeps is not the machine's. It believes every signature, or verifies."""
    lab = Lab(**options)  # type: ignore[arg-type]
    lab.machine._state.trace = None
    if not verify:
        lab.machine._state.reader = RecordReader(verify=lambda *signed: True)
    return lab


def malformed() -> Iterator[bytes]:
    """Cut short, filled with other bytes, and things that are no record at all."""
    for data in records("good"):
        yield from (data[:-1], data[: len(data) // 2], data[1:], b"", b"\xff" * 100, b"\x0a\x02\x0b\x0b")


def unsigned() -> Iterator[bytes]:
    """Without signature, with one of zeros, with that of another record."""
    for data, other in zip(records("good"), records("future"), strict=True):
        yield from (data[:-66], data[:-64] + bytes(64), data[:-64] + other[-64:])


def oversized() -> Iterator[bytes]:
    return (data + bytes(RECORD_BYTES_MAX) for data in records("good"))


BAD: dict[str, tuple[Callable[[], Iterable[bytes]], int, Judgement]] = {
    "malformed records": (malformed, 2 * WHOLE_RECORDS, Judgement.REJECT),
    "oversized records": (oversized, MESSAGES, Judgement.REJECT),
    "unsigned records": (unsigned, WHOLE_RECORDS, Judgement.REJECT),
    "future-dated records": (lambda: records("future"), WHOLE_RECORDS, Judgement.IGNORE),
    "expired records": (lambda: records("expired"), WHOLE_RECORDS, Judgement.IGNORE),
}


@pytest.mark.parametrize(
    ("name", "by"),
    [*((name, "gossip") for name in BAD), ("malformed records", "request"), ("future-dated records", "request")],
)
def test_a_flood_of_bad_records_leaves_nothing(name: str, by: str) -> None:
    make, count, verdict = BAD[name]
    data = list(islice(cycle(make()), count))
    lab = quiet(
        verify=name in ("unsigned records", "malformed records"),
        neighbour_burst=1e9,
        group_burst=1e9,
        requests_burst=1e9,
    )

    def attack() -> None:
        for each, source in zip(data, neighbours(), strict=False):
            if by == "gossip":
                assert lab.gossip(each, source) is verdict
            else:
                assert lab.put(each, source) is Status.REFUSED

    flood(f"of {name} by {by}", IDENTITIES, count, attack, bound=NOTHING)
    assert len(lab.machine.table) == 1 and lab.drain() == []
    assert lab.gossip(record_of(900, group=99)) is Judgement.ACCEPT


def test_a_flood_of_replayed_records_leaves_what_the_first_of_each_left() -> None:
    lab = quiet(neighbour_burst=1e9, group_burst=1e9)
    good = records("good")
    newer = [record_bytes(number, address=address(number), sequence=2, issued=NOW + 15) for number in range(1, 51)]
    for data in (*good, *newer):
        assert lab.gossip(data) is Judgement.ACCEPT
    count = len(lab.machine.table)

    def attack() -> None:
        for each, source in zip(islice(cycle(good), WHOLE_RECORDS), neighbours(), strict=False):
            assert lab.gossip(each, source) is Judgement.IGNORE

    flood("of replayed records", IDENTITIES, WHOLE_RECORDS, attack, bound=NOTHING)
    assert len(lab.machine.table) == count and lab.drain() == []


def test_a_flood_of_good_records_from_few_networks_fills_their_budgets_and_no_more() -> None:
    lab = quiet()
    data = [
        record_bytes(
            number, address=address(number), keys=keys_of(20, number), sequence=sequence, issued=NOW + 11 * sequence
        )
        for sequence in range(4)
        for number in range(1, IDENTITIES + 1)
    ]

    def attack() -> None:
        for at, (each, source) in enumerate(zip(islice(cycle(data), WHOLE_RECORDS), neighbours(), strict=False)):
            lab.gossip(each, source, now=20.0 + at / 100)
        lab.ask(Request(kind=Kind.FIND, key=KEY), now=70.0)

    flood("of good records", IDENTITIES, WHOLE_RECORDS, attack, bound=8 * MIB)
    assert lab.gossip(record_of(900, group=99), now=70.0) is Judgement.ACCEPT


# What records hide in few bytes

WORDS = [f"{first}{second}" for first in "abcdefghijklmnopqrst" for second in "abcdefghijklmnopqrstuvwxyz"]


def with_names(number: int, count: int = NAMES_MAX) -> bytes:
    """As many words as a record can have, each another one, in few bytes."""
    word = [f"{word}{number}" for word in WORDS]
    names = [PublicName(" ".join(word[16 * n : 16 * n + 16]), 1, root_of(n)) for n in range(count)]
    return record_bytes(number, address=f"/ip4/9.{number // 200}.{number % 200}.1/tcp/1", names=names)


def with_long_names(number: int) -> bytes:
    names = [PublicName("\U0001f600" + "x" * 250, 1, root_of(n)) for n in range(NAMES_MAX)]
    return record_bytes(number, address=f"/ip4/9.{number // 200}.{number % 200}.1/tcp/1", names=names)


def with_addresses(number: int, tail: str) -> bytes:
    first = f"/ip4/9.{number // 200}.{number % 200}"
    addresses = [Multiaddr.parse(f"{first}.{n}/tcp/1{tail}") for n in range(ADDRESSES_MAX)]
    return encode_record(key_of(number), sequence=1, issued=NOW, ttl=2 * HOUR, addresses=addresses)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "plain": lambda number: record_bytes(number, address=address(number)),
    "256 keys": lambda number: record_bytes(number, address=address(number), keys=keys_of(256, number)),
    "512 words": with_names,
    "long names": with_long_names,
    "addresses of many protocols": lambda number: with_addresses(number, "/p2p-circuit" * 80),
    "addresses of sixteen protocols": lambda number: with_addresses(number, "/p2p-circuit" * 14),
    "long addresses": lambda number: with_addresses(number, "/tls/sni/" + ".".join(["a" * 49] * 4) + "/ws"),
}


SLACK = 64 * KIB
"""The tables of the index and the budgets of groups, which are no records."""


@pytest.mark.parametrize("shape", SHAPES)
def test_A42_a_table_holds_no_more_than_it_draws_from_the_budget_whatever_is_in_its_records(shape: str) -> None:
    size = 256 * KIB
    lab = quiet(table=size, neighbour_burst=1e12, group_burst=1e12)
    data = [SHAPES[shape](number) for number in range(1, 301 if shape == "plain" else 41)]
    lab.ask(Request(kind=Kind.FIND, key=KEY))

    def attack() -> None:
        for each in data:
            lab.gossip(each)
        lab.machine._state.reader._cache.clear()

    held = flood(f"of records with {shape}", len(data), len(data), attack, bound=size + SLACK)
    assert held <= lab.machine.table.bytes_held + SLACK
    assert lab.machine.table.bytes_held <= size


def test_an_address_of_too_many_protocols_is_left_out() -> None:
    addresses = [
        "/ip4/9.9.9.9/tcp/1" + "/p2p-circuit" * count
        for count in (0, ADDRESS_PROTOCOLS_MAX - 2, ADDRESS_PROTOCOLS_MAX - 1)
    ]
    data = encode_record(
        key_of(1), sequence=1, issued=NOW, ttl=HOUR, addresses=[Multiaddr.parse(text) for text in addresses]
    )
    assert [str(told) for told in decode_record(data).addresses] == addresses[:2]


def test_a_flood_of_members_leaves_small_contacts_only() -> None:
    """At the depth of a network of some thousand."""
    contacts = Contacts(peer_of(0), Reputation(), Random(1))
    contacts.move(shard_at(home_of_peer(peer_of(0)), 7))
    count = 1000
    more = root_of(1)
    long = ["/ip4/9.9.9.9/tcp/1/tls/sni/" + ".".join(["a" * 49] * 4) + "/ws"] * ADDRESSES_MAX
    data = [
        encode_record(
            key_of(n),
            sequence=1,
            issued=NOW,
            ttl=HOUR,
            addresses=[Multiaddr.parse(each) for each in (long if n % 2 else (address(n),))],
            keys=keys_of(20 if n % 2 else 0),
            more=more,
            member=True,
        )
        for n in range(1, count + 1)
    ]

    def attack() -> None:
        for each in data:
            contacts.learn(decode_record(each, lambda *signed: True))

    known = 2**7 * OTHER_SHARD_MAX + OWN_SHARD_MAX
    flood("of members", count, count, attack, bound=known * (CONTACT_BYTES_MAX + RECORD_OVERHEAD_BYTES))
    assert 256 < len(contacts) <= known
    assert all(len(record.data) <= CONTACT_BYTES_MAX for some in contacts._known.values() for record in some.values())
