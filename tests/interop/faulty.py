"""A peer of the matrix that is ours, but for one fault: `python faulty.py FAULT --listen ...`."""

import os
import sys

import anyio

fault = sys.argv.pop(1)
if fault == "exits":
    sys.exit(0)

if fault == "agrees":  # with everything, and does nothing
    name = "12D3KooWHPc9zEaSR4xD3DkdyTiBwLshHYepGp9fyjoDskqXv52y"
    print(f"ready {name} /ip4/127.0.0.1/tcp/1/p2p/{name}", flush=True)
    for line in sys.stdin:
        if line == "quit\n":
            break
        name, *words = line.split()
        for answer in ("handling", "connected", "digests", "subscribed"):
            print(answer, *words, flush=True)
    sys.exit(0)

from interop.ours import peer, streams  # noqa: E402 - the peers above need none of it
from stack.identity.keys import generate  # noqa: E402
from stack.identity.peer_id import PeerId  # noqa: E402
from stack.muxers import MUXERS  # noqa: E402

say = peer.say


def with_another_name(*words: object) -> None:
    """It says that it is somebody else."""
    if words[0] == "ready":
        other = PeerId.of(generate().public)
        words = ("ready", other, str(words[2]).rpartition("/")[0] + f"/{other}")
    say(*words)


class Dropping:
    """A digest that never sees the first byte of what it is given."""

    def __init__(self, begin: bytes) -> None:
        self._digest = streams.hashlib.sha256(begin)
        self._dropped = False

    def update(self, data: memoryview) -> None:
        """See hashlib."""
        self._digest.update(data if self._dropped else data[1:])
        self._dropped = True

    def digest(self) -> bytes:
        """See hashlib."""
        return self._digest.digest()


class Hashlib:
    """What drops bytes."""

    sha256 = Dropping


if fault == "has another key":
    peer.say = with_another_name
elif fault == "has another muxer":
    MUXERS["/yamux/0.0.0"] = MUXERS.pop("/yamux/1.0.0")
elif fault == "drops bytes":
    streams.hashlib = Hashlib  # type: ignore[assignment]
elif fault == "leaves":  # content, as soon as there is something to do
    streams.Streams._serve_digest = lambda self, stream: os._exit(0)  # type: ignore[assignment, method-assign]
else:
    assert fault == "is right", fault
anyio.run(peer.main)
