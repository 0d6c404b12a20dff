"""Floods from many identities behind few addresses: what the router holds afterwards is printed and bounded."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import pytest

from stack.errors import RemoteProtocolError
from stack.gossipsub.decoding import decode_rpc
from stack.gossipsub.events import Connect, Deliver, Validate, Verdict
from stack.gossipsub.messages import PROTOCOL_1_2, Control, IHave, Message, PeerInfo, Prune, Rpc
from stack.gossipsub.params import GossipsubParams, PeerScoreParams, PeerScoreThresholds
from stack.gossipsub.signing import UNSIGNED, Author, is_authentic
from stack.identity import keys
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from tests.flooding import KIB, MIB, flood
from tests.gossipsub.lab import SCORED, STRICT_SCORES, TOPIC, Lab, message, of_kind, peer_id
from tests.gossipsub.test_attacks import field, table_sizes

IDENTITIES = 500
PLACES = 8
"""Addresses behind which all of them are."""
MESSAGES = 2500
HONEST = 1500

NOTHING = 256 * KIB
"""For what leaves no trace: what tables and queues that were longer for a moment keep."""
COUNTED = GossipsubParams(
    score=replace(STRICT_SCORES, ip_colocation_factor_weight=0.0),
    thresholds=PeerScoreThresholds(gossip=-1e300, publish=-1e300, graylist=-1e300),
)
"""Scores that lead to nothing: every table is filled, and nobody is spared by being ignored."""


def lab_with_attackers(params: GossipsubParams = COUNTED, **options: Any) -> Lab:
    lab = Lab(params, trace=None, **options)
    for number in range(1, IDENTITIES + 1):
        lab.connect(number, group=f"/ip4/9.9.9.{number % PLACES}")
    lab.connect(HONEST)
    lab.effects.clear()
    return lab


def feed(lab: Lab, rpcs: Iterator[Rpc], count: int, *, beats: int = 10) -> None:
    """So many RPCs, from each attacker in turn, while so many heartbeats pass. Effects are taken and forgotten."""
    for at, rpc in enumerate(islice(rpcs, count)):
        lab.machine.receive_rpc(peer_id(at % IDENTITIES + 1), rpc, lab.now)
        while lab.machine.next_effect() is not None:
            pass
        if (at + 1) % (count // beats) == 0:
            lab.beat()
            lab.effects.clear()


def numbers() -> Iterator[int]:
    return iter(range(10**9))


def ids(number: int, count: int, size: int = 46) -> tuple[bytes, ...]:
    return tuple((b"%d %d" % (number, index)).ljust(size) for index in range(count))


FLOODS: dict[str, tuple[Callable[[int], Rpc], int, int]] = {
    "IHAVE": (lambda n: Rpc(control=Control(ihave=(IHave(TOPIC, ids(n, 100)),))), 1000, MIB),
    "IWANT": (lambda n: Rpc(control=Control(iwant=ids(n, 100))), 1000, NOTHING),
    "GRAFT": (lambda n: Rpc(control=Control(graft=(TOPIC, f"topic {n}"))), MESSAGES, MIB),
    "PRUNE": (lambda n: Rpc(control=Control(prune=(Prune(TOPIC, (), 2**63), Prune(f"topic {n}")))), MESSAGES, MIB),
    "IDONTWANT": (lambda n: Rpc(control=Control(idontwant=ids(n, 10, 256))), MESSAGES, 16 * MIB),
    "subscriptions": (
        lambda n: Rpc(subscriptions=tuple((True, f"{n} {index}".ljust(200)) for index in range(10))),
        5000,
        IDENTITIES * 100 * 600,
    ),
    "subscriptions that end": (
        lambda n: Rpc(subscriptions=tuple((joined, f"{n} {i}") for i in range(10) for joined in (True, False))),
        MESSAGES,
        NOTHING,
    ),
    "unsigned messages": (
        lambda n: Rpc(publish=(Message(TOPIC, b"%d" % n, bytes(peer_id(1)), b"%d" % n),)),
        MESSAGES,
        MIB,
    ),
    "messages without author": (lambda n: Rpc(publish=(Message(TOPIC, b"%d" % n),)), MESSAGES, MIB),
    "messages of other topics": (lambda n: Rpc(publish=(message(n, topic=f"topic {n}"),)), MESSAGES, NOTHING),
    "replayed messages": (lambda n: Rpc(publish=(message(n % 50),)), MESSAGES, MIB),
}
"""What the n-th RPC is, how many there are, and what may be left of them."""


@pytest.mark.parametrize("name", FLOODS)
def test_A40_what_a_flood_leaves_is_bounded(name: str) -> None:
    rpc, count, bound = FLOODS[name]
    lab = lab_with_attackers()
    flood(f"of {name}", IDENTITIES, count, lambda: feed(lab, map(rpc, numbers()), count), bound=bound)
    assert of_kind(lab.publish(HONEST, message(10**6, author=1234)), Deliver)
    lab.disconnect(*range(1, IDENTITIES + 1))
    lab.beat(5)
    sizes = table_sizes(lab)
    assert sizes["peers"] == 1 and sizes["topics"] == 1 and sizes["unwanted"] == 0 and sizes["promises"] == 0
    assert sizes["pending"] == 0 and sizes["fanout"] == 0


def test_many_identities_behind_few_addresses_are_not_listened_to_at_all() -> None:
    """P6: with the scores of a network, who shares an address with fifty others is below every threshold from the start."""
    lab = lab_with_attackers(SCORED)
    before = table_sizes(lab)
    for name, (rpc, _, _) in FLOODS.items():
        if "subscriptions" not in name:
            feed(lab, map(rpc, numbers()), IDENTITIES, beats=1)
    assert lab.mesh() == {HONEST}
    untouched = ("seen", "pending", "promises", "unwanted", "cache", "fanout", "topics", "topics of peers")
    sizes = table_sizes(lab)
    assert {name: sizes[name] for name in untouched} == {name: before[name] for name in untouched}
    assert of_kind(lab.publish(HONEST, message(10**6, author=1234)), Deliver)


def test_A40_forged_messages_leave_nothing() -> None:
    true = Author.of(keys.generate()).write(TOPIC, b"data", 1)
    lab = lab_with_attackers(verify=is_authentic)

    def forged(n: int) -> Rpc:
        return Rpc(publish=(Message(TOPIC, b"%d" % n, true.author, n.to_bytes(8, "big"), true.signature),))

    flood("of forged messages", IDENTITIES, 1000, lambda: feed(lab, map(forged, numbers()), 1000), bound=MIB)
    assert table_sizes(lab)["seen"] == 0
    assert of_kind(lab.publish(HONEST, true), Deliver)


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.IGNORE, Verdict.BAD_SIGNATURE, Verdict.THROTTLED, None])
def test_messages_that_are_judged_bad_or_never_leave_their_ids_at_most(verdict: Verdict | None) -> None:
    lab = lab_with_attackers(replace(COUNTED, pending_per_peer=4, seen_max=2000))
    lab.machine.require_validation(TOPIC)

    def attack() -> None:
        for number in range(2500):
            lab.machine.receive_rpc(
                peer_id(number % IDENTITIES + 1), Rpc(publish=(message(number, size=300),)), lab.now
            )
            while (effect := lab.machine.next_effect()) is not None:
                if isinstance(effect, Validate) and verdict is not None:
                    lab.machine.validation_result(effect.token, verdict, lab.now)

    flood(f"of messages judged {verdict.name if verdict else 'never'}", IDENTITIES, 2500, attack, bound=3 * MIB)
    sizes = table_sizes(lab)
    assert sizes["seen"] <= 2000 and sizes["pending"] <= 4 * IDENTITIES and sizes["cache"] == 0
    assert of_kind(lab.publish(HONEST, message(10**6)), Validate)


def malformed() -> Iterator[bytes]:
    good = field(1, b"\x08\x01" + field(2, b"topic")) + field(2, field(2, b"data") + field(4, TOPIC.encode()))
    yield from (good[:cut] for cut in range(1, len(good)) if cut != 11)
    yield from (b"\xff" * 50, b"\x0b" * 1000, b"\x0a\xff\xff\xff\xff\x0f", bytes(2 * MIB), field(3, b"\x0a\x05\x0a"))


def test_malformed_and_oversized_rpcs_leave_nothing() -> None:
    lab = lab_with_attackers()
    refused = 0

    def attack() -> None:
        nonlocal refused
        for at, data in enumerate(islice(cycle(malformed()), MESSAGES)):
            try:
                lab.machine.receive_rpc(peer_id(at % IDENTITIES + 1), decode_rpc(data), lab.now)
            except RemoteProtocolError:
                refused += 1

    flood("of malformed RPCs", IDENTITIES, MESSAGES, attack, bound=NOTHING)
    assert refused == MESSAGES


def test_tiny_messages_take_no_more_than_the_bytes_they_are_counted_with() -> None:
    params = replace(COUNTED, mcache_bytes=512 * KIB, seen_max=1000)
    lab = lab_with_attackers(params)
    lab.machine.set_rules(None, UNSIGNED)
    rpcs = (Rpc(publish=tuple(Message(TOPIC, b"%d %d" % (n, i)) for i in range(10))) for n in numbers())
    # Beside the cache: 1,000 ids that were seen, and for five heartbeats the ids of all.
    flood("of tiny messages", IDENTITIES, 10_000, lambda: feed(lab, rpcs, 1000, beats=1), bound=512 * KIB + MIB)
    assert 0 < table_sizes(lab)["cache"] <= 512 * KIB


def test_asking_for_everything_there_is_takes_a_bounded_part_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was given what, and how often, is remembered for each peer and message; there are many of both."""
    monkeypatch.setattr("stack.gossipsub.cache.GIVEN_MAX", 20_000)
    lab = lab_with_attackers()
    wanted = [message(number) for number in range(400)]
    lab.publish(HONEST, *wanted)
    every = tuple((m.author or b"") + (m.seqno or b"") for m in wanted)
    rpc = Rpc(control=Control(iwant=every))
    flood(
        "of IWANT for what there is",
        IDENTITIES,
        IDENTITIES,
        lambda: feed(lab, cycle([rpc]), IDENTITIES, beats=1),
        bound=3 * MIB,
    )
    again = lab.control(IDENTITIES, iwant=every[:1])
    assert len(again) == 1, "who is not remembered is given it all the same"
    lab.beat(6)
    assert lab.machine._cache.given == 0


def test_A06_A12_A15_peers_that_are_named_wrongly_or_not_at_all_are_not_dialled() -> None:
    signed = PeerRecord(PeerId.of((one := keys.generate()).public), 1, ()).seal(one)
    named = [b"", b"\x12\x20", b"\xff" * 34, b"\x00\x24" + bytes(36), bytes(peer_id(7))]
    lab = lab_with_attackers()
    lab.graft(1)
    infos = tuple(PeerInfo(name, signed) for name in named)
    effects = lab.control(1, prune=(Prune(TOPIC, infos), Prune(TOPIC, ()), Prune(TOPIC)))
    assert of_kind(effects, Connect) == []
    assert lab.rpc(1, Rpc()) == [] and lab.rpc(1, Rpc(control=Control())) == []


def test_identities_that_come_and_go_leave_a_bounded_number_of_scores() -> None:
    score = PeerScoreParams(retained_max=200, behaviour_penalty_threshold=0)
    lab = Lab(GossipsubParams(score=score, backoffs_max=200), trace=None)
    everyone = [peer_id(number) for number in range(1, 2000)]
    rpc = Rpc(subscriptions=((True, TOPIC),), control=Control(graft=(TOPIC,), prune=(Prune(TOPIC),)))

    def attack() -> None:
        for at, peer in enumerate(islice(cycle(everyone), 2500)):
            lab.machine.peer_connected(peer, PROTOCOL_1_2, False, f"/ip4/9.9.9.{at % PLACES}", lab.now, lab.budget)
            lab.machine.peer_record(peer, bytes(2000))
            lab.machine.receive_rpc(peer, rpc, lab.now)
            lab.machine.receive_rpc(peer, Rpc(publish=(message(at),)), lab.now)
            lab.machine.peer_disconnected(peer, lab.now)
            while lab.machine.next_effect() is not None:
                pass

    flood("of identities that come and go", len(everyone), 7500, attack, bound=4 * MIB)
    assert table_sizes(lab)["scores"] <= 200
