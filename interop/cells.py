"""The cells of the matrix: what is run between two connected peers, one of which is ours.

Each compares what one side says with what only the other can know: a digest that begins with its secret, a count, a protocol that
has just been made up, an address as the other sees it, the bytes of a file that is new. None believes a peer that says it is done.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interop.driver import Line, Peer, wait_for_subscribers

SECONDS = 120.0
"""For one command."""
SETTLE_SECONDS = 20.0
"""For what a peer learns by and by: who the other is, a push, a mesh."""
POLL_SECONDS = 0.1
PIECE = 64 * 1024
MANY = 100
MANY_BYTES = 100_000
CHUNK = 256 * 1024
"""py-libp2p takes no block over 512 KiB."""
DECLINED_BYTES = 4096
UNKNOWN = "?"
"""What a peer has no way to tell: Kubo, how it was seen."""


class Wrong(Exception):
    """The cell has failed; the text says what was expected."""


@dataclass
class Pair:
    """Two peers, and what is known of them."""

    dialler: Peer
    listener: Peer
    ours: Peer
    sizes: dict[str, int]
    folder: Path
    made_up: str
    """A protocol that the listener has handled since before they met; empty when it cannot make one up."""
    speaks: str
    secret_of: dict[str, bytes]
    """What digests begin with, by peer."""
    met: tuple[int, int] = (0, 0)
    """How much each had said before they met."""


def say(peer: Peer, *words: object, answer: str, seconds: float = SECONDS) -> Line:
    """Give a command. Raises Wrong when the peer says that it failed."""
    since = len(peer.catch_up())
    peer.say(*words)
    line = peer.until(
        lambda: next((line for line in peer.heard[since:] if line[0] in (answer, "error")), None),
        f"say {answer}",
        seconds,
    )
    if line[0] == "error":
        raise Wrong(f"{peer.name}, told to {words[0]}: {' '.join(line[1:])[:300]}")
    return line


def settle(look: Callable[[], Line], is_right: Callable[[Line], bool], what: str) -> Line:
    """What `look` gives once it is right. Raises Wrong."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not is_right(line := look()):
        if time.monotonic() > deadline:
            raise Wrong(f"{what}; it says {' '.join(line)[:300]}")
        time.sleep(POLL_SECONDS)
    return line


def expect(found: object, expected: object, what: str) -> None:
    """Raises Wrong unless both are equal."""
    if found != expected:
        raise Wrong(f"{what}: {str(found)[:500]}, not {str(expected)[:200]}")


def connect(pair: Pair) -> None:
    """Each says who the other is."""
    pair.met = len(pair.dialler.catch_up()), len(pair.listener.catch_up())
    pair.dialler.say("connect", pair.listener.address)
    line = pair.dialler.until(
        lambda: next((line for line in pair.dialler.heard[pair.met[0] :] if line[0] in ("connected", "error")), None),
        "connect",
    )
    if line[0] == "error":
        raise Wrong(f"{pair.dialler.name} has not met {pair.listener.name}: {' '.join(line[1:])[:500]}")
    expect(line[1], pair.listener.id, "whom the dialler has met")
    pair.listener.wait("connected", pair.dialler.id, since=pair.met[1])


def identify(pair: Pair) -> None:
    """The dialler knows what the listener has just made up, and how the listener sees it."""
    dialler, listener = pair.dialler, pair.listener
    line = settle(
        lambda: _identified(dialler, listener),
        lambda line: line[0] == "identified" and (not pair.made_up or pair.made_up in line[5].split(",")),
        f"what it is told lacks {pair.made_up}",
    )
    if not pair.made_up:
        expect(line[2], say(listener, "agent", answer="agent")[1], "the agent")
    if line[3] == UNKNOWN:
        return
    other = listener if dialler is pair.ours else dialler
    _, _, local, remote = say(pair.ours, "address", other.id, answer="address")
    seen = local if dialler is pair.ours else remote
    expect(_socket(line[3]), _socket(seen), "where the listener sees the dialler")


def signed_record(pair: Pair) -> None:
    """The dialler has a record of the listener's addresses with a signature that it has verified."""
    line = settle(
        lambda: _identified(pair.dialler, pair.listener), lambda line: line[0] == "identified", "nothing is told"
    )
    expect(line[4], "signed", "the record of the listener's addresses")


def _identified(peer: Peer, of: Peer) -> Line:
    since = len(peer.catch_up())
    peer.say("identify", of.id)
    return peer.until(
        lambda: next((line for line in peer.heard[since:] if line[0] in ("identified", "unidentified", "error")), None),
        "say what identify told",
    )


def _socket(address: str) -> list[str]:
    return address.split("/")[1:5]


def push(pair: Pair) -> None:
    """A protocol that the listener makes up now is known to the dialler."""
    name = made_up()
    say(pair.listener, "handle", name, answer="handling")
    settle(
        lambda: _identified(pair.dialler, pair.listener),
        lambda line: line[0] == "identified" and name in line[5].split(","),
        f"nobody has told it of {name}",
    )


def made_up() -> str:
    """The name of a protocol that has never been."""
    return f"/interop/{secrets.token_hex(8)}"


def early_muxer(pair: Pair) -> None:
    """The muxer was agreed on by the handshake: no round trip was spent on it."""
    expect(_muxer(pair), "early", "when the muxer was agreed on")


def late_muxer(pair: Pair) -> None:
    """The muxer was agreed on after the handshake."""
    expect(_muxer(pair), "late", "when the muxer was agreed on")


def _muxer(pair: Pair) -> str:
    other, met = (pair.listener, pair.met[0]) if pair.dialler is pair.ours else (pair.dialler, pair.met[1])
    return pair.ours.wait("muxer", other.id, since=met)[2]


def ping(pair: Pair) -> None:
    """32 random bytes come back (to ours), or have come (to ours)."""
    since = len(pair.ours.catch_up())
    expect(say(pair.dialler, "ping", pair.listener.id, answer="pong")[1], pair.listener.id, "who answers")
    if pair.listener is pair.ours:
        pair.ours.wait("pinged", pair.dialler.id, since=since)


def perf_up(pair: Pair) -> None:
    """The listener has counted what the dialler was told to send."""
    _perf(pair, pair.sizes["perf"] + 1, 0)


def perf_down(pair: Pair) -> None:
    """The other way round."""
    _perf(pair, 0, pair.sizes["perf"] + 1)


def _perf(pair: Pair, up: int, down: int) -> None:
    since = len(pair.listener.catch_up())
    line = say(pair.dialler, "perf", pair.listener.id, up, down, answer="performed")
    expect(line[2:], (str(up), str(down)), "bytes sent and received by the dialler")
    served = pair.listener.wait("served-perf", pair.dialler.id, since=since)
    expect(served[2:], (str(up), str(down)), "bytes received and sent by the listener")


def half_close(pair: Pair) -> None:
    """The answer comes when the dialler has ended its side, and is the digest of what it sent and of the listener's secret."""
    _digests(pair, 1000, 1)


def large_stream(pair: Pair) -> None:
    """As `half_close`, of many bytes."""
    _digests(pair, pair.sizes["stream"] + 1, 1)


def many_streams(pair: Pair) -> None:
    """As `half_close`, on streams that are all open at the same time."""
    _digests(pair, MANY_BYTES, MANY)


def _digests(pair: Pair, size: int, count: int) -> None:
    name = secrets.token_hex(8)
    line = say(pair.dialler, "digest", pair.listener.id, name, size, count, answer="digests")
    secret = pair.secret_of[pair.listener.name]
    expect(line[2].split(","), [_digest(secret, f"{name}-{index}", size) for index in range(count)], "digests")


def _digest(secret: bytes, name: str, size: int) -> str:
    digest = hashlib.sha256(secret)
    for block in range(-(-size // PIECE)):
        piece = hashlib.sha256(f"{name}/{block}".encode()).digest() * (PIECE // 32)
        digest.update(piece[: size - block * PIECE])
    return digest.hexdigest()


def reset(pair: Pair) -> None:
    """The listener sees that a stream was reset, and not that it ended."""
    since = len(pair.listener.catch_up())
    say(pair.dialler, "reset", pair.listener.id, answer="resetting")
    expect(pair.listener.wait("was", pair.dialler.id, since=since)[2], "reset", "what the listener saw")


def gossip(pair: Pair) -> None:
    """New messages go both ways, under the names of their authors, by the protocol that both have."""
    topic = secrets.token_hex(4)
    other = pair.listener if pair.dialler is pair.ours else pair.dialler
    if pair.speaks:
        met = pair.met[0] if pair.dialler is pair.ours else pair.met[1]
        expect(pair.ours.wait("speaks", other.id, since=met)[2], pair.speaks, "the protocol")
    for peer in (other, pair.ours):
        say(peer, "subscribe", topic, answer="subscribed")
    wait_for_subscribers(pair.ours, topic, [other])
    wait_for_subscribers(other, topic, [pair.ours])
    for author, reader in ((pair.ours, other), (other, pair.ours)):
        _reaches(author, reader, topic)
    for peer in (other, pair.ours):  # py-libp2p cannot leave a topic in which nobody is any more
        say(peer, "unsubscribe", topic, answer="unsubscribed")


def _reaches(author: Peer, reader: Peer, topic: str) -> None:
    """Meshes take a heartbeat or two, and what is published before they stand may be lost."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        data = os.urandom(DECLINED_BYTES).hex()
        say(author, "publish", topic, data, answer="published")
        try:
            reader.wait("message", topic, author.id, data, seconds=2.0)
            return
        except TimeoutError:
            if time.monotonic() > deadline:
                raise Wrong(f"nothing that {author.name} publishes reaches {reader.name}") from None


def file_v0(pair: Pair) -> None:
    """The dialler has the bytes of a file that was new to the listener."""
    _content(pair, 0, tree=False)


def file_v1(pair: Pair) -> None:
    """With CIDv1 and raw leaves."""
    _content(pair, 1, tree=False)


def tree(pair: Pair) -> None:
    """A directory of new files."""
    _content(pair, 1, tree=True)


def _content(pair: Pair, version: int, *, tree: bool) -> None:
    source, target = (pair.folder / f"{secrets.token_hex(4)}-{what}" for what in ("given", "got"))
    _write_tree(source) if tree else _write_file(source, pair.sizes["file"])
    root = say(pair.listener, "serve", source, version, CHUNK, answer="serving")[1]
    expect(root.startswith("Qm"), version == 0, "whether the CID is of version 0")
    say(pair.dialler, "fetch", pair.listener.id, root, target, answer="fetched")
    expect(_digests_of(target), _digests_of(source), "what was fetched")


def _write_file(path: Path, size: int) -> None:
    """Random at first, then a block that is repeated, then zeros; not a whole number of blocks."""
    random, repeated = os.urandom(size // 2), os.urandom(CHUNK) * (size // 4 // CHUNK + 1)
    path.write_bytes(random + repeated + bytes(size // 4 + 1))


def _write_tree(root: Path) -> None:
    (root / "deep" / "er").mkdir(parents=True)
    same = os.urandom(1000)
    for name in ("one", "two", "deep/the same", "deep/er/небольшой"):
        (root / name).write_bytes(same)
    (root / "empty").write_bytes(b"")
    _write_file(root / "deep" / "several blocks", 3 * CHUNK)
    for number in range(50):
        (root / "deep" / "er" / str(number)).write_bytes(os.urandom(8) * number)


def _digests_of(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


CELLS: dict[str, Callable[[Pair], None]] = {
    "connect": connect,
    "identify": identify,
    "signed record": signed_record,
    "push": push,
    "early muxer": early_muxer,
    "late muxer": late_muxer,
    "ping": ping,
    "perf up": perf_up,
    "perf down": perf_down,
    "half-close": half_close,
    "reset": reset,
    "large stream": large_stream,
    "100 streams": many_streams,
    "gossip": gossip,
    "file CIDv0": file_v0,
    "file CIDv1": file_v1,
    "tree": tree,
}
"""By their names in matrix.toml."""
