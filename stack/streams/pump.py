"""Drives a `ByteMachine` on a stream until it has something to say."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import anyio

from stack.errors import StackError
from stack.sansio.interfaces import ByteMachine
from stack.streams.interfaces import MuxedStream, RawStream

E = TypeVar("E")

READ_BYTES = 4096
"""One read of a small protocol; a handshake message fits."""


async def drive(
    stream: RawStream | MuxedStream, machine: ByteMachine[E], *, at_most: Callable[[], int] | None = None
) -> E:
    """Move bytes between `stream` and `machine` until it reports an event; return that.

    `at_most` says how many bytes may be read next, for protocols after which nothing may have been read too far; by
    default up to 4 KiB are. Raises what the machine raises, after its last words were sent, and what the stream raises;
    EndOfStream when the peer ends and the machine does not mind.
    """
    send = sender(stream)
    buffer = memoryview(bytearray(READ_BYTES))
    while True:
        event = machine.next_event()
        # While there is more to read, what is to be said about it goes out together.
        if (event is not None or not getattr(stream, "waiting", 0)) and (data := machine.data_to_send()):
            await send(memoryview(data))
        if event is not None:
            return event
        room = buffer if at_most is None else buffer[: at_most()]
        received = 0
        with anyio.CancelScope(deadline=_deadline(machine)) as scope:
            try:
                received = await stream.receive_into(room)
            except anyio.EndOfStream:
                machine.receive_data(b"", anyio.current_time())
                raise
        if scope.cancelled_caught:
            machine.handle_timeout(anyio.current_time())
            continue
        try:
            machine.receive_data(bytes(buffer[:received]), anyio.current_time())
        except StackError:
            if data := machine.data_to_send():
                # A peer that has gone does not hear them, and why it was refused is the better error.
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await send(memoryview(data))
            raise


def sender(stream: RawStream | MuxedStream) -> Callable[[memoryview], Awaitable[None]]:
    """How to write everything: `send_all` of a raw stream, `send` of a muxed one."""
    method: Callable[[memoryview], Awaitable[None]] = getattr(stream, "send_all", None) or getattr(stream, "send")  # noqa: B009 - neither type has both
    return method


def _deadline(machine: ByteMachine[E]) -> float:
    deadline = machine.next_timeout()
    return float("inf") if deadline is None else deadline
