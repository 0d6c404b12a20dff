"""What happens on one computer: shared in place, copied, read, cut."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from interop.kubo.daemon import Kubo
from stack.dag.unixfs.chunkers import parse_chunker
from tests.acceptance.kit import MIB, good
from tests.bench.figures import Figure
from tests.bench.meter import SECONDS_MAX, Scene, Work, alive, end, ipfs, same

TO_NOWHERE = ("sh", "-c", 'exec "$@" >/dev/null', "sh")
TO_A_FILE = ("sh", "-c", 'exec "$@" >got.bin', "sh")
"""In front of a command, whose process id stays."""
ADDING = ("add", "-Q", "--cid-version", "1")
LOOP_PART = 16
"""The plain loop gets so much less: it takes so much longer."""


@contextmanager
def share(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """In place, from exec to the ticket, beside `ipfs add --nocopy` without a daemon."""
    source, _ = scene.file()
    cids: dict[str, str] = {}

    def ours(place: Path) -> Figure:
        begun = time.monotonic()
        with scene.machine(place).sharing(source, timeout=SECONDS_MAX) as (process, shared):
            seconds = time.monotonic() - begun
            sharer = alive("sharer", process.pid)
        _always(cids, "stack", shared["cid"])
        return Figure(scene.size / seconds, (sharer,))

    def theirs(place: Path) -> Figure:
        shutil.copyfile(
            source, place / "file.bin"
        )  # it takes in place only what lies below the folder of its repository
        kubo = Kubo(place / "repo", settings={"Experimental.FilestoreEnabled": True})
        added = ipfs(kubo, *ADDING, "--nocopy", place / "file.bin", place=place)
        _always(cids, "ipfs", added.out)
        return Figure(scene.size / added.seconds, (end("sharer", added),))

    yield {"stack": ours, **({"ipfs add --nocopy": theirs} if scene.has("kubo") else {})}


@contextmanager
def copy(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """`stack add --copy` beside `ipfs add`, both without a daemon, into a new home."""
    source, digest = scene.file()
    cids: dict[str, str] = {}

    def ours(place: Path) -> Figure:
        machine = scene.machine(place)
        added = good(machine.run("add", "--copy", "-q", source, timeout=SECONDS_MAX))
        if "stack" not in cids:
            reading = scene.machine(place, prefix=TO_A_FILE)
            good(reading.run("cat", added.out.strip(), timeout=SECONDS_MAX))
            same(reading.folder / "got.bin", digest, "stack add --copy")
        _always(cids, "stack", added.out)
        return Figure(scene.size / added.seconds, (end("adder", added),))

    def theirs(place: Path) -> Figure:
        kubo = Kubo(place / "repo")
        added = ipfs(kubo, *ADDING, source, place=place)
        _always(cids, "ipfs", added.out)
        return Figure(scene.size / added.seconds, (end("adder", added),))

    yield {"stack": ours, **({"ipfs add": theirs} if scene.has("kubo") else {})}


@contextmanager
def cat(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """A file that the home has, to /dev/null, beside `ipfs cat` without a daemon."""
    source, digest = scene.file()
    kinds: dict[str, Work] = {}
    home = scene.place / "ours"
    cid = good(scene.machine(home).run("add", "-q", source, timeout=SECONDS_MAX)).out.strip()

    def ours(prefix: tuple[str, ...] = TO_NOWHERE) -> Figure:
        read = good(scene.machine(home, prefix=prefix).run("cat", cid, timeout=SECONDS_MAX))
        return Figure(scene.size / read.seconds, (end("reader", read),))

    ours(TO_A_FILE)
    same(scene.machine(home).folder / "got.bin", digest, "stack cat")
    kinds["stack"] = lambda _: ours()
    if scene.has("kubo"):
        kubo = Kubo(scene.place / "repo")
        root = ipfs(kubo, *ADDING, source, place=scene.place).out.strip()

        def theirs(_: Path) -> Figure:
            read = ipfs(kubo, "cat", root, place=scene.place, prefix=TO_NOWHERE)
            return Figure(scene.size / read.seconds, (end("reader", read),))

        kinds["ipfs cat"] = theirs
    yield kinds


@contextmanager
def chunkers(scene: Scene) -> Iterator[Mapping[str, Work]]:
    """How fast content-defined chunkers cut, beside a plain loop over the same bytes, in this process: MiB a CPU-second."""
    from tests.dag.unixfs.test_chunkers import buzhash_by_loop

    data = hashlib.shake_256(b"bench").digest(scene.size * MIB)

    def rate(work: Callable[[bytes], object], size: int) -> Work:
        def run(_: Path) -> Figure:
            begun = time.process_time()
            work(data[:size])
            return Figure(size / MIB / (time.process_time() - begun))

        return run

    yield {
        "stack, buzhash": rate(lambda some: parse_chunker("buzhash").feed(some), len(data)),
        "stack, rabin": rate(lambda some: parse_chunker("rabin").feed(some), len(data)),
        "a loop, buzhash": rate(buzhash_by_loop, len(data) // LOOP_PART),
    }


def _always(cids: dict[str, str], kind: str, cid: str) -> None:
    """Raises RuntimeError when the same file has another name than before."""
    if cids.setdefault(kind, cid) != cid:
        raise RuntimeError(f"{kind}: {cid} where it was {cids[kind]}")
