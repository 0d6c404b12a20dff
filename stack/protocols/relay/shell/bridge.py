"""Two streams joined into one connection: what comes on one goes out on the other, until both have ended or a limit is reached."""

import anyio

from stack.errors import LimitExceeded
from stack.net.failures import STREAM_ERRORS
from stack.protocols.relay.messages import Limit
from stack.streams.interfaces import Stream

BUFFER_BYTES = 64 * 1024
"""In each direction, and no more: nothing more is read before the other end has taken it, so that back-pressure goes through. It
carries a full frame of yamux."""


async def join(source: Stream, target: Stream, limit: Limit) -> None:
    """Pass bytes on both ways. When it returns both streams are over: ended one after the other, or reset."""
    try:
        with anyio.fail_after(limit.seconds or None):
            async with anyio.create_task_group() as both:
                both.start_soon(_pass_on, source, target, limit.data)
                both.start_soon(_pass_on, target, source, limit.data)
    except (TimeoutError, *STREAM_ERRORS):
        pass  # "the relay should reset the stream to the source and the stream to the destination"
    except BaseExceptionGroup as group:
        _, rest = group.split((TimeoutError, *STREAM_ERRORS))
        if rest is not None:
            raise rest from None
    finally:
        source.reset()
        target.reset()


async def _pass_on(from_: Stream, to: Stream, most: int) -> None:
    buffer = memoryview(bytearray(BUFFER_BYTES))
    left = most
    while True:
        try:
            size = await from_.receive_into(buffer)
        except anyio.EndOfStream:
            await to.send_eof()
            return
        if most and size > left:
            if left:
                await to.send(buffer[:left])
            raise LimitExceeded("bytes of a relayed connection", most)
        left -= size
        await to.send(buffer[:size])
