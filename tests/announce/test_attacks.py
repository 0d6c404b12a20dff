"""Attackers by name. What a flood may cost is printed (pytest -s) and bounded."""

import tracemalloc
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from stack.announce.events import Judgement, Publish, Push, RecordRefused, RefusedBecause
from stack.announce.keyspace import WHOLE, Shard, announce_key, topic_of, word_key
from stack.announce.machine import AnnounceMachine
from stack.announce.messages import (
    RESPONSE_BYTES_MAX,
    Kind,
    Request,
    Response,
    Status,
    encode_request,
    encode_response,
)
from stack.announce.outcomes import Outcome
from stack.announce.own import Announcement
from stack.announce.params import AnnounceParams
from stack.announce.quota import SOURCES_MAX
from stack.announce.records import RECORD_OVERHEAD_BYTES, SKEW_SECONDS, PublicName, RecordReader
from stack.announce.table import TABLE_BYTES_MAX
from stack.identity.peer_id import PeerId
from stack.sansio.budget import Resource, Scope
from stack.trace import TraceEvent
from tests.announce.build import HOUR, NOW, keys_of, record_bytes
from tests.announce.network import Network, address_of, key_of, peer_of, root_of

TOPIC = topic_of(WHOLE)
NEIGHBOUR = peer_of(900)
KEY = announce_key(root_of("wanted").multihash)


class Lab:
    """One machine that believes to be the first of its network, and keeps all."""

    def __init__(self, *, table: int = TABLE_BYTES_MAX, **options: object) -> None:
        self.events: list[TraceEvent] = []
        self.scope = Scope("lab", {Resource.BYTES: table})
        self.machine = AnnounceMachine(
            key_of(0),
            random=Random(1),
            now=0.0,
            budget=self.scope,
            params=AnnounceParams(**options),  # type: ignore[arg-type]
            reader=RecordReader(),
            trace=self.events.append,
        )
        self.machine.addresses_changed((address_of(0),), 0.0)
        for now in (5.0, 10.0):
            self.machine.handle_timeout(now, NOW + now)
        assert self.machine.loaded
        self.drain()

    def drain(self) -> list[object]:
        effects = []
        while (effect := self.machine.next_effect()) is not None:
            effects.append(effect)
        return effects

    def gossip(self, data: bytes, source: PeerId = NEIGHBOUR, now: float = 20.0) -> Judgement:
        return self.machine.receive_gossip(TOPIC, data, source, now, NOW + now)

    def ask(self, request: Request, peer: PeerId = NEIGHBOUR, now: float = 20.0) -> Response:
        return self.machine.receive_request(peer, request, now, NOW + now)[0]

    def put(self, data: bytes, peer: PeerId = NEIGHBOUR, now: float = 20.0) -> Status:
        return self.ask(Request(kind=Kind.PUT, record=data), peer, now).status

    def refused(self) -> Counter[object]:
        return Counter(event.reason for event in self.events if isinstance(event, RecordRefused))


def record_of(number: int, group: int = 1, **options: object) -> bytes:
    options.setdefault("address", f"/ip4/9.9.{group}.{number % 250 + 1}/tcp/1")
    return record_bytes(number, **options)  # type: ignore[arg-type]


def grown_by(act: Callable[[], None]) -> int:
    """Bytes that are held after `act` and were not before."""
    tracemalloc.start()
    act()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 100, bytes(20_000), record_bytes(1)[:-1], record_bytes(1)[:-64] + bytes(64)],
    ids=["empty", "garbage", "oversized", "cut short", "unsigned"],
)
def test_a_record_that_is_none_is_rejected_and_not_handed_on(data: bytes) -> None:
    lab = Lab()
    assert lab.gossip(data) is Judgement.REJECT
    assert lab.put(data) is Status.REFUSED
    assert lab.refused() == {RefusedBecause.INVALID: 2}
    assert lab.drain() == [] and len(lab.machine.table) == 1


def test_a_record_of_another_shard_is_rejected_in_a_topic() -> None:
    lab = Lab()
    other = topic_of(Shard(2))
    assert lab.machine.receive_gossip(other, record_bytes(1), NEIGHBOUR, 20.0, NOW) is Judgement.IGNORE
    deep = Lab()
    deep.machine._state.topics = {other: Shard(2)}
    data = record_bytes(1, shard=3)
    assert deep.machine.receive_gossip(other, data, NEIGHBOUR, 20.0, NOW + 20) is Judgement.REJECT
    assert deep.refused() == {Outcome.FOREIGN: 1}


def test_a_replayed_record_is_not_passed_on_and_takes_nothing_back() -> None:
    lab = Lab()
    old = record_of(1, keys=[KEY])
    new = record_of(1, sequence=2, issued=NOW + 15)
    assert [lab.gossip(data) for data in (old, new, old)] == [Judgement.ACCEPT, Judgement.ACCEPT, Judgement.IGNORE]
    assert lab.put(old) is Status.REFUSED
    assert lab.ask(Request(kind=Kind.FIND, key=KEY)).records == ()


def test_a_record_from_the_future_or_long_expired_is_not_passed_on() -> None:
    lab = Lab()
    assert lab.gossip(record_of(1, issued=NOW + 21 + SKEW_SECONDS)) is Judgement.IGNORE
    assert lab.gossip(record_of(2, issued=NOW + 19 + SKEW_SECONDS)) is Judgement.ACCEPT
    assert lab.gossip(record_of(3, issued=NOW - 3 * HOUR)) is Judgement.IGNORE
    assert lab.put(record_of(4, issued=NOW + 2 * SKEW_SECONDS)) is Status.REFUSED
    assert lab.refused() == {RefusedBecause.FUTURE: 2, Outcome.EXPIRED: 1}


def test_an_author_that_announces_anew_each_second_is_heard_every_ten() -> None:
    lab = Lab()
    verdicts = [lab.gossip(record_of(1, sequence=n + 1, issued=NOW + n), now=20.0 + n) for n in range(40)]
    assert verdicts.count(Judgement.ACCEPT) == 4 and Judgement.REJECT not in verdicts


def test_a_flood_from_one_neighbour_is_ignored_beyond_its_budget_and_not_punished() -> None:
    lab = Lab(neighbour_burst=20_000, group_burst=10_000_000)
    verdicts = Counter(lab.gossip(record_of(number, group=number)) for number in range(1, 200))
    assert Judgement.REJECT not in verdicts
    assert 20_000 / 160 < verdicts[Judgement.ACCEPT] < 20_000 / 130
    other = peer_of(901)
    assert lab.gossip(record_of(500, group=201), other) is Judgement.ACCEPT
    assert lab.put(record_of(501, group=202)) is Status.BUSY
    assert lab.refused()[RefusedBecause.NEIGHBOUR_BUDGET] == 200 - verdicts[Judgement.ACCEPT]


def test_many_identities_behind_one_network_share_one_budget() -> None:
    lab = Lab(group_burst=20_000)
    verdicts = Counter(lab.gossip(record_of(n), peer_of(1000 + n % 50)) for n in range(1, 300))
    assert verdicts[Judgement.ACCEPT] < 20_000 / 130 and Judgement.REJECT not in verdicts
    assert lab.gossip(record_of(600, group=77)) is Judgement.ACCEPT
    assert lab.put(record_of(601)) is Status.BUSY


def test_a_flood_of_identities_from_one_network_pushes_nobody_out_and_its_memory_is_bounded() -> None:
    size = 512 * 1024
    lab = Lab(table=size, group_burst=1e9, neighbour_burst=1e9)
    honest = [record_of(n, group=n, keys=keys_of(5, n)) for n in range(1, 101)]
    flood = [record_of(n, group=200, keys=keys_of(20, n)) for n in range(1000, 1600)]
    for data in honest[:50]:
        assert lab.gossip(data) is Judgement.ACCEPT

    def attack() -> None:
        for data in flood:
            lab.gossip(data)
        lab.ask(Request(kind=Kind.FIND, key=KEY))

    held = grown_by(attack)
    for data in honest[50:]:
        assert lab.gossip(data) is Judgement.ACCEPT
    there = {record.author for record in lab.machine.table}
    assert all(peer_of(number) in there for number in range(1, 101))
    print(f"\na flood of {len(flood)} identities: {held // 1024} KiB held of {size // 1024} KiB")
    assert lab.machine.table.bytes_held <= size
    assert held < size + 512 * 1024


def test_a_flood_that_names_a_new_network_each_time_is_bounded_too() -> None:
    lab = Lab(table=256 * 1024, group_burst=1e9, neighbour_burst=1e9)
    data = [
        record_bytes(n, address=f"/ip4/{11 + n % 80}.{n % 200}.1.1/tcp/1", keys=keys_of(3, n)) for n in range(1, 600)
    ]

    def attack() -> None:
        for each in data:
            lab.gossip(each)

    held = grown_by(attack)
    print(f"\na flood from {len(data)} networks: {held // 1024} KiB held")
    assert lab.machine.table.bytes_held <= 256 * 1024 and held < 1024 * 1024


def test_a_flood_of_neighbours_leaves_a_bounded_number_of_budgets() -> None:
    lab = Lab()
    data = record_of(1)
    for number in range(SOURCES_MAX + 200):
        lab.machine.receive_request(
            PeerId.decode(b"\x12\x20" + number.to_bytes(32, "big")), Request(kind=Kind.NONE), 1.0, NOW
        )
        lab.gossip(data, PeerId.decode(b"\x12\x20" + number.to_bytes(32, "big")))
    assert len(lab.machine._serving._requests) == SOURCES_MAX
    assert len(lab.machine._state._neighbours) == SOURCES_MAX


def test_a_flood_of_questions_is_answered_busy_and_interests_are_bounded() -> None:
    lab = Lab(requests_burst=100, interests_per_peer=16, interests=40)
    find = Request(kind=Kind.FIND, key=KEY, keep=True)
    kept = [lab.machine.receive_request(NEIGHBOUR, find, 20.0, NOW) for _ in range(200)]
    statuses = Counter(response.status for response, _ in kept)
    assert statuses == {Status.OK: 100, Status.BUSY: 100}
    assert sum(interest is not None for _, interest in kept) == 16
    for number in range(10):
        for _ in range(16):
            lab.machine.receive_request(peer_of(number + 10), find, 20.0, NOW)
    assert len(lab.machine._serving) == 40
    lab.gossip(record_of(1, keys=[KEY]))
    assert sum(isinstance(effect, Push) for effect in lab.drain()) == 40
    lab.machine.handle_timeout(81.0, NOW + 81)
    assert len(lab.machine._serving) == 0


def test_pages_are_sixteen_times_as_dear_as_questions() -> None:
    lab = Lab(requests_burst=64, requests_rate=16)
    page = Request(kind=Kind.PAGE)
    assert [lab.ask(page).status for _ in range(5)] == [Status.OK] * 4 + [Status.BUSY]
    assert lab.ask(page, now=21.0).status is Status.OK


def test_no_answer_is_longer_than_its_reader_takes() -> None:
    lab = Lab(group_burst=1e9, neighbour_burst=1e9)
    names = [PublicName("n" * 240 + f" film {n}", 1, root_of(n)) for n in range(25)]
    for number in range(1, 30):
        data = record_of(number, group=number, keys=[KEY, *keys_of(255, number)][:256], names=names)
        assert lab.gossip(data) is Judgement.ACCEPT
    search = Request(kind=Kind.SEARCH, key=word_key("film"), words=("film",))
    for request in (Request(kind=Kind.FIND, key=KEY), search, Request(kind=Kind.PAGE), Request(kind=Kind.MEMBERS)):
        response = lab.ask(request)
        assert len(encode_response(response)) <= RESPONSE_BYTES_MAX
        assert len(response.records) <= 20 or request.kind is Kind.PAGE


def test_sybils_behind_one_network_do_not_hide_other_providers() -> None:
    lab = Lab(group_burst=1e9, neighbour_burst=1e9)
    for number in range(1, 200):
        lab.gossip(record_of(number, group=66, keys=[KEY]))
    honest = [record_of(number, group=number, keys=[KEY]) for number in range(201, 204)]
    for data in honest:
        lab.gossip(data)
    answer = lab.ask(Request(kind=Kind.FIND, key=KEY))
    assert len(answer.records) == 20 and set(honest) <= set(answer.records)


def test_a_provider_that_does_not_deliver_loses_its_rank() -> None:
    lab = Lab(group_burst=1e9, neighbour_burst=1e9, answers=5)
    for number in range(1, 11):
        lab.gossip(record_of(number, group=number, keys=[KEY]))
    for number in range(1, 6):
        lab.machine.failed(peer_of(number))
        lab.machine.delivered(peer_of(number + 5))
    named = {lab.machine._state.reader.read(d).author for d in lab.ask(Request(kind=Kind.FIND, key=KEY)).records}
    assert named == {peer_of(number) for number in range(6, 11)}


def test_a_lying_member_s_answers_are_not_believed() -> None:
    network = Network()
    liar, honest, author, seeker = network.add(4)
    network.run(11)
    for one in (honest, author, seeker):
        network.connect(one.number, liar.number)
    network.connect(honest.number, author.number)
    network.connect(seeker.number, honest.number)
    author.announce(root_of("wanted"))
    network.run(40)
    forged = (record_bytes(77), b"garbage", record_bytes(78, keys=[KEY])[:-1] + b"\0")
    liar.machine.receive_request = lambda *arguments: (  # type: ignore[method-assign]
        Response(shard=WHOLE, records=forged, closer=forged),
        None,
    )
    lookup = seeker.find(root_of("wanted"))
    network.run(3)
    assert seeker.authors(lookup) == {author.number}
    assert seeker.machine.reputation.score(liar.id) < 0


def test_a_neighbour_that_lies_about_the_depth_of_shards_is_put_right() -> None:
    network = Network(params=AnnounceParams(level_interval=20, level_jitter=0))
    honest = network.add(6)
    for node in honest[1:]:
        network.connect(node.number, 0)
    network.run(30)
    [liar, newcomer] = network.add(2)
    liar.machine.receive_request = lambda *arguments: (Response(shard=Shard(0b10110)), None)  # type: ignore[method-assign]
    network.connect(newcomer.number, liar.number)
    network.run(5)
    assert newcomer.machine.shard != WHOLE
    network.connect(newcomer.number, 0)
    newcomer.announce(root_of("new"))
    network.run(600)
    assert newcomer.machine.shard == WHOLE and newcomer.machine.loaded
    lookup = honest[3].find(root_of("new"))
    network.run(3)
    assert honest[3].authors(lookup) == {newcomer.number}


def test_nobody_is_dialled_but_by_addresses_it_has_signed() -> None:
    lab = Lab()
    lab.machine.peer_connected(NEIGHBOUR, None, 20.0, NOW + 20)
    lookup = lab.machine.find(KEY, 20.0, NOW + 20)
    unsigned = record_bytes(1, member=True)[:-64] + bytes(64)
    for effect in lab.drain():
        if hasattr(effect, "request"):
            assert effect.addresses == ()
            answer = Response(status=Status.NOT_MINE, closer=(unsigned, record_bytes(2)))
            lab.machine.answered(effect.id, effect.peer, answer, 20.0, NOW + 20)
    assert lab.drain()[-1].lookup == lookup  # type: ignore[attr-defined]


def test_closed_ids_and_answers_nobody_asked_for_are_ignored() -> None:
    lab = Lab()
    lab.machine.answered(999, NEIGHBOUR, Response(), 1.0, NOW)  # type: ignore[arg-type]
    lab.machine.pushed(999, NEIGHBOUR, Response(), NOW)  # type: ignore[arg-type]
    lab.machine.interest_dropped(999)  # type: ignore[arg-type]
    lab.machine.stop(999)  # type: ignore[arg-type]
    assert lab.drain() == []


@pytest.mark.parametrize("kind", [Kind.NONE, Kind.FIND, Kind.SEARCH])
def test_a_question_without_what_it_needs_is_refused(kind: Kind) -> None:
    assert Lab().ask(Request(kind=kind)).status is Status.REFUSED


def test_a_record_that_is_handed_in_is_published_once() -> None:
    lab = Lab()
    data = record_of(1, keys=[KEY])
    assert lab.put(data) is Status.OK
    assert [effect for effect in lab.drain() if isinstance(effect, Publish)] == [Publish(TOPIC, data)]
    assert lab.put(data) is Status.OK
    assert [effect for effect in lab.drain() if isinstance(effect, Publish)] == []


def test_an_author_without_a_group_is_bounded_by_the_neighbour_alone() -> None:
    lab = Lab(group_burst=1)
    assert lab.gossip(record_of(1, address="/ip4/127.0.0.1/tcp/1")) is Judgement.ACCEPT
    assert lab.gossip(record_of(2)) is Judgement.IGNORE
    assert RECORD_OVERHEAD_BYTES > 1000
    assert encode_request(Request(kind=Kind.NONE)) == b""
    lab.machine.announce(Announcement(root=root_of("x")), 30.0)
