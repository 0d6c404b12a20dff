"""The shared dial of a peer: order, failures, cancellation, limits."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from stack.errors import LimitExceeded, SecurityError, TransportError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net import dialer as module
from stack.net.dialer import Dialer
from stack.net.events import DialAttempted, DialOutcome
from stack.net.interfaces import DialError
from stack.net.resolver import Resolver
from stack.streams.supervision import supervised
from stack.trace import TraceEvent
from tests.net.hosts import settled
from tests.net.identities import peer

pytestmark = pytest.mark.anyio


@dataclass(eq=False)
class Made:
    """What stands for a connection."""

    peer: PeerId | None
    address: Multiaddr


@dataclass
class Network:
    """What happens when an address is dialled: an error, a wait for ever, or a connection."""

    answers: dict[str, Exception | None] = field(default_factory=dict)
    dialled: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    trace: list[TraceEvent] = field(default_factory=list)
    now: float = 0.0

    async def establish(self, to: PeerId | None, address: Multiaddr) -> Made:
        text = str(address)
        self.dialled.append(text)
        try:
            await anyio.lowlevel.checkpoint()
            if text not in self.answers:
                await anyio.sleep_forever()
        except BaseException:
            self.cancelled.append(text)
            raise
        answer = self.answers[text]
        if answer is not None:
            raise answer
        return Made(to, address)


async def names(host: str, version: int) -> Sequence[str]:
    if host == "slow.example":
        await anyio.sleep_forever()
    if host == "odd.example":
        raise RuntimeError("oops")
    if host == "none.example":
        raise OSError("unknown")
    return ["8.8.8.8"]


@asynccontextmanager
async def dialler(network: Network) -> AsyncIterator[Dialer]:
    async with supervised(network.trace.append) as tasks:
        establish: Callable[[PeerId | None, Multiaddr], Awaitable[object]] = network.establish
        yield Dialer(
            establish,  # type: ignore[arg-type]  # what is made is not looked into
            lambda address: "udp" not in address.protocols,
            Resolver(names),
            tasks,
            clock=lambda: network.now,
            trace=network.trace.append,
        )


def parse(*texts: str) -> list[Multiaddr]:
    return [Multiaddr.parse(text) for text in texts]


async def test_the_first_address_that_answers_wins_and_the_others_are_cancelled() -> None:
    network = Network({"/memory/2": None})
    async with dialler(network) as dial:
        made = dial.dial(peer(1), parse("/memory/1", "/memory/2", "/memory/3"))
        network.now = 0.0
        async with anyio.create_task_group() as tasks:
            results: list[object] = []

            async def go() -> None:
                results.append(await made)

            tasks.start_soon(go)
            await settled(lambda: network.dialled == ["/memory/1"])
            network.now = 0.02
        assert str(results[0].address) == "/memory/2"  # type: ignore[attr-defined]
    assert set(network.cancelled) == set(network.dialled) - {"/memory/2"}


async def test_a_dnsaddr_name_is_resolved_before_its_peer_is_looked_at() -> None:
    async with dialler(Network()) as dial:
        with pytest.raises(DialError, match="not looked up here"):
            await dial.dial(peer(1), parse(f"/dnsaddr/a.example/p2p/{peer(1)}"))


async def test_two_callers_share_one_dial_and_may_add_addresses() -> None:
    network = Network({"/memory/2": None})
    async with dialler(network) as dial, anyio.create_task_group() as tasks:
        results: list[object] = []

        async def go(address: str) -> None:
            results.append(await dial.dial(peer(1), parse(address)))

        tasks.start_soon(go, "/memory/1")
        await settled(lambda: network.dialled == ["/memory/1"])
        tasks.start_soon(go, "/memory/2")
        await settled(lambda: len(results) == 2)
        assert results[0] is results[1]


async def test_a_caller_who_gives_up_does_not_end_the_dial_of_the_other() -> None:
    network = Network()
    async with dialler(network) as dial, anyio.create_task_group() as tasks:
        results: list[object] = []

        async def go() -> None:
            results.append(await dial.dial(peer(1), parse("/memory/1")))

        tasks.start_soon(go)
        with anyio.move_on_after(0.01):
            await dial.dial(peer(1), parse("/memory/1"))
        assert network.cancelled == []
        network.answers["/memory/2"] = None
        assert await dial.dial(peer(1), parse("/memory/2")) is not None
        await settled(lambda: len(results) == 1)


async def test_when_all_callers_give_up_the_dial_ends() -> None:
    network = Network()
    async with dialler(network) as dial:
        with anyio.move_on_after(0.01):
            await dial.dial(peer(1), parse("/memory/1"))
        await settled(lambda: network.cancelled == ["/memory/1"])
        assert dial._dials == {}


async def test_an_error_names_every_attempt() -> None:
    network = Network({"/memory/1": TransportError("refused"), "/memory/2": TransportError("no route")})
    async with dialler(network) as dial:
        with pytest.raises(DialError) as caught:
            await dial.dial(
                peer(1),
                parse(
                    "/memory/1",
                    "/memory/2",
                    "/ip4/8.8.8.8/udp/1",
                    "/dns4/none.example/tcp/1",
                    f"/memory/3/p2p/{peer(2)}",
                ),
            )
    attempts = {str(address): reason for address, reason in caught.value.attempts}
    assert attempts == {
        "/memory/1": "refused",
        "/memory/2": "no route",
        "/ip4/8.8.8.8/udp/1": "no transport for this address",
        "/dns4/none.example/tcp/1": "the name none.example cannot be looked up: unknown",
        f"/memory/3/p2p/{peer(2)}": "it is an address of another peer",
    }


@pytest.mark.parametrize("error", [SecurityError("other peer"), LimitExceeded("connections", 1)])
async def test_one_obstacle_for_all_is_raised_as_what_it_is(error: Exception) -> None:
    network = Network({"/memory/1": error, "/memory/2": error, "/memory/3": TransportError("x")})
    async with dialler(network) as dial:
        with pytest.raises(type(error)):
            await dial.dial(peer(1), parse("/memory/1", "/memory/2"))
        with pytest.raises(DialError):
            await dial.dial(peer(1), parse("/memory/1", "/memory/3"))


async def test_a_fault_in_a_transport_fails_one_attempt(caplog: pytest.LogCaptureFixture) -> None:
    network = Network({"/memory/1": ZeroDivisionError("oops"), "/memory/2": None})
    async with dialler(network) as dial:
        assert await dial.dial(peer(1), parse("/memory/1", "/memory/2"))
    assert "oops" in caplog.text
    outcomes = [event.outcome for event in network.trace if isinstance(event, DialAttempted)]
    assert outcomes == [DialOutcome.FAULT, DialOutcome.CONNECTED]


async def test_a_slow_name_does_not_delay_other_addresses() -> None:
    network = Network({"/memory/1": None, "/ip4/8.8.8.8/tcp/1": None})
    async with dialler(network) as dial:
        assert await dial.dial(peer(1), parse("/dns4/slow.example/tcp/1", "/memory/1"))
        made = await dial.dial(peer(2), parse("/dns4/fast.example/tcp/1"))
        assert str(made.address) == "/ip4/8.8.8.8/tcp/1"


async def test_a_fault_in_the_resolver_ends_its_dial_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    network = Network({"/memory/1": None})
    async with dialler(network) as dial:
        with pytest.raises(DialError):
            await dial.dial(peer(1), parse("/dns4/odd.example/tcp/1"))
        assert await dial.dial(peer(1), parse("/memory/1"))
    assert "oops" in caplog.text


async def test_known_addresses_rest_after_a_failure_unless_asked_for_by_name() -> None:
    network = Network({"/memory/1": TransportError("refused")})
    [address] = parse("/memory/1")
    async with dialler(network) as dial:
        for known, count in (([address], 1), ([address], 1)):
            with pytest.raises(DialError):
                await dial.dial(peer(1), [], known)
            assert len(network.dialled) == count
        with pytest.raises(DialError, match="refused"):
            await dial.dial(peer(1), [address], [address])
        assert len(network.dialled) == 2
        network.now = 100.0
        with pytest.raises(DialError):
            await dial.dial(peer(1), [], [address])
        assert len(network.dialled) == 3
        dial.network_changed()
        network.answers["/memory/1"] = None
        assert await dial.dial(peer(1), [], [address])


async def test_a_connection_from_elsewhere_ends_the_dial() -> None:
    network = Network()
    async with dialler(network) as dial, anyio.create_task_group() as tasks:
        results: list[object] = []

        async def go() -> None:
            results.append(await dial.dial(peer(1), parse("/memory/1")))

        tasks.start_soon(go)
        await settled(lambda: network.dialled == ["/memory/1"])
        came = Made(peer(1), parse("/memory/9")[0])
        dial.peer_connected(came)  # type: ignore[arg-type]
        dial.peer_connected(Made(peer(2), came.address))  # type: ignore[arg-type]
        await settled(lambda: results == [came])


async def test_a_dial_is_over_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIAL_SECONDS", 0.02)
    network = Network()
    async with dialler(network) as dial:
        with pytest.raises(DialError, match=r"gave up after 0\.02 s"):
            await dial.dial(peer(1), parse("/memory/1", "/memory/2"))


async def test_A09_two_hundred_black_holes_do_not_delay_a_good_dial() -> None:
    network = Network({"/memory/1000": None})
    async with dialler(network) as dial, anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(dial.dial, peer(number), parse(f"/memory/{number + 1}"))
        await settled(lambda: len(network.dialled) == 200)
        with anyio.fail_after(3):
            assert await dial.dial(peer(500), parse("/memory/1000"))
        tasks.cancel_scope.cancel()


async def test_attempts_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS_MAX", 5)
    network = Network()
    async with dialler(network) as dial, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(dial.dial, peer(number), parse(f"/memory/{number + 1}"))
        await anyio.wait_all_tasks_blocked()
        assert len(network.dialled) == 5
        tasks.cancel_scope.cancel()
