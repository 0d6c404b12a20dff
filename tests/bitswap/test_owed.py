"""A sign of life, and progress, is what was owed and can be kept; bounded by what is owed."""

from collections import defaultdict
from collections.abc import Callable
from random import Random

import anyio
import pytest

from stack.bitswap.effects import Ask, Connect
from stack.bitswap.messages import PROTOCOL_1_2
from stack.bitswap.session import SessionMachine
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_peer import SessionPeer
from stack.bitswap.session_want import SessionWant
from stack.bitswap.shell import wire
from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.identity.peer_id import PeerId
from stack.multiformats import varint
from stack.multiformats.cid import Cid
from tests.bitswap.exchanges import Raw, nodes, some_blocks
from tests.bitswap.simulation import KIB, MIB, cid_of, peer_named
from tests.bitswap.test_session import ALICE, BOB, CIDS, Fetch
from tests.net.hosts import settled

SIZE = 256 * KIB


def owing(*sizes: int) -> SessionPeer:
    peer = SessionPeer(peer_named("alice"), SessionParameters(), full=True)
    for number, size in enumerate(sizes):
        peer.ask(SessionWant(cid_of(number), number, 0.0), size, 0.0)
    return peer


# bytes


def test_no_more_counts_as_arriving_than_what_is_owed_can_be() -> None:
    peer = owing(SIZE)
    peer.progress(1.0, BLOCK_SIZE_MAX - 1000)
    peer.progress(2.0, 5000)
    assert (peer.arriving, peer.progress_at) == (BLOCK_SIZE_MAX, 2.0)
    peer.progress(3.0, 5000)
    assert (peer.arriving, peer.progress_at) == (BLOCK_SIZE_MAX, 2.0)


def test_of_much_that_is_owed_a_message_more_may_come_than_is_reckoned_with() -> None:
    peer = owing(*[SIZE] * 10)
    peer.progress(1.0, 100 * MIB)
    assert peer.arriving == 10 * SIZE + peer.parameters.surplus
    assert peer.parameters.surplus == 4 * MIB


def test_what_comes_of_who_owes_nothing_is_no_sign_of_life() -> None:
    peer = owing()
    peer.stalled = True
    peer.progress(1.0, 5000)
    assert (peer.arriving, peer.progress_at, peer.stalled) == (0, 0.0, True)


def test_what_was_begun_again_and_again_counts_no_more_than_once() -> None:
    peer = owing(SIZE)
    for second in range(1, 10):
        peer.progress(float(second), MIB // 2)
        peer.no_block(MIB // 2, broken=False)
    assert (peer.arriving, peer.progress_at) == (0, 4.0)


def test_each_block_that_is_kept_is_a_new_beginning() -> None:
    peer = owing(*[SIZE] * 10)
    for second in range(1, 10):
        want = next(iter(peer.outstanding))
        peer.progress(float(second), MIB)
        peer.count_block(MIB, peer.release(want), float(second))
        assert (peer.arriving, peer.progress_at) == (0, float(second))


def test_more_than_it_is_reckoned_to_owe_is_late_for_as_long_again() -> None:
    peer = owing(1000)
    want = next(iter(peer.outstanding))
    peer.progress(1.0, 1500)
    assert peer.time_left(want, 1.0) == 0.0
    for tenth in range(11, 40):
        peer.progress(tenth / 10, 10)
        assert peer.time_left(want, tenth / 10) == pytest.approx(tenth / 10 - 1.0)


def test_who_breaks_off_three_times_is_asked_for_little_and_others_take_over() -> None:
    fetch = Fetch(3, ALICE)
    fetch.drain()
    fetch.machine.peer_connected(BOB)
    for number in range(1, 4):
        fetch.now += 0.125
        assert not fetch.peer(ALICE).poor
        fetch.machine.receive_progress(ALICE, fetch.now, 16 * KIB)
        fetch.machine.receive_no_block(ALICE, 16 * KIB, broken=True)
        assert (fetch.peer(ALICE).broken, fetch.peer(ALICE).arriving) == (number, 0)
    fetch.machine.add_peer(BOB)
    assert fetch.peer(ALICE).poor
    assert sorted(fetch.wait(4.2)[BOB]) == [0, 1, 2]  # as of one who has said nothing
    fetch.block(ALICE, 0)
    assert not fetch.peer(ALICE).poor and fetch.peer(ALICE).broken == 0


def test_a_message_that_was_not_seen_to_come_breaks_nothing_off() -> None:
    peer = owing(SIZE)
    peer.no_block(1000, broken=True)
    assert peer.broken == 0


def test_a_line_that_breaks_is_counted_once_whichever_is_seen_first() -> None:
    for first in ("stream", "connection"):
        fetch = Fetch(1, ALICE)
        fetch.drain()
        fetch.machine.receive_progress(ALICE, fetch.now, 16 * KIB)
        if first == "stream":
            fetch.machine.receive_no_block(ALICE, 16 * KIB, broken=True)
        fetch.machine.peer_disconnected(ALICE, fetch.now)
        if first == "connection":
            fetch.machine.receive_no_block(ALICE, 16 * KIB, broken=True)
        assert fetch.machine.reports()[0].broken == 1
        assert fetch.peer(ALICE).rest <= SessionParameters().rest_sending


def test_what_has_come_and_broken_off_is_late_still() -> None:
    peer = owing(1000)
    want = next(iter(peer.outstanding))
    peer.progress(1.0, 1000)
    peer.no_block(1000, broken=True)
    peer.progress(2.0, 900)
    assert (peer.arriving, peer.time_left(want, 2.0)) == (900, 1.0)


def test_answers_bring_nothing_nearer() -> None:
    peer = owing(1000, 1000)
    first, second = peer.outstanding
    peer.answered(first, 3.0, have=False)
    assert (peer.progress_at, peer.time_left(second, 3.0)) == (3.0, 3.0)


def test_a_rate_of_a_few_small_blocks_tells_little() -> None:
    peer = owing()
    guess = peer.parameters.time_guess
    for size, seconds in ((64 * KIB - 1, guess), (64 * KIB, pytest.approx(0.1 + SIZE / (640 * KIB), rel=0.001))):
        peer = owing(SIZE)
        peer.count_block(size, 0.0 if peer.release(next(iter(peer.outstanding))) is not None else None, 0.1)
        assert peer.time_for(SIZE) == seconds


# presences


@pytest.mark.parametrize("have", [True, False], ids=["HAVE", "DONT_HAVE"])
def test_what_a_peer_has_said_before_is_no_sign_of_life(have: bool) -> None:
    fetch = Fetch(3, ALICE, window_first=2 * SIZE)
    fetch.drain()
    other = next(number for number in range(3) if number not in fetch.owed[ALICE])
    began = fetch.now
    for _ in range(20):
        fetch.now += 0.25
        fetch.machine.receive_presence(ALICE, CIDS[other].multihash, fetch.now, have=have)
    assert fetch.peer(ALICE).progress_at == began + 0.25
    fetch.machine.handle_timeout(fetch.now)
    assert fetch.machine.reports()[0].stalled


def test_who_says_have_and_dont_have_by_turns_shows_life_once() -> None:
    fetch = Fetch(3, ALICE, window_first=2 * SIZE)
    fetch.drain()
    other = next(number for number in range(3) if number not in fetch.owed[ALICE])
    began = fetch.now
    for turn in range(20):
        fetch.now += 0.25
        fetch.machine.receive_presence(ALICE, CIDS[other].multihash, fetch.now, have=turn % 2 == 0)
    assert fetch.peer(ALICE).progress_at == began + 0.25


def test_have_is_no_sign_of_life_of_who_is_to_send_it_and_dont_have_is_an_answer() -> None:
    fetch = Fetch(3, ALICE)
    fetch.drain()
    began = fetch.now
    fetch.now += 1.0
    fetch.have(ALICE, 0)
    assert fetch.peer(ALICE).progress_at == began
    fetch.refuse(ALICE, 1)
    assert fetch.peer(ALICE).progress_at == fetch.now


# liars beside one honest provider

Liar = Callable[[SessionMachine, PeerId, list[Cid], float, dict[str, float]], None]
RATE = 10e6
DELAY = 0.05
STEP = 0.02


def silent(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """Says nothing."""


def drip(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """Begins a block and goes on just fast enough not to be silent."""
    if now - book.setdefault("at", now) >= 0.5:
        book["at"] = now
        machine.receive_progress(peer, now, 16 * KIB)


def burst(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """Sends at once as much as it owes, drips, breaks off after 4 MiB and begins again."""
    if book.get("sent", 0.0) >= 4 * MIB:
        machine.receive_no_block(peer, int(book.pop("sent")), broken=True)
    elif "sent" not in book:
        book["sent"], book["at"] = MIB // 2, now
        machine.receive_progress(peer, now, MIB // 2)
    elif now - book["at"] >= 0.12:
        book["at"] = now
        book["sent"] += 16 * KIB
        machine.receive_progress(peer, now, 16 * KIB)


def have(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """HAVE, every 0.1 s, for what it is to send."""
    if now - book.get("at", -1.0) >= 0.1:
        book["at"] = now
        machine.receive_presence(peer, told[-1].multihash, now, have=True)


def dont_have(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """DONT_HAVE, every 0.1 s, for one of several that it is to send."""
    if len(told) > 1 and now - book.get("at", -1.0) >= 0.1:
        book["at"] = now
        machine.receive_presence(peer, told[0].multihash, now, have=False)


def deny_by_and_by(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """DONT_HAVE, every 0.15 s, for another one of what it is to send."""
    if now - book.get("at", -1.0) >= 0.15:
        book["at"] = now
        machine.receive_presence(peer, told.pop(0).multihash, now, have=False)


def promise(machine: SessionMachine, peer: PeerId, told: list[Cid], now: float, book: dict[str, float]) -> None:
    """Has always almost sent what it owes: breaks off just before that, and begins again."""
    if book.get("sent", 0.0) >= 600 * KIB:
        machine.receive_no_block(peer, int(book.pop("sent")), broken=True)
    elif "sent" not in book:
        book["sent"], book["at"] = 496 * KIB, now
        machine.receive_progress(peer, now, 496 * KIB)
    elif now - book["at"] >= 0.12:
        book["at"] = now
        book["sent"] += 16 * KIB
        machine.receive_progress(peer, now, 16 * KIB)


KINDS = (silent, drip, burst, have, dont_have)


def seconds(liar: Liar, liars: int, blocks: int, size: int) -> float:
    """How long a root and the blocks below it take from one honest provider that is named after so many liars."""
    machine = SessionMachine(Random(1))
    honest, others = peer_named("honest"), [peer_named(f"liar {number}") for number in range(liars)]
    for peer in (*others, honest):
        machine.add_peer(peer)
    cids = [cid_of(number) for number in range(blocks)]
    waves = [cids[1:], cids[:1]]
    machine.want(waves.pop())
    told: dict[PeerId, list[Cid]] = defaultdict(list)
    books: dict[PeerId, dict[str, float]] = defaultdict(dict)
    dials: list[tuple[float, PeerId]] = []
    line: list[tuple[float, Cid]] = []
    free = now = 0.0
    while now < 600.0:
        while (effect := machine.next_effect(now)) is not None:
            if isinstance(effect, Connect):
                dials.append((now + DELAY, effect.peer))
            elif isinstance(effect, Ask):
                told[effect.peer] += effect.cids
                for cid in effect.cids if effect.peer == honest else ():
                    free = max(free, now + DELAY) + size / RATE
                    line.append((free, cid))
        for dial in [dial for dial in dials if dial[0] <= now]:
            dials.remove(dial)
            machine.peer_connected(dial[1])
        while line and line[0][0] <= now:
            machine.receive_block(honest, line.pop(0)[1].multihash, size, now)
        for peer in others:
            if told[peer]:
                liar(machine, peer, told[peer], now, books[peer])
        deadline = machine.next_timeout()
        if deadline is not None and now >= deadline:
            machine.handle_timeout(now)
        if not machine.wanted:
            if not waves:
                return now
            machine.want(waves.pop())
        now += STEP
    return now


@pytest.mark.parametrize("liars", [1, 3, 12])
@pytest.mark.parametrize("liar", KINDS, ids=lambda liar: liar.__name__)
def test_attack_9_liars_beside_one_honest_provider_cost_at_most_half_of_the_time(liar: Liar, liars: int) -> None:
    without = seconds(silent, 0, 160, SIZE)
    assert 4.0 < without < 5.0
    assert seconds(liar, liars, 160, SIZE) <= 1.5 * without


@pytest.mark.parametrize("liars", [1, 3, 12])
@pytest.mark.parametrize("liar", KINDS, ids=lambda liar: liar.__name__)
def test_attack_9_liars_hold_a_small_file_up_for_no_more_than_a_few_seconds(liar: Liar, liars: int) -> None:
    assert seconds(liar, liars, 2, 4096) <= 2.0


@pytest.mark.parametrize("liars", [1, 3, 12])
@pytest.mark.parametrize("liar", [deny_by_and_by, promise], ids=lambda liar: liar.__name__)
def test_attack_9_what_liars_answer_and_promise_brings_nothing_nearer(liar: Liar, liars: int) -> None:
    for blocks, size in ((160, SIZE), (600, 4096)):
        assert seconds(liar, liars, blocks, size) <= seconds(silent, 0, blocks, size) + 3.0


# over real streams


def announced(field: bytes, size: int) -> bytes:
    """The beginning of a message with one field of so many bytes, and its length."""
    header = field + varint.encode(size)
    return varint.encode(len(header) + size) + header


@pytest.mark.anyio
async def test_only_bytes_of_blocks_count_and_what_breaks_off_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of 4 MB of which nothing is a block kept a fetch alive, and `--timeout` from coming, for as long as it dripped."""
    root = some_blocks(1, 3000)[0][0]
    async with nodes([], []) as [here, liar]:
        raw = Raw(liar.host)
        async with (
            here.exchange.session(root, providers=[liar.provider]) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(session.get, root)
            await raw.received(1)

            def arriving() -> int:
                return session.reports()[0].arriving

            stream = await liar.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
            await stream.send(announced(b"\x7a", 4_000_000) + bytes(MIB))
            await settled(lambda: here.exchange._receiver.used > 0)
            stall_at = session.machine._peers.get(liar.host.peer_id).progress_at  # type: ignore[union-attr]
            other = await liar.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
            await other.send(announced(b"\x1a", MIB) + bytes(100 * KIB))
            await settled(lambda: arriving() > 0)
            assert 100 * KIB - wire.PROGRESS_BYTES < arriving() <= 100 * KIB
            assert session.machine._peers.get(liar.host.peer_id).progress_at > stall_at  # type: ignore[union-attr]
            other.reset()
            await settled(lambda: arriving() == 0)
            assert session.reports()[0].broken == 1
            await stream.send(bytes(4_000_000 - MIB))
            await settled(lambda: session.reports()[0].dropped is not None)
            assert session.reports()[0].dropped == "sends messages without a block"
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_what_one_session_was_sent_is_not_arriving_in_another() -> None:
    blocks = some_blocks(2, 200_000)
    async with nodes([], []) as [here, there]:
        raw = Raw(there.host)
        async with (
            here.exchange.session(blocks[0][0], providers=[there.provider]) as first,
            here.exchange.session(blocks[1][0], providers=[there.provider]) as second,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(first.get, blocks[0][0])
            tasks.start_soon(second.get, blocks[1][0])
            await settled(lambda: {want.cid for m in raw.messages for want in m.wants} == {cid for cid, _ in blocks})
            stream = await there.host.open_stream(here.host.peer_id, PROTOCOL_1_2)
            block = blocks[0][1]
            inner = b"\x0a\x04\x01\x55\x12\x20\x12" + varint.encode(len(block))
            data = announced(b"\x1a", len(inner) + len(block)) + inner + block
            await stream.send(data[:100_000])
            await settled(lambda: second.reports()[0].arriving > 0)
            await stream.send(data[100_000:])
            await settled(lambda: first.reports()[0].bytes == len(block))
            assert (first.reports()[0].arriving, first.reports()[0].broken) == (0, 0)
            assert (second.reports()[0].arriving, second.reports()[0].broken) == (0, 0)
            tasks.cancel_scope.cancel()
