"""What peers send us: on streams that they open, and on the one that we speak to them on."""

import anyio

from stack.bitswap.offences import Offences
from stack.bitswap.shell.wire import Receiver
from stack.errors import LimitExceeded, RemoteProtocolError
from stack.net.failures import ASK_ERRORS
from stack.net.interfaces import Host
from stack.sansio.budget import Resource
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor


class Inbound:
    """Commands: `serve`, the handler of streams that peers open. Facts: `spoken_on`."""

    def __init__(self, host: Host, receiver: Receiver, offences: Offences, tasks: Supervisor) -> None:
        self._host = host
        self._receiver = receiver
        self._offences = offences
        self._tasks = tasks

    async def serve(self, stream: Stream) -> None:
        """Raises as `Receiver.serve`, and RemoteProtocolError for a peer that has been cut."""
        await self._gate(stream)
        await self._receiver.serve(stream)

    def spoken_on(self, stream: Stream) -> anyio.Event:
        """We have opened this stream and said something there. py-libp2p answers on it, where others open one of their own. It is
        read here until the event that is returned."""
        read = anyio.Event()
        self._tasks.start(self._hear, stream, read, owner="answers on a stream of ours", failed=stream.reset)
        return read

    async def _hear(self, stream: Stream, read: anyio.Event) -> None:
        """As `serve`; but whoever says nothing here is like most, and who ends its side still reads what we say."""
        try:
            with self._host.peer_budget(stream.remote_peer).reserve(Resource.TASKS):
                try:
                    await self._gate(stream)
                    await self._receiver.serve(stream, ours=True)
                except ASK_ERRORS:
                    stream.reset()
        except LimitExceeded:
            pass  # nor can more be heard on streams of its own; what we say goes on
        finally:
            read.set()

    async def _gate(self, stream: Stream) -> None:
        if self._offences.is_cut(stream.remote_peer, anyio.current_time()):
            await self._host.disconnect(stream.remote_peer, misbehaved=True)
            raise RemoteProtocolError("peer has been cut")
