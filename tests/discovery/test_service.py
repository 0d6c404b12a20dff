"""Finding peers as a whole: hosts on a memory network, mDNS by a word in the ear."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest

from stack.discovery import service as module
from stack.discovery.mdns.links import Link
from stack.discovery.mdns.machine import PeerFound
from stack.discovery.saved import SavedPeer, SavedPeers, decode_saved
from stack.discovery.service import Discovery, DiscoverySettings
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.net.limits import NetLimits
from tests.net.hosts import Clock, Seen, connect, hosts, settled
from tests.net.identities import peer
from tests.turns import turns_measured

pytestmark = pytest.mark.anyio
LINK = Link(1, "cable", 4, ())


class Silent:
    """In place of mDNS: speaks on no network, finds whom the test says."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.found = arguments[2]
        self.looked = 0
        self.packets = 0

    def facts(self) -> list[object]:
        return []

    def look_again(self) -> None:
        self.looked += 1

    async def run(self) -> None:
        raise RuntimeError("a fault that stays here")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MdnsService", Silent)


def here(host: Host, *, named: bool = True) -> Multiaddr:
    """Where it listens."""
    (address,) = host.addresses()
    return address.with_peer(str(host.peer_id)) if named else address


def facts(discovery: Discovery, what: str) -> list[tuple[bool | None, str]]:
    return [(fact.ok, fact.detail) for fact in discovery.facts() if fact.what == what]


def now_clock() -> Clock:
    clock = Clock()
    clock.wall = time.time()
    return clock


async def test_a_bootstrap_peer_is_dialled_protected_and_kept() -> None:
    async with hosts(2) as (one, two):
        settings = DiscoverySettings(bootstrap=[here(two)])
        async with Discovery.open(one, settings) as discovery:
            assert facts(discovery, "bootstrap")[0][0] is None
            with anyio.fail_after(10):
                await discovery.settled(10)
            assert facts(discovery, "bootstrap") == [(True, f"connected to {two.peer_id}")]
            assert two.peer_id in one._tags
            assert "1 bootstrap" in repr(discovery)


async def test_a_bootstrap_peer_that_goes_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOTSTRAP_FIRST_SECONDS", 0.01)
    async with hosts(2) as (one, two):
        kept = module._Kept(here(two), backoff=0.01)
        async with Discovery.open(one, DiscoverySettings()) as discovery:
            seen = Seen()
            one.listen_to_peers(seen)
            discovery._kept = [kept]
            discovery._tasks.keep(discovery._keep, kept, owner="a bootstrap peer")
            for times in range(1, 4):
                await settled(lambda times=times: seen.events.count(("connected", two.peer_id)) >= times)
                await settled(lambda: two.is_connected(one.peer_id))
                await two.disconnect(one.peer_id)


async def test_a_bootstrap_peer_that_cannot_be_reached_is_a_fact_and_the_node_lives() -> None:
    async with hosts(1) as (one,):
        wrong = [Multiaddr.parse(f"/memory/999/p2p/{peer(7)}"), Multiaddr.parse("/dnsaddr/example.com")]
        async with Discovery.open(one, DiscoverySettings(bootstrap=wrong)) as discovery:
            await discovery.settled(5)
            (first, second) = facts(discovery, "bootstrap")
            assert first[0] is False
            assert "nobody listens there" in first[1]
            assert "dnsaddr" in second[1]


async def test_a_change_of_the_network_ends_the_wait_for_a_bootstrap_peer() -> None:
    async with hosts(2) as (one, two):
        await one.upkeep()
        at = here(two)
        (number,) = (int(at.get("memory") or 0),)
        await two._swarm._listeners[0].aclose()
        async with Discovery.open(one, DiscoverySettings(bootstrap=[at])) as discovery:
            await discovery.settled(5)
            assert facts(discovery, "bootstrap")[0][0] is False
            await two.listen(Multiaddr.parse(f"/memory/{number}"))
            one._dialer.network_changed()
            one._changed()
            await settled(lambda: one.is_connected(two.peer_id))
            assert discovery._mdns.looked  # type: ignore[attr-defined] # Silent's


async def test_neighbours_are_dialled_and_told() -> None:
    async with hosts(2) as (one, two), Discovery.open(one, DiscoverySettings(mdns=True)) as discovery:
        at = here(two, named=False)
        discovery._heard(PeerFound(two.peer_id, (at,), LINK))
        await settled(lambda: one.is_connected(two.peer_id))
        monkey = Multiaddr.parse("/memory/999")
        discovery._heard(PeerFound(peer(9), (monkey,), LINK))
        assert facts(discovery, "mdns") == [(False, "no interface that is up knows multicast")]
        discovery._mdns.facts = lambda: [module_fact(None), module_fact("no room")]  # type: ignore[method-assign]
        assert (True, "connected") in facts(discovery, "neighbour")
        await settled(lambda: (None, f"not connected, tells {monkey}") in facts(discovery, "neighbour"))
        assert facts(discovery, "mdns")[:2] == [(True, "asks and answers"), (False, "no room")]
        await one.disconnect(two.peer_id)
        await settled(lambda: not one.is_connected(two.peer_id))
        await discovery.settled(0.01)


def module_fact(error: str | None) -> object:
    from stack.discovery.mdns.service import LinkFact

    return LinkFact(LINK, error)


async def test_without_anything_there_is_nothing_to_tell() -> None:
    async with hosts(1) as (one,):
        async with Discovery.open(one, DiscoverySettings()) as discovery:
            await discovery.settled(1)
            assert [fact.detail for fact in discovery.facts()] == ["switched off"]
        one._changed()


async def test_an_error_of_the_caller_is_raised_as_it_is() -> None:
    async with hosts(1) as (one,):
        with pytest.raises(ValueError, match="mine"):
            async with Discovery.open(one, DiscoverySettings()):
                raise ValueError("mine")


@asynccontextmanager
async def remembering(host: Host, file: list[bytes], saved: bytes | None = None) -> AsyncIterator[Discovery]:
    async with Discovery.open(host, DiscoverySettings(saved=saved, save=file.append)) as discovery:
        yield discovery


async def test_peers_are_remembered_over_a_restart_and_dialled() -> None:
    file: list[bytes] = []
    async with hosts(2, clock=now_clock()) as (one, two):
        async with remembering(one, file) as discovery:
            await connect(one, two)
            assert facts(discovery, "saved peers") == [(None, "0 remembered, 0 dialled at the start, 0 answered")]
        (row,) = decode_saved(file[-1]).recent(time.time())
        assert (row.peer, row.addresses, row.dialled) == (two.peer_id, (here(two, named=False),), True)
        await one.disconnect(two.peer_id)
        one.peerstore.forget(two.peer_id)
        async with remembering(one, file, file[-1]) as discovery:
            await settled(lambda: one.is_connected(two.peer_id))
            await settled(lambda: facts(discovery, "saved peers")[0][0] is True)


async def test_who_left_before_the_file_is_written_is_remembered_too() -> None:
    file: list[bytes] = []
    async with hosts(2, clock=now_clock()) as (one, two):
        async with remembering(one, file):
            await connect(two, one)
            await settled(lambda: one.peerstore.record(two.peer_id) is not None)
            await two.disconnect(one.peer_id)
            await settled(lambda: not one.is_connected(two.peer_id))
        (row,) = decode_saved(file[-1]).recent(time.time())
        assert (row.peer, row.dialled, bool(row.record)) == (two.peer_id, False, True)


async def test_finding_14_a_full_list_is_read_and_written_beside_the_loop() -> None:
    """Its kind: strangers fill it with as many addresses as they may have, and it is written every minute."""
    now = time.time()
    addresses = tuple(Multiaddr.parse(f"/ip4/10.1.1.{number}/udp/4001/quic-v1/webtransport") for number in range(20))
    ids = (PeerId.decode(b"\x12\x20" + number.to_bytes(32)) for number in range(300))
    full = SavedPeers([SavedPeer(id, now - 5000, addresses) for id in ids]).encode()
    file: list[bytes] = []
    async with hosts(1, clock=now_clock()) as (host,):
        async with turns_measured("a list of peers", 0.02), remembering(host, file, full) as discovery:
            await discovery._save(last=True)
        assert len(file[-1]) == len(full)
        assert len(host.peerstore) == 300


async def test_only_a_few_of_the_latest_are_dialled() -> None:
    now = time.time()
    many = SavedPeers([SavedPeer(peer(n), now - n, (Multiaddr.parse(f"/memory/{9000 + n}"),)) for n in range(10, 40)])
    async with hosts(1, clock=now_clock()) as (one,), remembering(one, [], many.encode()) as discovery:
        told = (None, "30 remembered, 8 dialled at the start, 0 answered")
        await settled(lambda: facts(discovery, "saved peers") == [told])
        assert len(one.peerstore.peers()) == 30


async def test_a_damaged_file_is_told_and_begun_anew() -> None:
    file: list[bytes] = []
    async with hosts(1) as (one,), remembering(one, file, b"{damaged") as discovery:
        (fact,) = facts(discovery, "saved peers")
        assert fact[0] is False
        assert "damaged and begun anew" in fact[1]
    assert json.loads(file[-1])["peers"] == []


async def test_it_is_written_now_and_then_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.01)
    file: list[bytes] = []
    async with hosts(2, clock=now_clock()) as (one, two), remembering(one, file) as discovery:
        await connect(one, two)
        await settled(lambda: bool(file))
        await settled(lambda: not discovery._dirty)
        count = len(file)
        await anyio.sleep(0.05)
        assert len(file) == count
        discovery._saved_at -= 2 * module.SAVE_STEADY_SECONDS
        await settled(lambda: len(file) > count)


async def test_a_disk_that_is_full_is_a_fact() -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async with hosts(1) as (one,), Discovery.open(one, DiscoverySettings(save=full)) as discovery:
        await discovery._save(last=True)
        assert "No space left" in facts(discovery, "saved peers")[0][1]


async def test_a_list_of_peers_that_was_not_written_is_still_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for the next change, or an hour."""
    file: list[bytes] = []
    async with hosts(1) as (one,), Discovery.open(one, DiscoverySettings(save=file.append)) as discovery:
        with monkeypatch.context() as patch:

            async def no_thread(*_: object, **__: object) -> object:
                raise RuntimeError("can't start new thread")

            patch.setattr(anyio.to_thread, "run_sync", no_thread)
            await discovery._save(last=True)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await discovery._save(last=True)
        assert not file
        await discovery._save()
        assert len(file) == 1


async def test_bootstrap_peers_are_not_trimmed() -> None:
    limits = NetLimits(low_water=1, high_water=2, grace=0.0)
    clock = Clock()
    async with hosts(6, limits=limits, clock=clock) as all_hosts:
        one, two, others = all_hosts[0], all_hosts[1], all_hosts[2:]
        async with Discovery.open(one, DiscoverySettings(bootstrap=[here(two)])):
            await settled(lambda: two.peer_id in one._tags)
            await connect_all(one, others, clock)
            one._swarm.upkeep()
            await settled(lambda: len(one.connections()) <= 2)
            assert one.is_connected(two.peer_id)


async def connect_all(one: Host, others: Sequence[Host], clock: Clock) -> None:
    for other in others:
        clock.advance(1.0)
        await one.connect(other.peer_id, other.addresses())
