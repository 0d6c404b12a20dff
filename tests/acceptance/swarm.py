"""Many who fetch one file at once, and one who fetches from many: real processes, each on a computer (namespace) of its own.

Every upload is limited with `--up`. Receivers have the sharer's ticket and nothing else: of each other they learn through the
providers protocol.
"""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from stack.control.client import ControlClient
from stack.errors import StackError
from stack.multiformats.cid import Cid
from stack.node.api import GetPresence
from stack.node.home import Home
from tests.acceptance.hostile import hostile
from tests.acceptance.kit import Json, Machine, Running, good, make_file, sha256
from tests.acceptance.namespaces import Star

ALONE_MOST = 1.6
"""Times what one receiver needs that a swarm may take."""
STALL_MOST = 5.0
"""Seconds that a provider may cost that stands still."""
TOGETHER_LEAST = 0.9
"""Of the rates of all providers, what a fetch from them reaches."""
ANY_ADDRESS = "/ip4/0.0.0.0/tcp/0"
WATCH_SECONDS = 0.1
"""Between two looks at what the receivers hold together."""


@dataclass(frozen=True, slots=True)
class SwarmReport:
    """What a swarm showed."""

    seconds: float
    """From the start of the receivers' processes until the last one has its file."""
    union_seconds: float
    """Until they held everything together, when the sharer was killed."""
    copies: float
    """Sent by the sharer until then, by its own counter."""

    def __str__(self) -> str:
        return (
            f"all complete after {self.seconds:.1f} s; together after {self.union_seconds:.1f} s, when the sharer was killed "
            f"and had sent {self.copies:.2f} copies"
        )


def computers(star: Star, place: Path) -> list[Machine]:
    """One on each leg of the star; number 0 is the sharer's."""
    return [
        Machine(place / f"m{number}", listen=ANY_ADDRESS, prefix=star.prefix(number))
        for number in range(len(star.computers))
    ]


def fetched_alone(star: Star, place: Path, source: Path, rate: int) -> float:
    """Seconds that one receiver takes by itself, its process's start included."""
    sharer, receiver = computers(star, place)[:2]
    with sharer.sharing(source, "--up", str(rate)) as (_, shared):
        start = time.monotonic()
        with receiver.start("get", shared["ticket"], "-o", "got.bin", "--json", "--up", str(rate)) as process:
            process.next_json(60 + 4 * source.stat().st_size / rate)
            seconds = time.monotonic() - start
    assert sha256(receiver.folder / "got.bin") == sha256(source)
    return seconds


def swarm(star: Star, place: Path, source: Path, rate: int) -> SwarmReport:
    """All computers but the first fetch from it at once; it is killed as soon as they hold everything together."""
    sharer, *receivers = computers(star, place)
    size = source.stat().st_size
    patience = 60 + 6 * size / rate
    with ExitStack() as stack:
        sharing, shared = stack.enter_context(sharer.sharing(source, "--up", str(rate)))
        start = time.monotonic()
        fetches = [
            stack.enter_context(
                receiver.start("get", shared["ticket"], "-o", "got.bin", "--seed", "--json", "--up", str(rate))
            )
            for receiver in receivers
        ]
        anyio.run(_hold_everything, Cid.parse(shared["cid"]), receivers, patience)
        union_seconds = time.monotonic() - start
        sent = sharer.bytes_sent()
        sharing.kill()
        for fetch in fetches:
            fetch.next_json(patience)
        seconds = time.monotonic() - start
    digest = sha256(source)
    assert all(sha256(receiver.folder / "got.bin") == digest for receiver in receivers)
    return SwarmReport(seconds, union_seconds, sent / size)


async def _hold_everything(root: Cid, receivers: Sequence[Machine], patience: float) -> None:
    """Wait until the receivers have every leaf together."""
    held = dict.fromkeys(range(len(receivers)), 0)
    leaves = 0

    async def look(number: int) -> None:
        nonlocal leaves
        address = Home(receivers[number].home).address()
        if address is None:
            return
        with contextlib.suppress(StackError):  # it has not opened its home yet
            presence = await ControlClient(address).ask(GetPresence(cid=root))
            leaves = max(leaves, presence.leaves)
            held[number] = int.from_bytes(bytes.fromhex(presence.bitmap), "little")

    with anyio.fail_after(patience):
        while True:
            for number in held:
                await look(number)
            union = 0
            for bits in held.values():
                union |= bits
            if leaves and union.bit_count() >= leaves:
                return
            await anyio.sleep(WATCH_SECONDS)


@contextmanager
def providers(
    star: Star, place: Path, source: Path, rate: int, count: int
) -> Iterator[tuple[list[Running], list[Json], Machine]]:
    """So many computers that share one file, each limited to `rate`; and the receiver, which is computer 0."""
    receiver, *sharers = computers(star, place)
    with ExitStack() as stack:
        started = [
            stack.enter_context(sharer.sharing(source, "--open", "--up", str(rate))) for sharer in sharers[:count]
        ]
        yield [process for process, _ in started], [shared for _, shared in started], receiver


def address_of(shared: Json) -> str:
    """Where a share can be dialled from another computer, with its peer id."""
    address = next(address for address in shared["addresses"] if "/198.18." in address)
    return address if "/p2p/" in address else f"{address}/p2p/{shared['peer_id']}"


def from_all(addresses: Sequence[str]) -> list[str]:
    """Flags of `stack get`."""
    return [word for address in addresses for word in ("--from", address)]


def fetched_from_many(star: Star, place: Path, source: Path, *, rate: int, count: int, stop: bool) -> float:
    """Seconds for a fetch from `count` providers, the process's start included; with `stop` one stands still half-way."""
    size = source.stat().st_size
    with providers(star, place, source, rate, count) as (processes, shared, receiver):
        flags = from_all([address_of(each) for each in shared])
        start = time.monotonic()
        with receiver.start("get", shared[0]["cid"], "-o", "got.bin", "--jsonl", *flags) as fetch:
            if stop:
                fetch.next_progress(size // 2)
                processes[0].send(signal.SIGSTOP)
            fetch.next_event("FetchFinished", 60 + 4 * size / rate)
            seconds = time.monotonic() - start
        assert sha256(receiver.folder / "got.bin") == sha256(source)
        return seconds


def one_less(count: int, stop: bool) -> float:
    """How many times longer a fetch takes when, with `stop`, one of `count` providers gives half of its part only."""
    return 0.5 + 0.5 * count / (count - 1) if stop else 1.0


def fetched_past_a_liar(star: Star, place: Path, source: Path, *, rate: int, count: int) -> tuple[float, str, Json]:
    """One of `count` providers sends wrong bytes: seconds, who it is, and what the fetch says of it."""
    patience = 60 + 4 * source.stat().st_size / rate
    with providers(star, place, source, rate, count - 1) as (_, shared, receiver):
        liar = Machine(place / "liar", prefix=star.prefix(count))
        archive = liar.folder / "file.car"
        cid = good(liar.run("add", "-q", source, timeout=300)).out.strip()
        good(liar.run("car", "export", cid, archive, timeout=300))
        with hostile(liar, "wrong", archive, ANY_ADDRESS) as (_, listening):
            address = listening.replace("0.0.0.0", star.address(count))
            flags = from_all([address, *(address_of(each) for each in shared)])
            start = time.monotonic()
            with receiver.start("get", cid, "-o", "got.bin", "--jsonl", *flags) as fetch:
                dropped = fetch.next_event("PeerDropped", patience)
                fetch.next_event("FetchFinished", patience)
                seconds = time.monotonic() - start
        assert sha256(receiver.folder / "got.bin") == sha256(source)
        receiver.verified()
        return seconds, address.rpartition("/")[2], dropped


def made(place: Path, size: int) -> Path:
    """The file that a swarm shares."""
    return make_file(place / "file.bin", size)
