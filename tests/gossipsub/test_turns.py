"""However much a peer puts into its RPCs, others have their turns (attack 5's kind), and what says nothing ends (attack 7's)."""

import time

import anyio
import anyio.lowlevel
import pytest

from stack.gossipsub.decoding import FIELDS_QUICK, decode_quickly, decode_rpc
from stack.gossipsub.events import Validate, Verdict
from stack.gossipsub.messages import Control, IHave, Message, Prune, Rpc, encode_rpc
from stack.gossipsub.pieces import ENTRIES_MAX, pieces
from stack.gossipsub.shell import judge as judge_module
from stack.gossipsub.shell import link as link_module
from stack.gossipsub.signing import UNSIGNED
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.sansio.delimited import encode_delimited
from stack.streams.supervision import supervised
from tests.gossipsub.lab import Lab, peer_id
from tests.gossipsub.test_service import JOIN, TOPIC, ended, node_and_raw, send
from tests.net.hosts import settled
from tests.turns import turns_measured

MANY = 4000
DENSE = {
    "messages": Rpc(publish=tuple(Message(TOPIC, b"%d" % n) for n in range(10_000))),
    "subscriptions": Rpc(subscriptions=tuple((True, f"topic {n}") for n in range(MANY))),
    "GRAFTs": Rpc(control=Control(graft=tuple(f"topic {n}" for n in range(MANY)))),
    "PRUNEs": Rpc(control=Control(prune=tuple(Prune(f"topic {n}", (), 60) for n in range(MANY)))),
    "IWANT": Rpc(control=Control(iwant=tuple(b"%d" % n for n in range(MANY)))),
    "IHAVE": Rpc(control=Control(ihave=(IHave(TOPIC, tuple(b"%d" % n for n in range(MANY))),))),
    "small ones": JOIN,
}


def joined(rpcs: list[Rpc]) -> Rpc:
    """All of them as one."""
    controls = [rpc.control for rpc in rpcs if rpc.control is not None]
    return Rpc(
        subscriptions=tuple(each for rpc in rpcs for each in rpc.subscriptions),
        publish=tuple(each for rpc in rpcs for each in rpc.publish),
        control=Control(
            ihave=tuple(each for control in controls for each in control.ihave),
            iwant=tuple(each for control in controls for each in control.iwant),
            graft=tuple(each for control in controls for each in control.graft),
            prune=tuple(each for control in controls for each in control.prune),
            idontwant=tuple(each for control in controls for each in control.idontwant),
        )
        if controls
        else None,
        skipped_bytes=sum(rpc.skipped_bytes for rpc in rpcs),
    )


@pytest.mark.parametrize("kind", DENSE)
def test_the_pieces_of_an_rpc_are_small_and_all_of_it(kind: str) -> None:
    rpc = DENSE[kind]
    parts = list(pieces(rpc))
    assert joined(parts) == rpc
    for part in parts:
        control = part.control or Control()
        entries = (part.subscriptions, part.publish, control.iwant, control.graft, control.prune)
        assert sum(map(len, entries)) <= ENTRIES_MAX


def test_a_large_rpc_of_everything_is_the_same_in_pieces() -> None:
    control = Control(
        ihave=(IHave(TOPIC, (b"a",)),),
        iwant=tuple(b"%d" % n for n in range(70)),
        graft=(TOPIC, "other"),
        prune=(Prune(TOPIC),),
        idontwant=(b"b",),
    )
    rpc = Rpc(subscriptions=((True, TOPIC),), publish=(Message(TOPIC, b"x"),), control=control, skipped_bytes=9)
    assert joined(list(pieces(rpc))) == rpc
    one, other = Lab(), Lab()
    for lab in (one, other):
        lab.connect(1)
    for part in pieces(rpc):
        one.machine.receive_rpc(peer_id(1), part, 1.0)
    other.machine.receive_rpc(peer_id(1), rpc, 1.0)
    assert one.machine.mesh(TOPIC) == other.machine.mesh(TOPIC)
    assert one.machine.topics_of(peer_id(1)) == other.machine.topics_of(peer_id(1)) == (TOPIC,)


def test_what_is_much_work_to_read_is_not_read_quickly() -> None:
    assert decode_quickly(encode_rpc(JOIN)) == JOIN
    few = Rpc(subscriptions=tuple((True, f"{n}") for n in range(FIELDS_QUICK // 3)))
    assert decode_quickly(encode_rpc(few)) == few
    data = encode_rpc(DENSE["messages"])
    assert decode_quickly(data) is None and decode_rpc(data) == DENSE["messages"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", DENSE)
async def test_attack_5_others_have_their_turns_whatever_an_rpc_is_full_of(kind: str) -> None:
    data = encode_delimited(encode_rpc(DENSE[kind])) * (1 if kind != "small ones" else 15_000)
    async with node_and_raw() as (pubsub, raw), pubsub.subscribe(TOPIC):
        pubsub.set_rules(TOPIC, UNSIGNED)
        stream = await raw.open()
        await send(stream, JOIN)
        await settled(lambda: pubsub.peers(TOPIC) == (raw.host.peer_id,))
        last = Rpc(subscriptions=((False, TOPIC),))
        async with turns_measured(kind, 0.04):
            await stream.send(data)
            await send(stream, last)
            with anyio.fail_after(20):
                while raw.host.peer_id in pubsub.peers(TOPIC):
                    await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "rpc",
    [b"", encode_rpc(JOIN), encode_rpc(Rpc(control=Control(graft=("unknown",)))), b"\x52\x00"],
    ids=["empty", "joined again and again", "GRAFT", "unknown fields"],
)
async def test_attack_7_rpcs_without_end_that_say_nothing_lose_their_stream(
    rpc: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CHEAP_BURST", 500)
    monkeypatch.setattr(link_module, "CHEAP_RATE", 1.0)
    async with node_and_raw() as (_, raw):
        stream = await raw.open()
        await stream.send(encode_delimited(rpc) * 400)
        await send(stream, Rpc(subscriptions=((True, "still"),)))
        await stream.send(encode_delimited(rpc) * 400)
        await ended(stream)


@pytest.mark.anyio
async def test_verdicts_are_told_in_turns_and_a_fault_in_verifying_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The messages behind one that could not be verified waited for ever, and all readers with them."""
    verdicts: list[tuple[int, Verdict]] = []
    calls: list[int] = []

    def authentic(message: Message) -> bool:
        if message.data == b"bad":
            raise ValueError("nobody has thought of this")
        return True

    def slow(peer: PeerId, message: Message) -> Verdict:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        return Verdict.ACCEPT

    monkeypatch.setattr(judge_module, "is_authentic", authentic)
    peer = PeerId.of(generate().public)
    async with supervised() as tasks:

        def told(some: object) -> None:
            calls.append(len(some))  # type: ignore[arg-type]
            verdicts.extend(some)  # type: ignore[arg-type]

        judge = judge_module.Judge(tasks, told)
        judge.set_validator(TOPIC, slow)
        for token in range(30):
            judge.submit(Validate(token, peer, Message(TOPIC, b"bad" if token == 3 else b"good"), True))
        with anyio.fail_after(10):
            while len(verdicts) < 30:
                await anyio.lowlevel.checkpoint()
        judge.close()
    assert [token for token, _ in verdicts] == list(range(30))
    assert [token for token, verdict in verdicts if verdict is not Verdict.ACCEPT] == [3]
    assert max(calls) <= 3
