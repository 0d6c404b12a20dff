"""A peer, and a group of addresses, has a sixteenth of what may wait to be read."""

from contextlib import suppress

import anyio
import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.net.interfaces import Host
from stack.net.limits import NetLimits
from stack.net.scopes import PeerScopes
from stack.sansio.budget import Resource, Scope
from stack.streams.interfaces import Stream
from tests.net.hosts import connect, hosts, settled, used
from tests.net.identities import peer

MIB = 1024 * 1024


def test_a_group_is_one_however_many_peers_are_in_it_and_loopback_is_none() -> None:
    scopes = PeerScopes(Scope("whole", {Resource.BYTES: 64 * MIB}), {}, ())
    here, next_door = (Multiaddr.parse(f"/ip4/8.8.8.{last}/tcp/1") for last in (8, 9))
    assert scopes.of_group(here) == scopes.of_group(Multiaddr.parse("/ip4/8.8.8.8/tcp/2"))
    assert scopes.of_group(here) != scopes.of_group(next_door)
    assert scopes.of_group(Multiaddr.parse("/ip4/127.0.0.1/tcp/1")) == ()
    assert scopes.of(peer(1)).limit(Resource.UNREAD) == scopes.of_group(here)[0].limit(Resource.UNREAD) == 4 * MIB


def test_groups_that_hold_nothing_are_forgotten_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.net.scopes.IDLE_SCOPES_MAX", 3)
    scopes = PeerScopes(Scope("whole", {}), {}, ())
    [first] = scopes.of_group(Multiaddr.parse("/ip4/8.8.8.0/tcp/1"))
    held = first.reserve(Resource.BYTES, 1)
    for last in range(20):
        scopes.of_group(Multiaddr.parse(f"/ip4/8.8.8.{last}/tcp/1"))
    assert len(scopes._groups) <= 4
    assert scopes.of_group(Multiaddr.parse("/ip4/8.8.8.0/tcp/1")) == (first,)
    held.release()


@pytest.mark.anyio
async def test_finding_4_what_a_peer_sends_and_nobody_reads_is_a_sixteenth_of_the_whole_at_most() -> None:
    """By streams that nobody read one connection filled half of what all share."""
    whole = 16 * MIB
    limits = NetLimits(system={**NetLimits().system, Resource.BYTES: whole})
    async with hosts(3, limits=limits) as [target, attacker, honest]:
        heard_enough = anyio.Event()

        async def deaf(stream: Stream) -> None:
            await heard_enough.wait()

        target.handle("/deaf", deaf, streams=64)
        target.handle("/echo", _echo)
        await connect(attacker, target)
        await connect(honest, target)
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(_fill, attacker, target)
            scope = target.peer_budget(attacker.peer_id)
            await settled(lambda: scope.used(Resource.UNREAD) > whole // 16 - 300_000)
            stream = await honest.open_stream(target.peer_id, "/echo")
            for _ in range(5):
                await stream.send(bytes(100_000))
                assert len(await stream.receive()) > 0
            assert scope.used(Resource.UNREAD) <= whole // 16
            assert scope.used(Resource.BYTES) < whole // 8
            heard_enough.set()
            tasks.cancel_scope.cancel()
        await attacker.disconnect(target.peer_id)
        await settled(lambda: not used(scope))


async def _echo(stream: Stream) -> None:
    while True:
        await stream.send(await stream.receive())


async def _fill(attacker: Host, target: Host) -> None:
    with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
        stream = await attacker.open_stream(target.peer_id, "/deaf")
        await stream.send(bytes(250_000))
        await stream.receive()
