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

    def spoken_on(self, stream: Stream) -> None:
        """We have opened this stream and said something there. py-libp2p answers on it, where others open one of their own."""
        self._tasks.start(self._hear, stream, owner="answers on a stream of ours", failed=stream.reset)

    async def _hear(self, stream: Stream) -> None:
        """As `serve`; but whoever says nothing here is like most, and who ends its side still reads what we say."""
        try:
            place = self._host.peer_budget(stream.remote_peer).reserve(Resource.TASKS)
        except LimitExceeded:
            return  # nor can more be heard on streams of its own; what we say goes on
        with place:
            try:
                await self._gate(stream)
                await self._receiver.serve(stream, ours=True)
            except ASK_ERRORS:
                stream.reset()

    async def _gate(self, stream: Stream) -> None:
        if self._offences.is_cut(stream.remote_peer, anyio.current_time()):
            await self._host.disconnect(stream.remote_peer, misbehaved=True)
            raise RemoteProtocolError("peer has been cut")
