"""Floods of those who ask who has a root: what the swarm holds afterwards is printed and bounded."""

import hashlib
from collections.abc import Callable
from itertools import count, cycle

import pytest

from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.protocols.providers.interfaces import RangeBook, announce_key
from stack.protocols.providers.messages import (
    MESSAGE_BYTES_MAX,
    RUNS_MAX,
    Member,
    RangesUpdate,
    Update,
    decode_update,
    encode_update,
)
from stack.protocols.providers.places import STREAMS_PER_ROOT_MAX
from stack.protocols.providers.subscription import SendUpdates, SubscriptionId
from stack.protocols.providers.swarm import MEMBERS_MAX, STREAMS_PER_PEER_MAX, SwarmMachine
from tests.bitswap.simulation import cid_of
from tests.flooding import KIB, MIB, flood, quickest
from tests.protocols.providers.test_swarm import ADDRESS, KEY, OURS, PEERS, RECORDS, ROOT, Side, ranges, stream

IDENTITIES = 500
MESSAGES = 1000
NOTHING = 128 * KIB
LEAVES = 10_000


def stranger(number: int) -> PeerId:
    return PeerId.decode(b"\x12\x20" + hashlib.sha256(b"%d" % number).digest())


STRANGERS = [stranger(number) for number in range(IDENTITIES)]


def opened(data: bytes) -> PeerRecord:
    """Records are not verified here: the machine asks whether the one that signed is the one that speaks."""
    return PeerRecord(PeerId.decode(data[:34]), 1, (ADDRESS,))


def sharing(roots: int) -> SwarmMachine:
    book = RangeBook()
    for number in range(roots):
        book.add(cid_of(number), ranges(LEAVES, (0, LEAVES)))
    return SwarmMachine(book, open_record=opened)


def bitmap() -> RangesUpdate:
    return RangesUpdate(leaves=LEAVES, bitmap=b"\x55" * (LEAVES // 8))


def first(number: int, key: bytes) -> Update:
    return Update(key=key, record=bytes(STRANGERS[number % IDENTITIES]) + bytes(2000), ranges=bitmap())


def feed(machine: SwarmMachine, key_of: Callable[[int], bytes], *, close: bool) -> None:
    for number in range(MESSAGES):
        id = SubscriptionId(number)
        machine.receive_update(id, STRANGERS[number % IDENTITIES], first(number, key_of(number)), OURS, 0.0)
        while machine.next_effect() is not None:
            pass
        if close:
            machine.stream_closed(id)


def test_asking_for_what_is_not_here_leaves_nothing() -> None:
    machine = sharing(1)
    flood(
        "of asks for unknown roots",
        IDENTITIES,
        MESSAGES,
        lambda: feed(machine, lambda n: n.to_bytes(16, "big"), close=False),
        bound=NOTHING,
    )
    assert machine.streams == 0 and machine._roots == {}


def test_asking_for_one_root_leaves_so_many_streams_and_no_more() -> None:
    machine = sharing(2)
    key = announce_key(cid_of(1).multihash)
    flood("of asks for one root", IDENTITIES, MESSAGES, lambda: feed(machine, lambda n: key, close=False), bound=MIB)
    assert machine.streams == STREAMS_PER_ROOT_MAX


def test_asking_for_many_roots_leaves_so_many_streams_of_each_and_nothing_when_they_end() -> None:
    machine = sharing(20)
    keys = [announce_key(cid_of(number).multihash) for number in range(20)]
    flood(
        "of asks for all roots",
        IDENTITIES,
        MESSAGES,
        lambda: feed(machine, lambda n: keys[n % 20], close=False),
        bound=12 * MIB,
    )
    assert machine.streams <= 20 * STREAMS_PER_ROOT_MAX
    for id in range(MESSAGES):
        machine.stream_closed(SubscriptionId(id))
    assert machine.streams == 0 and machine._roots == {}
    flood(
        "of asks that end",
        IDENTITIES,
        MESSAGES,
        lambda: feed(machine, lambda n: keys[n % 20], close=True),
        bound=NOTHING,
    )


def test_one_peer_gets_no_more_streams_than_others() -> None:
    machine = sharing(50)
    for number in range(2000):
        key = announce_key(cid_of(number % 50).multihash)
        machine.receive_update(SubscriptionId(number), STRANGERS[0], first(0, key), OURS, 0.0)
    assert machine.streams == STREAMS_PER_PEER_MAX


def test_updates_without_end_leave_one_bitmap() -> None:
    side = Side(ranges(LEAVES, (0, 5)))
    side.ask(1, 0)
    updates = [
        RangesUpdate(leaves=LEAVES, runs=tuple((n + 7 * i, n + 7 * i + 1) for i in range(100))) for n in range(50)
    ]

    def attack() -> None:
        for number in range(300):
            side.now += 0.02
            side.receive(1, 0, Update(ranges=updates[number % 50], resend=number % 2 == 0))
            side.tick()

    flood("of updates", 1, 300, attack, bound=MIB)


def test_members_without_end_are_an_offence_after_twenty() -> None:
    side = Side(ranges(LEAVES), joined=True)
    side.machine._open_record = opened
    side.subscribe(1, 0)
    side.effects()
    told = 0

    def attack() -> None:
        nonlocal told
        for number in count():
            member = Member(peer=STRANGERS[number], record=bytes(STRANGERS[number]), ranges=bitmap())
            side.now += 0.1
            side.receive(1, 0, Update(member=member))
            side.effects()
            told += 1

    def until_refused() -> None:
        with pytest.raises(RemoteProtocolError, match="members"):
            attack()

    flood(
        "of members of a swarm",
        IDENTITIES,
        MEMBERS_MAX,
        until_refused,
        bound=side.machine.bytes_kept(stream(1)) + NOTHING,
    )
    assert told == MEMBERS_MAX


def test_A06_a_record_that_another_has_signed_is_an_offence() -> None:
    for update in (
        Update(key=KEY, record=RECORDS[1]),
        Update(key=KEY, record=RECORDS[0][:-1] + bytes([RECORDS[0][-1] ^ 1])),
    ):
        side = Side(ranges(10))
        with pytest.raises(RemoteProtocolError):
            side.receive(1, 0, update)
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    with pytest.raises(RemoteProtocolError):
        side.receive(1, 0, Update(member=Member(peer=PEERS[1], record=RECORDS[2])))


def test_A12_updates_without_content_are_harmless() -> None:
    side = Side(ranges(10), joined=True)
    side.subscribe(1, 0)
    side.receive(1, 0, Update())
    side.receive(1, 0, Update(ranges=RangesUpdate(leaves=10)))
    side.receive(1, 0, Update(member=Member(peer=PEERS[1])))
    side.receive(2, 1, Update(key=announce_key(ROOT.multihash)))
    assert side.machine.streams == 2


@pytest.mark.parametrize(
    "data",
    [
        *(bytes([number << 3 | 2, 0]) * (MESSAGE_BYTES_MAX // 2) for number in range(1, 8)),
        b"\x0b" * MESSAGE_BYTES_MAX,
        b"\x0b\x0c" * (MESSAGE_BYTES_MAX // 2),
        b"\x0a" + b"\x80" * 8 + b"\x80\x01",
    ],
)
def test_A34_a_hostile_message_takes_little_time_and_memory(data: bytes) -> None:
    def read() -> None:
        try:
            decode_update(data)
        except RemoteProtocolError:
            return

    assert quickest(read) < 0.1
    flood("of hostile fields in providers", 1, 1, read, bound=NOTHING)


LARGE = 300_000
"""Leaves."""
ALL = tuple((0, LARGE) for _ in range(RUNS_MAX))
SCATTERED = tuple((97 * n, 97 * n + 1) for n in range(RUNS_MAX))


@pytest.mark.parametrize(
    "claims",
    [
        [RangesUpdate(leaves=LARGE, runs=ALL)],
        [RangesUpdate(leaves=LARGE, runs=SCATTERED)],
        [RangesUpdate(leaves=LARGE, bitmap=bytes([half]) * (LARGE // 8)) for half in (0x55, 0xAA)],
    ],
    ids=["all again and again", "scattered", "every second, and every other second"],
)
def test_attack_5_what_a_peer_says_it_has_of_a_large_file_is_read_in_a_turn(claims: list[RangesUpdate]) -> None:
    """The runs in each of two bitmaps took a second to find, and 10 MB to remember."""
    side = Side(ranges(LARGE, (0, LARGE)))
    side.ask(1, 0)
    side.updates()
    messages = cycle([encode_update(Update(ranges=claim)) for claim in claims])

    def receive() -> None:
        side.now += 0.1
        side.receive(1, 0, decode_update(next(messages)))

    assert quickest(receive) < 0.01
    flood("of claims about a large file", 1, 20, lambda: [receive() for _ in range(20)], bound=MIB)


def test_attack_5_many_who_say_nothing_cost_nothing_and_news_is_told_in_turns() -> None:
    """2,000 streams on which nothing happened took 90 ms in every 100."""
    machine = sharing(32)
    for number in range(32 * STREAMS_PER_ROOT_MAX):
        root, asker = divmod(number, STREAMS_PER_ROOT_MAX)
        update = Update(key=announce_key(cid_of(root).multihash), record=bytes(STRANGERS[asker]))
        machine.receive_update(SubscriptionId(number), STRANGERS[asker], update, OURS, 0.0)
    now = 0.0

    def tick() -> int:
        """All that are due; how many updates one call gave at most."""
        nonlocal now
        now += 1.0
        most = 0
        due = True
        while due:
            machine.handle_timeout(now)
            told = 0
            while (effect := machine.next_effect()) is not None:
                assert isinstance(effect, SendUpdates)
                machine.sent(effect.id)
                told += len(effect.updates)
            most = max(most, told)
            deadline = machine.next_timeout()
            assert deadline is not None
            due = deadline <= now
        return most

    while tick():
        pass
    assert quickest(tick) < 0.01
    for root in range(32):  # each of all has something to tell to the others
        machine.receive_update(
            SubscriptionId(root * STREAMS_PER_ROOT_MAX), STRANGERS[0], Update(ranges=bitmap()), OURS, now
        )
    assert 0 < tick() <= 2 * STREAMS_PER_ROOT_MAX
    assert tick() == 0
