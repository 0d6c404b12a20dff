"""When what reads gives up, though nobody has told it how long to wait."""

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from anyio import create_task_group, fail_after, sleep

from stack import Node
from stack.bitswap.interfaces import Provider
from stack.blocks.memory import MemoryStore
from stack.dag import links
from stack.dag.unixfs.options import profile
from stack.errors import NoProvider, Stalled
from stack.files import watch
from stack.files.add import Adder
from stack.files.car_io import export_car
from stack.files.dag import fetch_dag
from stack.files.read import list_entries
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node import patience
from stack.node.api import WatchWaiting
from stack.node.handlers import reading
from stack.node.patience import PatientSession
from stack.streams.supervision import supervised
from tests.files.test_dag import leaf, node

pytestmark = pytest.mark.anyio

FIRST, REST = Cid.of(b"first"), Cid.of(b"the rest")


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "has it no more"])
async def test_what_reads_ends_when_nobody_is_left_who_has_the_rest(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """`stack cat` hung without a word when its only peer had gone, or a file had changed there (finding 2, its other half)."""

    async def ends() -> None:
        monkeypatch.setattr(patience, "FIRST_PROVIDER_SECONDS", 0.5)
        named = "" if gone else f" (missing: {REST})"
        with pytest.raises(Stalled, match=f"nobody is left who has the rest{re.escape(named)}$"):
            await session.get(REST)

    with fail_after(40):
        async with Node.open() as reader, reader.patient_session(FIRST) as session:
            async with Node.open() as sharer:
                await sharer.put([(FIRST, b"first")])
                session.add_provider(Provider(sharer.peer_id, tuple(sharer.host.addresses()), "user"))
                assert await session.get(FIRST) == b"first"
                if not gone:
                    await ends()
            if gone:
                await ends()


async def test_why_what_is_read_does_not_come_is_told_while_it_does_not_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`stack cat TICKET` of a share that had ended waited for 30 seconds without a word, and then did not say why either."""
    monkeypatch.setattr(watch, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(reading, "QUIET_SECONDS", 0.05)
    async with Node.open() as sharer:
        gone = Provider(sharer.peer_id, tuple(sharer.host.addresses()), "user")
    async with Node.open() as reader:

        async def read() -> None:
            with pytest.raises(NoProvider, match=r"1 peer tried, \S+: connection refused"):
                async with reader.patient_session(FIRST, [gone]) as session:
                    await session.get(FIRST)

        with fail_after(20):
            async with create_task_group() as tasks, reader.watch(WatchWaiting(source=FIRST.text)) as waits:
                tasks.start_soon(read)
                async for told in waits:
                    if told.reason:
                        break
                monkeypatch.setattr(patience, "FIRST_PROVIDER_SECONDS", 0.0)
        assert (told.peer, told.tried, told.reason) == (gone.peer, 1, "connection refused")
        assert not reader.reading


async def exported(session: PatientSession, root: Cid) -> None:
    async for _ in export_car(session, session.store, root):
        pass


async def fetched(session: PatientSession, root: Cid) -> None:
    await fetch_dag(session, session.store, root)


@pytest.mark.parametrize("timeout", [None, 2.0], ids=["for as long as it takes", "for two seconds"])
@pytest.mark.parametrize("read", [exported, fetched])
async def test_what_nobody_has_is_named_while_it_is_waited_for_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[PatientSession, Cid], Awaitable[None]], timeout: float | None
) -> None:
    """`stack car export` waited for a block that was lost, and did not say for which."""
    monkeypatch.setattr(patience, "FIRST_PROVIDER_SECONDS", 2.0)
    leaves = [leaf(number) for number in range(3)]
    (root, data), lost = node(*[cid for cid, _ in leaves]), leaves[1][0]
    async with Node.open() as sharer, Node.open() as reader:
        await sharer.put([(root, data), leaves[0], leaves[2]])
        who = Provider(sharer.peer_id, tuple(sharer.host.addresses()), "user")
        async with reader.patient_session(root, [who], timeout) as session:
            why = []

            async def look() -> None:
                while True:
                    if session.waits is not None:
                        why.append(session.waits.reason)
                    await sleep(0.1)

            with fail_after(30):
                async with supervised() as tasks:
                    tasks.start(look, owner="a test")
                    with pytest.raises(Stalled) as ended:
                        await read(session, root)
    named = f"(missing: {lost})"
    assert why[-1] == f"connected, but it has not got all of it {named}"
    assert str(ended.value).count(named) == 1


async def test_an_entry_is_not_unknown_while_whoever_has_it_is_being_dialled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`stack ls` showed no size of what nobody had who was connected, and did not wait for who was just being dialled."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "film").write_bytes(bytes(3_000_000))
    made = MemoryStore()
    root = (await Adder(made, profile(), copy=True).add([tmp_path / "tree"])).cid
    (film,) = links(root, await made.get(root))
    everything = [(cid, await made.get(cid)) async for cid in made.cids()]
    async with Node.open() as reader, Node.open() as poor, Node.open() as rich:
        await poor.put([(cid, data) for cid, data in everything if cid.multihash != film.multihash])
        await rich.put(everything)
        connect = reader.host.connect

        async def slowly(peer: PeerId, addresses: Sequence[Multiaddr] = ()) -> object:
            if peer == rich.peer_id:
                await sleep(3.0)
            return await connect(peer, addresses)

        monkeypatch.setattr(reader.host, "connect", slowly)
        known = [Provider(each.peer_id, tuple(each.host.addresses()), "user") for each in (poor, rich)]
        async with reader.patient_session(root, known) as session:
            with fail_after(30):
                listed = [entry async for entry in list_entries(session, session.store, root)]
    assert [(entry.name, entry.size) for entry in listed] == [("film", 3_000_000)]
