"""Whole files from process to process over loopback, beside Kubo and libtorrent."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, good, make_file
from tests.acceptance.process import Json, Running
from tests.bench.figures import End, Figure
from tests.bench.meter import SECONDS_MAX, Meter, Scene, Work, alive, end, ipfs, same

TORRENT_PEER = Path(__file__).with_name("torrent_peer.py")
TINY = 1024


@contextmanager
def get(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`stack share` to `stack get`, each with a new home."""
    source, digest = scene.file()
    with ExitStack() as stack:
        kinds: dict[str, Work] = {"stack": lambda place: ours(scene, place, source, digest)}
        if scene.has("kubo"):
            provider, root = stack.enter_context(_kubo_with(scene.place / "provider", source))
            kinds["ipfs get"] = lambda place: kubos(provider, root, place, scene.size, digest)
            kinds["ipfs pin add"] = lambda place: kubos(provider, root, place, scene.size, None)
        if (python := scene.libtorrent()) is not None:
            kinds["libtorrent"] = lambda place: _torrent(python, place, source, digest)
        yield kinds


@contextmanager
def variants(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """The same on the other event loop, and with blocks of 256 KiB, which is the size that Kubo makes."""
    source, digest = scene.file()

    def small_blocks(place: Path) -> Figure:
        sharer, receiver = scene.machine(place / "sharer"), scene.machine(place / "receiver")
        words = ("add", "-q", "--chunker", "size-262144", source)
        cid = good(sharer.run(*words, timeout=SECONDS_MAX)).out.strip()
        with sharer.daemon() as process:
            return _fetched(receiver, (cid, "--from", sharer.address()), digest, scene.size, sharer=process.pid)

    yield {
        "stack, 256 KiB blocks": small_blocks,
        "stack on trio": lambda place: ours(scene, place, source, digest, STACK_BACKEND="trio"),
        "stack": lambda place: ours(scene, place, source, digest),
    }


@contextmanager
def get_daemon(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`stack get` as a client of a daemon that runs; `ipfs get` always is one."""
    source, digest = scene.file()

    def through(place: Path) -> Figure:
        receiver = scene.machine(place / "receiver")
        with (
            receiver.daemon() as daemon,
            scene.machine(place / "sharer").sharing(source, timeout=SECONDS_MAX) as (process, shared),
        ):
            serving = {"sharer": process.pid, "daemon": daemon.pid}
            return _fetched(receiver, (shared["ticket"],), digest, scene.size, **serving)

    with ExitStack() as stack:
        kinds: dict[str, Work] = {"stack": through}
        if scene.has("kubo"):
            provider, root = stack.enter_context(_kubo_with(scene.place / "provider", source))
            kinds["ipfs get"] = lambda place: kubos(provider, root, place, scene.size, digest)
        yield kinds


@contextmanager
def start(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`get` of 1 KiB from exec to end: milliseconds."""
    source = make_file(scene.place / "tiny.bin", TINY)

    with scene.machine(scene.place / "sharer").sharing(source) as (_, shared):

        def tiny(place: Path) -> Figure:
            receiver = scene.machine(place)
            got = good(receiver.run("get", shared["ticket"], "-o", "got.bin", "--json"))
            assert (receiver.folder / "got.bin").read_bytes() == source.read_bytes()
            return Figure(got.seconds * 1000, (end("receiver", got),))

        yield {"stack": tiny}


def ours(scene: Scene, place: Path, source: Path, digest: str, **settings: str) -> Figure:
    """A share, and a fetch by a new process: MiB a second, its start included."""
    receiver = scene.machine(place / "receiver", **settings)
    with scene.machine(place / "sharer", **settings).sharing(source, timeout=SECONDS_MAX) as (process, shared):
        return _fetched(receiver, (shared["ticket"],), digest, scene.size, sharer=process.pid)


def whole_transfer(scene: Scene, place: Path, source: Path, digest: str) -> Figure:
    """The same, with what the sharer took before it was asked."""
    receiver = scene.machine(place / "receiver")
    with scene.machine(place / "sharer").sharing(source, timeout=SECONDS_MAX) as (process, shared):
        figure = _fetched(receiver, (shared["ticket"],), digest, scene.size)
        return Figure(figure.value, (alive("sharer", process.pid), *figure.ends))


def _fetched(receiver: Machine, words: Sequence[str], digest: str, size: int, **serving: int) -> Figure:
    """`stack get WORDS`, beside processes that have a part in it."""
    meter = Meter(**serving)
    got = good(receiver.run("get", *words, "-o", "got.bin", "--json", timeout=SECONDS_MAX))
    ends = (*meter.ends(), end("receiver", got))
    same(receiver.folder / "got.bin", digest, "stack get")
    return Figure(size / got.seconds, ends)


@contextmanager
def _kubo_with(place: Path, source: Path) -> Iterator[tuple[Kubo, str]]:
    """A daemon that has a file, and the file's CID."""
    with Kubo(place).running() as provider:
        added = provider.run("add", "-Q", "--cid-version", "1", str(source), timeout=SECONDS_MAX)
        yield provider, added.decode().strip()


def kubos(provider: Kubo, root: str, place: Path, size: int, digest: str | None) -> Figure:
    """`ipfs get`, or without a hash `ipfs pin add`, by a new Kubo from one that has the file."""
    with Kubo(place / "receiver").running() as receiver:
        receiver.run("swarm", "connect", provider.address)
        assert provider.process is not None and receiver.process is not None
        meter = Meter(sharer=provider.process.pid, receiver=receiver.process.pid)
        command = ("pin", "add", root) if digest is None else ("get", "-o", str(place / "got.bin"), root)
        got = ipfs(receiver, *command, place=place)
        ends = meter.ends()
    if digest is not None:
        same(place / "got.bin", digest, "ipfs get")
    return Figure(size / got.seconds, ends)


class Torrents:
    """Peers of libtorrent, each in a process."""

    def __init__(self, python: str, place: Path, source: Path) -> None:
        self._python = python
        self.place = place
        self.source = source
        self.torrent = place / "file.torrent"
        place.mkdir(parents=True, exist_ok=True)
        with self._process("make", str(source), str(self.torrent)) as made:
            good(made.wait(SECONDS_MAX))

    def peer(
        self, number: int, address: str, others: Sequence[str], *, rate: int = 0, prefix: Sequence[str] = ()
    ) -> Running:
        """Number 0 has the file; the others get it into the folder `tNUMBER`. `rate`: bytes a second that it sends at most."""
        folder = self.folder(number)
        folder.mkdir(exist_ok=True)
        return self._process("run", str(self.torrent), str(folder), address, str(rate), *others, prefix=prefix)

    def folder(self, number: int) -> Path:
        """Where a peer has the file."""
        return self.place / f"t{number}" if number else self.source.parent

    def _process(self, *words: str, prefix: Sequence[str] = ()) -> Running:
        command = [*prefix, self._python, str(TORRENT_PEER), *words]
        return Running(command, cwd=self.place, environment=os.environ)


def complete(peer: Running) -> Json:
    """What a peer of libtorrent says once it has everything."""
    while True:
        said: Json = json.loads(peer.next_line())
        if said["complete"]:
            return said


def _torrent(python: str, place: Path, source: Path, digest: str) -> Figure:
    seconds, ends = torrent(Torrents(python, place, source), digest, ("127.0.0.1", "127.0.0.2"))
    return Figure(source.stat().st_size / MIB / seconds, ends)


def torrent(
    torrents: Torrents, digest: str, addresses: Sequence[str], prefixes: Sequence[Sequence[str]] = ((), ())
) -> tuple[float, tuple[End, ...]]:
    """From one peer to another: seconds from the start of the receiver, and what it took."""
    with torrents.peer(0, addresses[0], (), prefix=prefixes[0]) as seed:
        complete(seed)
        meter = Meter(sharer=seed.pid)
        began = time.monotonic()
        with torrents.peer(1, addresses[1], addresses[:1], prefix=prefixes[1]) as receiver:
            seconds = float(complete(receiver)["at"]) - began
            sharer = meter.ends()
            got = receiver.kill()
    same(torrents.folder(1) / torrents.source.name, digest, "libtorrent")
    return seconds, (*sharer, end("receiver", got))
