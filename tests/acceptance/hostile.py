"""A peer that misbehaves, in a process of its own: `python -m tests.acceptance.hostile BEHAVIOUR ...`.

Its first line on stdout is its address. `wrong`, `silent`, `stall`, `flood` wait for somebody who wants blocks of an archive;
`wants` dials a peer and asks it for what nobody has, as fast as it can.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import anyio

from stack.bitswap.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_1_2,
    OutgoingMessage,
    Presence,
    Want,
    WantKind,
    decode_message,
    encode_message,
)
from stack.dag.car import BlockRead, CarReader
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.sansio.delimited import DelimitedReader
from stack.streams.interfaces import Stream
from tests.acceptance.kit import LOOPBACK, MIB, Machine
from tests.acceptance.process import Running

GOOD_BLOCKS = 3
"""Given rightly by who stalls, so that a fetch has begun."""
WANTS_PER_MESSAGE = 8000


def read_archive(path: Path) -> dict[bytes, bytes]:
    """The blocks of a CAR by multihash."""
    reader = CarReader()
    blocks = {}
    for data in (path.read_bytes(), b""):
        reader.receive_data(data)
        while (event := reader.next_event()) is not None:
            if isinstance(event, BlockRead):
                blocks[event.cid.multihash] = bytes(event.data)
    return blocks


class Hostile:
    """Answers wants in its own way, each peer on a stream of its own."""

    def __init__(self, host: Host, behaviour: str, blocks: dict[bytes, bytes]) -> None:
        self._host = host
        self._behaviour = behaviour
        self._blocks = blocks
        self._given = 0

    async def serve(self, stream: Stream) -> None:
        """Take wants until the peer goes."""
        reader = DelimitedReader(MESSAGE_BYTES_MAX)
        answers: Stream | None = None
        while True:
            try:
                reader.receive_data(await stream.receive())
            except anyio.EndOfStream:
                return
            while (message := reader.next_message()) is not None:
                wants = [want for want in decode_message(memoryview(message)).wants if not want.cancel]
                if not wants or self._behaviour == "silent":
                    continue
                if answers is None:
                    answers = await self._host.open_stream(stream.remote_peer, PROTOCOL_1_2)
                for want in wants:
                    await self._answer(answers, want)

    async def _answer(self, answers: Stream, want: Want) -> None:
        block = self._blocks.get(want.cid.multihash)
        if want.kind is WantKind.HAVE or block is None:
            presence = Presence(want.cid, block is not None)
            await answers.send_buffers(*encode_message(OutgoingMessage(presences=[presence])))
            return
        if self._behaviour == "flood":
            for number in count():
                junk = number.to_bytes(8, "big") * (MIB // 8)
                await answers.send_buffers(*encode_message(OutgoingMessage(blocks=[(Cid.of(junk), junk)])))
        if self._behaviour == "stall" and self._given >= GOOD_BLOCKS:
            return
        self._given += 1
        data = block if self._behaviour == "stall" else bytes([block[0] ^ 1]) + block[1:]
        await answers.send_buffers(*encode_message(OutgoingMessage(blocks=[(want.cid, data)])))


async def ask_for_ever(host: Host, address: str) -> None:
    """Ask for blocks that do not exist, in large messages, and read no answer."""
    peer = await host.connect(None, [Multiaddr.parse(address)])
    stream = await host.open_stream(peer, PROTOCOL_1_2)
    for number in count():
        names = [hashlib.sha256(b"%d %d" % (number, index)).digest() for index in range(WANTS_PER_MESSAGE)]
        wants = [Want(Cid.v1(0x55, b"\x12\x20" + name), WantKind.BLOCK, send_dont_have=True) for name in names]
        await stream.send_buffers(*encode_message(OutgoingMessage(wants=wants)))
        if number == 0:
            print("flooding", flush=True)


async def main(behaviour: str, argument: str, listen: str) -> None:
    """Misbehave until killed."""
    key = generate()
    async with Host(key) as host:
        if behaviour != "wants":
            host.handle(PROTOCOL_1_2, Hostile(host, behaviour, read_archive(Path(argument))).serve)
        bound = await host.listen(Multiaddr.parse(listen))
        print(f"{bound}/p2p/{PeerId.of(key.public)}", flush=True)
        if behaviour == "wants":
            try:
                await ask_for_ever(host, argument)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                print("cut off", flush=True)
        await anyio.sleep_forever()


@contextmanager
def hostile(
    machine: Machine, behaviour: str, argument: str | Path, listen: str = LOOPBACK
) -> Iterator[tuple[Running, str]]:
    """The process and its address."""
    with machine.module("tests.acceptance.hostile", behaviour, str(argument), listen) as process:
        yield process, process.next_line()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
