"""Both sides of one upgrade."""

import logging
from collections.abc import Sequence

import anyio

from stack.errors import DecodeError, RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import is_relayed
from stack.net.connection import Connection
from stack.net.failures import ASK_ERRORS
from stack.net.host import Host
from stack.net.interfaces import Direction
from stack.protocols.dcutr.messages import (
    MESSAGE_BYTES_MAX,
    Punch,
    PunchType,
    candidates,
    decode_punch,
    worth_punching,
)
from stack.protocols.dcutr.service import DCUTR
from stack.streams.delimited import receive_message, send_message
from stack.streams.interfaces import Stream
from stack.trace import TraceEvent
from stack.values import dataclass

_log = logging.getLogger(__name__)

TRIES_MAX = 3
""""Inbound peers SHOULD retry twice (thus a total of 3 attempts)"."""
TRY_PAUSE_SECONDS = 1.0
"""Before the second try, and twice as long before the third."""
EXCHANGE_SECONDS = 15.0
"""For the words of one try: a few round trips through a relay."""
DIAL_SECONDS = 2.0
"""For simply dialling where the peer says that it is public."""
IDENTIFIED_SECONDS = 5.0
"""For identify to tell where the peer is."""
SPOKEN_SECONDS = 10.0
"""For the peer to say that it speaks this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeEnded(TraceEvent):
    """A relayed connection has a direct one beside it, or has not."""

    peer: PeerId
    direct: bool
    tries: int
    """Of hole punching; 0: the peer could simply be dialled."""
    seconds: float


class Exchange:
    """Commands: `upgrade` as who was dialled, `answer` as who dialled."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def upgrade(self, relayed: Connection) -> None:
        """Bring about a direct connection beside a relayed one; what comes of it is traced."""
        begun, tries = anyio.current_time(), 0
        direct = await self._dial(relayed)
        if not direct:
            await self._until_spoken(relayed)
        while not direct and not relayed.closed and tries < TRIES_MAX:
            if tries:
                await anyio.sleep(TRY_PAUSE_SECONDS * tries)
            tries += 1
            try:
                direct = await self._try(relayed)
            except (DecodeError, *ASK_ERRORS) as error:
                _log.debug("no hole is punched with %s: %r", relayed.peer, error)
                break
        if self._host.trace is not None:
            seconds = anyio.current_time() - begun
            self._host.trace(UpgradeEnded(peer=relayed.peer, direct=direct, tries=tries, seconds=seconds))

    async def _dial(self, relayed: Connection) -> bool:
        """Try what the peer says of itself, if that is public: then nothing need be punched."""
        peer = relayed.peer
        with anyio.move_on_after(IDENTIFIED_SECONDS):
            while self._host.protocols(peer) is None and not relayed.closed:
                await anyio.sleep(0.05)
        return await self._host.direct.punch(
            peer, self._worth_punching(self._host.direct.addresses(peer)), client=True, seconds=DIAL_SECONDS
        )

    async def _until_spoken(self, relayed: Connection) -> None:
        """go-libp2p speaks it only once it knows where it is seen; it looks for that every five seconds, and then tells us."""
        with anyio.move_on_after(SPOKEN_SECONDS):
            while DCUTR not in (self._host.protocols(relayed.peer) or ()) and not relayed.closed:
                await anyio.sleep(0.1)

    async def _try(self, relayed: Connection) -> bool:
        with anyio.fail_after(EXCHANGE_SECONDS):
            stream = await relayed.open_stream([DCUTR], self._host.protocols(relayed.peer))
            try:
                sent_at = anyio.current_time()
                await send_message(stream, Punch(PunchType.CONNECT, tuple(self.candidates())).encode())
                theirs = self._worth_punching(await _receive(stream, PunchType.CONNECT))
                if not theirs:
                    raise RemoteProtocolError("the peer knows of no public address of its own that we could dial")
                delay = (anyio.current_time() - sent_at) / 2
                await send_message(stream, Punch(PunchType.SYNC).encode())
                await stream.aclose()
            except BaseException:
                stream.reset()
                raise
        await anyio.sleep(delay)
        return await self._host.direct.punch(relayed.peer, theirs, client=False)

    async def answer(self, stream: Stream) -> None:
        """The other side of one try. Raises RemoteProtocolError, DecodeError, and what the stream raises."""
        with anyio.fail_after(EXCHANGE_SECONDS):
            theirs = self._worth_punching(await _receive(stream, PunchType.CONNECT))
            await send_message(stream, Punch(PunchType.CONNECT, tuple(self.candidates())).encode())
            await _receive(stream, PunchType.SYNC)
        await self._host.direct.punch(stream.remote_peer, theirs, client=True)

    def candidates(self) -> list[Multiaddr]:
        """Where we may be met from outside."""
        seen = [
            (connection.observed, None if connection.direction is Direction.INBOUND else connection.local_address)
            for connection in self._host.direct.connections()
            if connection.observed is not None
        ]
        told = [address for address in self._host.addresses() if not is_relayed(address)]
        return candidates(told, seen, self._host.direct.listening())

    def _worth_punching(self, addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
        """Of what a peer says of itself what we can and will dial."""
        return worth_punching(each for each in addresses if self._host.can_dial(each.split_peer()[0]))


async def _receive(stream: Stream, expected: PunchType) -> Sequence[Multiaddr]:
    message = decode_punch(await receive_message(stream, MESSAGE_BYTES_MAX))
    if message.type is not expected:
        raise RemoteProtocolError(f"{expected.name} was expected")
    return message.addresses
