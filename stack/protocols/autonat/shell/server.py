"""The server's side: try for others whether they can be reached. What is done for whom, `guard` decides."""

import random
from collections.abc import Sequence
from ipaddress import ip_address

import anyio

from stack.errors import RemoteProtocolError, StackError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import ip_of
from stack.net.failures import ASK_ERRORS
from stack.net.host import Host
from stack.net.stranger import stranger_beside
from stack.protocols.autonat import DIAL_BACK
from stack.protocols.autonat.guard import Dial, Guard
from stack.protocols.autonat.messages import (
    Answer,
    DialData,
    DialDataRequest,
    DialRequest,
    DialResponse,
    Outcome,
    V1Dial,
    V1Response,
    V1Status,
    decode,
    decode_v1,
    encode,
    encode_nonce,
    encode_v1,
)
from stack.protocols.autonat.shell.lines import Talk
from stack.streams.interfaces import Stream

REQUEST_SECONDS = 10.0
"""For a request to come."""
DATA_SECONDS = 30.0
"""For all dial data."""
DIAL_SECONDS = 10.0
"""For the dial, and again for what is said there."""
DELAY_SECONDS = 3.0
"""A dial that is not to where the asker comes from waits for up to so long, so that many servers do not come at the same moment."""


class Server:
    """Stream handlers: `serve`, `serve_v1`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._random = random.SystemRandom()
        self._guard = Guard(self._can_dial, self._random, anyio.current_time())

    def _can_dial(self, address: Multiaddr) -> bool:
        """A transport knows it, and this computer has an address of its family that leads out."""
        ip = ip_of(address)
        ours = [ip_address(text) for text in self._host.ours.interfaces]
        usable = any(
            ip is not None and each.version == ip.version and not (each.is_loopback or each.is_link_local)
            for each in ours
        )
        return usable and self._host.can_dial(address)

    async def serve(self, stream: Stream) -> None:
        """Version 2."""
        talk = Talk(stream)
        with anyio.fail_after(REQUEST_SECONDS):
            request = decode(await talk.hear())
        if not isinstance(request, DialRequest):
            raise RemoteProtocolError("AutoNAT begins with a request")
        todo = self._guard.asked(stream.remote_address, request.addresses, anyio.current_time())
        if isinstance(todo, Answer):
            response = DialResponse(todo)
        else:
            try:
                if todo.data:
                    await self._take_data(talk, todo)
                outcome = await self._dial_back(stream.remote_peer, todo.address, request.nonce)
            finally:
                self._guard.done()
            response = DialResponse(Answer.OK, todo.index, outcome)
        with anyio.fail_after(REQUEST_SECONDS):
            await talk.say(encode(response))
            await stream.aclose()

    async def _take_data(self, talk: Talk, todo: Dial) -> None:
        """Have the asker pay for a dial to elsewhere. Raises RemoteProtocolError, TimeoutError."""
        with anyio.fail_after(DATA_SECONDS):
            await talk.say(encode(DialDataRequest(todo.index, todo.data)))
            missing = todo.data
            while missing > 0:
                piece = decode(await talk.hear())
                if not isinstance(piece, DialData) or not piece.size:
                    raise RemoteProtocolError("dial data was expected")
                missing -= piece.size
        await anyio.sleep(self._random.uniform(0, DELAY_SECONDS))

    async def _dial_back(self, peer: PeerId, address: Multiaddr, nonce: int) -> Outcome:
        async with stranger_beside(self._host, self._host.peer_budget(peer)) as stranger:
            try:
                with anyio.fail_after(DIAL_SECONDS):
                    await stranger.connect(peer, [address])
            except (StackError, TimeoutError):
                return Outcome.DIAL_ERROR
            try:
                with anyio.fail_after(DIAL_SECONDS):
                    talk = Talk(stream := await stranger.open_stream(peer, DIAL_BACK))
                    await talk.say(encode_nonce(nonce))
                    await talk.hear()
                    await stream.aclose()
            except ASK_ERRORS:
                return Outcome.DIAL_BACK_ERROR
            return Outcome.OK

    async def serve_v1(self, stream: Stream) -> None:
        """Version 1."""
        talk, peer = Talk(stream), stream.remote_peer
        with anyio.fail_after(REQUEST_SECONDS):
            request = decode_v1(await talk.hear())
        if not isinstance(request, V1Dial):
            raise RemoteProtocolError("AutoNAT begins with a request")
        now = anyio.current_time()
        todo = self._guard.asked_v1(peer, request.peer, stream.remote_address, request.addresses, now)
        if isinstance(todo, V1Status):
            response = V1Response(todo)
        else:
            try:
                response = await self._dial_v1(peer, todo.addresses)
            finally:
                self._guard.done()
        with anyio.fail_after(REQUEST_SECONDS):
            await talk.say(encode_v1(response))
            await stream.aclose()

    async def _dial_v1(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> V1Response:
        async with stranger_beside(self._host, self._host.peer_budget(peer)) as stranger:
            try:
                with anyio.fail_after(DIAL_SECONDS):
                    await stranger.connect(peer, addresses)
                    return V1Response(V1Status.OK, stranger.connections()[0].address)
            except (StackError, TimeoutError, IndexError):  # it was reached, and has hung up already
                return V1Response(V1Status.DIAL_ERROR)
