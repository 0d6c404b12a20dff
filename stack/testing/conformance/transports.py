"""What every transport must do; a transport's own test is a list of addresses and these checks."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import cast

import anyio

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import RawStream
from stack.testing.streams import receive_exactly
from stack.transports.interfaces import Listener, ListenError, Transport

LARGE = 1 << 20
"""More than any buffer between two ends holds, so that back pressure is met."""


async def connected_pair(transport: Transport, listener: Listener) -> tuple[RawStream, RawStream]:
    """Both ends of a fresh connection: the dialling one first."""
    ends: list[RawStream] = []

    async def accept() -> None:
        incoming = await listener.accept()
        ends.append(cast(RawStream, await incoming.open()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        dialled = await transport.dial(listener.address)
    return dialled, ends[0]


async def check_addresses(transport: Transport, address: Multiaddr) -> None:
    """The listener knows its real address, and each end calls the other by the other's own name."""
    assert transport.can_listen(address)
    listener = await transport.listen(address)
    assert transport.can_dial(listener.address)
    dialled, accepted = await connected_pair(transport, listener)
    assert dialled.remote_address == listener.address
    assert accepted.local_address == listener.address
    assert accepted.remote_address == dialled.local_address
    await dialled.aclose()
    await accepted.aclose()
    await listener.aclose()


async def check_bytes_both_ways(transport: Transport, address: Multiaddr) -> None:
    """Large data passes unchanged in both directions at once."""
    listener = await transport.listen(address)
    ends = await connected_pair(transport, listener)
    sent = [bytes(range(251)) * (LARGE // 251), bytes(range(241)) * (LARGE // 241)]
    async with anyio.create_task_group() as tasks:
        for end, data in zip(ends, sent, strict=True):
            tasks.start_soon(end.send_all, memoryview(data))
        assert await receive_exactly(ends[0], len(sent[1])) == sent[1]
        tasks.start_soon(_expect, ends[1], sent[0])
    for end in ends:
        await end.aclose()
    await listener.aclose()


async def check_wait_readable(transport: Transport, address: Multiaddr) -> None:
    """`wait_readable` takes nothing away, and returns at the end of the stream too."""
    listener = await transport.listen(address)
    dialled, accepted = await connected_pair(transport, listener)
    with anyio.move_on_after(0.02) as nothing_yet:
        await accepted.wait_readable()
    assert nothing_yet.cancelled_caught
    await dialled.send_all(memoryview(b"abc"))
    await accepted.wait_readable()
    await accepted.wait_readable()
    assert await receive_exactly(accepted, 1) == b"a"
    await accepted.wait_readable()
    assert await receive_exactly(accepted, 2) == b"bc"
    await dialled.aclose()
    await accepted.wait_readable()
    with _raises(anyio.EndOfStream):
        await accepted.receive_into(memoryview(bytearray(1)))
    await accepted.aclose()
    await listener.aclose()


async def check_own_close(transport: Transport, address: Multiaddr) -> None:
    """After `aclose` everything raises ClosedResourceError, also in a task that waits; closing twice is harmless."""
    listener = await transport.listen(address)
    dialled, accepted = await connected_pair(transport, listener)

    async def waits() -> None:
        with _raises(anyio.ClosedResourceError):
            await dialled.receive_into(memoryview(bytearray(1)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await anyio.wait_all_tasks_blocked()
        await dialled.aclose()
    await dialled.aclose()
    with _raises(anyio.ClosedResourceError):
        await dialled.receive_into(memoryview(bytearray(1)))
    with _raises(anyio.ClosedResourceError):
        await dialled.send_all(memoryview(b"x"))
    await accepted.aclose()
    await listener.aclose()


async def check_peer_gone(transport: Transport, address: Multiaddr) -> None:
    """Writing to a peer that has closed raises BrokenResourceError, at the latest when buffers are full."""
    listener = await transport.listen(address)
    dialled, accepted = await connected_pair(transport, listener)
    await accepted.aclose()
    with _raises(anyio.BrokenResourceError):
        for _ in range(64):
            await dialled.send_all(memoryview(bytes(LARGE)))
    await dialled.aclose()
    await listener.aclose()


async def check_listener_closes(transport: Transport, address: Multiaddr) -> None:
    """A closed listener wakes who waits, refuses new dials, frees its address, and leaves accepted streams alone."""
    listener = await transport.listen(address)
    dialled, accepted = await connected_pair(transport, listener)

    async def waits() -> None:
        with _raises(anyio.ClosedResourceError):
            await listener.accept()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waits)
        await anyio.wait_all_tasks_blocked()
        await listener.aclose()
    await listener.aclose()
    with _raises(TransportError):
        await transport.dial(listener.address)
    again = await transport.listen(listener.address)
    await dialled.send_all(memoryview(b"still here"))
    assert await receive_exactly(accepted, 10) == b"still here"
    await dialled.aclose()
    await accepted.aclose()
    await again.aclose()


async def check_address_in_use(transport: Transport, address: Multiaddr) -> None:
    """A second listener on the same address is refused with the address in the error."""
    listener = await transport.listen(address)
    try:
        await transport.listen(listener.address)
        raise AssertionError("a second listener was let in")
    except ListenError as error:
        assert error.address == listener.address
        assert "in use" in error.reason
    await listener.aclose()


async def check_cancelled_accept(transport: Transport, address: Multiaddr) -> None:
    """A cancelled `accept` loses no connection."""
    listener = await transport.listen(address)
    for _ in range(3):
        with anyio.move_on_after(0.01):
            await listener.accept()
    dialled, accepted = await connected_pair(transport, listener)
    await dialled.aclose()
    await accepted.aclose()
    await listener.aclose()


async def check_refused_incoming(transport: Transport, address: Multiaddr) -> None:
    """An incoming connection that is dropped unopened ends at the other end, and the listener goes on."""
    listener = await transport.listen(address)

    async def dials() -> None:
        try:
            dialled = await transport.dial(listener.address)
        except TransportError:
            return
        with _raises(anyio.EndOfStream, anyio.BrokenResourceError):
            await dialled.receive_into(memoryview(bytearray(1)))
        await dialled.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dials)
        incoming = await listener.accept()
        await incoming.aclose()
        await incoming.aclose()
    dialled, accepted = await connected_pair(transport, listener)
    await dialled.aclose()
    await accepted.aclose()
    await listener.aclose()


@contextmanager
def _raises(*kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"none of {kinds} was raised")


async def _expect(stream: RawStream, data: bytes) -> None:
    assert await receive_exactly(stream, len(data)) == data


CHECKS: tuple[Callable[[Transport, Multiaddr], Awaitable[None]], ...] = (
    check_addresses,
    check_bytes_both_ways,
    check_wait_readable,
    check_own_close,
    check_peer_gone,
    check_listener_closes,
    check_address_in_use,
    check_cancelled_accept,
    check_refused_incoming,
)
"""Each takes a transport and an address to listen on, with a port that the system chooses."""
