"""The client's side: ask one server about one address, and hear its knock there."""

import secrets

import anyio

from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import ip_of
from stack.net.host import Host
from stack.net.interfaces import Direction
from stack.protocols.autonat import DIAL_REQUEST, V1
from stack.protocols.autonat.guard import DATA_BYTES_MAX
from stack.protocols.autonat.judge import Question, Said
from stack.protocols.autonat.messages import (
    NONCE_MAX,
    PIECE_BYTES,
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
    decode_nonce,
    decode_v1,
    encode,
    encode_thanks,
    encode_v1,
)
from stack.protocols.autonat.shell.lines import Talk
from stack.streams.interfaces import Stream

QUESTION_SECONDS = 40.0
"""For a question, the data that it may cost, and the dial."""
KNOCK_SECONDS = 5.0
"""For the nonce: to be said, and to come after the server has told that it was said."""

Way = tuple[PeerId, Multiaddr]


class Asking:
    """Commands: `ask`. Stream handlers: `knock`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._expected: dict[int, tuple[frozenset[Way], anyio.Event]] = {}
        """By nonce: the ways by which peers had come already when it was told, and whether somebody has named it."""

    async def ask(self, question: Question) -> list[tuple[Multiaddr, Said]]:
        """What the server says, nothing when it would not try. Raises what speaking with a peer may (`ASK_ERRORS`)."""
        with anyio.fail_after(QUESTION_SECONDS):
            if question.v1:
                return await self._ask_v1(question)
            said = await self._ask(question.peer, question.addresses[0])
            return [] if said is None else [(question.addresses[0], said)]

    async def _ask(self, peer: PeerId, address: Multiaddr) -> Said | None:
        nonce = secrets.randbelow(NONCE_MAX)
        heard = anyio.Event()
        self._expected[nonce] = (self._ways(), heard)
        try:
            stream = await self._host.open_stream(peer, DIAL_REQUEST)
            try:
                response = await self._exchange(Talk(stream), DialRequest((address,), nonce))
            finally:
                stream.reset()
            if response.answer is not Answer.OK or response.index:
                return None
            if response.outcome is Outcome.OK:
                with anyio.move_on_after(KNOCK_SECONDS):
                    await heard.wait()
            if heard.is_set():
                return Said.PROVED
            return Said.CLOSED if response.outcome is Outcome.DIAL_ERROR else None
        finally:
            del self._expected[nonce]

    async def _exchange(self, talk: Talk, request: DialRequest) -> DialResponse:
        await talk.say(encode(request))
        message = decode(await talk.hear())
        if isinstance(message, DialDataRequest):
            if message.index or message.size > DATA_BYTES_MAX:
                raise RemoteProtocolError(f"{message.size} bytes were asked for, {DATA_BYTES_MAX} are allowed")
            piece = encode(DialData(PIECE_BYTES))
            for _ in range(-(-message.size // PIECE_BYTES)):
                await talk.say(piece)
            message = decode(await talk.hear())
        if not isinstance(message, DialResponse):
            raise RemoteProtocolError("the answer of AutoNAT was expected")
        return message

    async def _ask_v1(self, question: Question) -> list[tuple[Multiaddr, Said]]:
        stream = await self._host.open_stream(question.peer, V1)
        try:
            talk = Talk(stream)
            await talk.say(encode_v1(V1Dial(bytes(self._host.peer_id), question.addresses)))
            response = decode_v1(await talk.hear())
        finally:
            stream.reset()
        if not isinstance(response, V1Response):
            raise RemoteProtocolError("the answer of AutoNAT was expected")
        if response.status is V1Status.OK:
            return [(address, Said.OPEN) for address in question.addresses if address == response.address]
        if response.status is not V1Status.DIAL_ERROR:
            return []
        # It dials only where it sees us: what is of another kind it has not tried.
        kind = type(ip_of(stream.remote_address))
        return [(address, Said.CLOSED) for address in question.addresses if type(ip_of(address)) is kind]

    def _ways(self) -> frozenset[Way]:
        inbound = (info for info in self._host.connections() if info.direction is Direction.INBOUND)
        return frozenset((info.peer, info.address) for info in inbound)

    async def knock(self, stream: Stream) -> None:
        """Somebody names a nonce. It counts when he has come by a new connection, from outside: over one that stood before, a
        server could say it without having tried anything."""
        talk = Talk(stream)
        with anyio.fail_after(KNOCK_SECONDS):
            nonce = decode_nonce(await talk.hear())
            way = stream.remote_peer, stream.remote_address
            before, heard = self._expected.get(nonce, (frozenset(), anyio.Event()))
            if way in self._ways() - before:
                heard.set()
            await talk.say(encode_thanks())
            await stream.aclose()
