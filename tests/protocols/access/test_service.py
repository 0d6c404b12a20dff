"""Proofs of access between hosts: who is admitted, for how long, and who floods."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stack.blocks.interfaces import RealmId
from stack.identity.peer_id import PeerId
from stack.net.host import Host
from stack.protocols.access import service
from stack.protocols.access.exchange import NONCE_BYTES, PROTOCOL
from stack.protocols.access.keyring import Keyring
from stack.protocols.access.service import STREAMS_PER_PEER_MAX, AccessService
from tests.net.hosts import connect, hosts, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("any_line")]

SECRET, OTHER = b"s" * 16, b"o" * 16


class Side:
    def __init__(self, host: Host, *secrets: bytes) -> None:
        self.host = host
        self.keyring = Keyring(host.peer_id)
        for number, secret in enumerate(secrets, start=1):
            self.keyring.add(secret, RealmId(number), secret)
        self.access = AccessService(host, self.keyring)
        self.told: list[tuple[PeerId, frozenset[RealmId]]] = []
        self.access.listen(lambda peer, realms: self.told.append((peer, realms)))


@asynccontextmanager
async def sides(ours: tuple[bytes, ...], theirs: tuple[bytes, ...]) -> AsyncIterator[tuple[Side, Side]]:
    async with hosts(2, identify=False) as (one, two):
        await connect(one, two)
        yield Side(one, *ours), Side(two, *theirs)


async def test_who_know_the_same_secret_admit_each_other_until_the_connection_ends() -> None:
    async with sides((SECRET,), (OTHER, SECRET)) as (one, two):
        assert await one.access.prove(two.host.peer_id, SECRET)
        assert one.told == [(two.host.peer_id, {1})] and two.told == [(one.host.peer_id, {2})]
        assert two.access.admitted(one.host.peer_id) == {2}
        assert await one.access.prove(two.host.peer_id, SECRET)  # nothing new is said
        assert len(one.told) == len(two.told) == 1
        await one.host.disconnect(two.host.peer_id)
        await settled(lambda: not two.access.admitted(one.host.peer_id))
        await settled(lambda: not one.access.admitted(two.host.peer_id))


async def test_who_lost_its_connections_unseen_is_proved_to_again_on_the_next_one() -> None:
    """A sharer moved to another network and forgot whom it had admitted; the other one, who still had the old connection, never proved
    again, and a fetch stood still for good."""
    async with sides((SECRET,), (SECRET,)) as (one, two):
        assert await one.access.prove(two.host.peer_id, SECRET)
        two.access.peer_disconnected(one.host.peer_id)  # as where all connections have ended there, and none here
        assert not two.access.admitted(one.host.peer_id)
        await one.host._swarm.establish(two.host.peer_id, two.host.addresses()[0])
        await settled(lambda: two.access.admitted(one.host.peer_id) == {1})
        two.host.unhandle(PROTOCOL)
        await one.host._swarm.establish(two.host.peer_id, two.host.addresses()[0])  # no answer is no fault
        assert await one.access.prove(two.host.peer_id, SECRET)


async def test_what_was_proved_is_proved_anew_where_it_may_hold_no_more() -> None:
    async with sides((SECRET,), (SECRET,)) as (one, two):
        peer = two.host.peer_id
        assert await one.access.prove(peer, SECRET)
        two.host.unhandle(PROTOCOL)
        assert await one.access.prove(peer, SECRET, anew=True)  # no answer takes nothing back
        two.host.handle(PROTOCOL, two.access._serve, streams=STREAMS_PER_PEER_MAX)
        two.keyring.remove(RealmId(1), SECRET)
        assert await one.access.prove(peer, SECRET)
        assert not await one.access.prove(peer, SECRET, anew=True)
        assert not await one.access.prove(peer, SECRET)
        two.keyring.add(SECRET, RealmId(1), SECRET)
        assert await one.access.prove(peer, SECRET)


async def test_who_does_not_know_it_is_admitted_by_nobody_and_admits_nobody() -> None:
    async with sides((SECRET,), (OTHER,)) as (one, two):
        assert not await one.access.prove(two.host.peer_id, SECRET)
        assert one.told == two.told == []


async def test_who_does_not_speak_of_access_knows_nothing() -> None:
    async with sides((SECRET,), (SECRET,)) as (one, two):
        two.host.unhandle(PROTOCOL)
        assert not await one.access.prove(two.host.peer_id, SECRET)


async def test_who_says_nothing_holds_a_stream_for_seconds_and_not_more_than_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "SECONDS", 0.2)
    async with sides((), (SECRET,)) as (one, two):
        streams = [await one.host.open_stream(two.host.peer_id, PROTOCOL) for _ in range(STREAMS_PER_PEER_MAX)]
        for stream in streams:
            heard = b""
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)), anyio.fail_after(10):
                while True:
                    heard += await stream.receive()
            assert len(heard) in (0, NONCE_BYTES)


async def test_a_flood_of_proofs_is_answered_at_a_walk_and_nobody_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PROOFS_BURST", 2)
    monkeypatch.setattr(service, "PROOFS_PER_SECOND", 0.2)
    async with hosts(3, identify=False) as made:
        flooding, other, here = (Side(host, SECRET) for host in made)
        for side in (flooding, other):
            await connect(side.host, here.host)
        answered = 0
        with anyio.move_on_after(1):
            while not await flooding.access.prove(here.host.peer_id, OTHER):
                answered += 1
        assert answered == 2
        with anyio.fail_after(4):
            assert await other.access.prove(here.host.peer_id, SECRET)
