"""`stack bench`: what this machine does, and which step limits."""

import hashlib
import os
import time
from pathlib import Path

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async, temporary_folder
from stack.cli.groups import Group
from stack.cli.session import open_api
from stack.cli.types import FROM, SIZE, PathType, config
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Perf, PerfResult
from stack.values import dataclass

PIECE = 1 << 20
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How fast one step is here."""

    what: str
    mib_per_s: float


@click.group(cls=Group)
def bench() -> None:
    """What this machine does, and which step limits."""


@bench.command()
@click.argument("address", type=FROM)
@click.option("--upload", type=SIZE, default=256 << 20, help="Bytes to send (default: 256MiB).")
@click.option("--download", type=SIZE, default=256 << 20, help="Bytes to receive (default: 256MiB).")
@answers(PerfResult)
def perf(address: Multiaddr, upload: int, download: int, as_json: bool) -> None:
    """Move bytes to and from a peer over /perf/1.0.0 on one stream."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            result = await api.ask(Perf(address=address, upload=upload, download=download))
        if as_json:
            output.json_line(result)
            return
        for verb, moved, seconds in (("up", upload, result.upload_secs), ("down", download, result.download_secs)):
            rate = moved / seconds if seconds > 0 else 0.0
            output.data(f"{verb:4} {output.size(moved)} in {output.duration(seconds)}, {output.size(rate)}/s")

    run_async(work)


@bench.command("hash")
@click.option("--size", type=SIZE, default=512 << 20, help="Bytes to hash (default: 512MiB).")
@answers(Figure, many=True)
def hash_(size: int, as_json: bool) -> None:
    """SHA-256 and the Noise cipher, on one thread and on all cores."""
    cores = os.cpu_count() or 1
    figures = {
        "sha256_one_thread": _rate(size, 1, _sha256),
        f"sha256_{cores}_threads": _rate(size, cores, _sha256),
        "chacha20poly1305_one_thread": _rate(size, 1, _seal),
    }
    _report(figures, as_json)


@bench.command()
@click.option("--size", type=SIZE, default=256 << 20, help="Bytes to write (default: 256MiB).")
@click.option(
    "--directory",
    default=None,
    type=PathType(file_okay=False),
    metavar="PATH",
    help="Where to write (default: the home).",
)
@answers(Figure, many=True)
def store(size: int, directory: str | None, as_json: bool) -> None:
    """Write, sync and read blocks of 1 MiB through the block store."""
    home = config("command").home
    assert home is not None
    place = Path(directory) if directory else home
    place.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def work() -> None:
        from stack.blocks.store import DiskStore
        from stack.multiformats.cid import Cid

        with temporary_folder("bench-", place) as folder:
            blocks = [os.urandom(PIECE) for _ in range(min(16, max(1, size // PIECE)))]
            rounds = max(1, size // (len(blocks) * PIECE))
            async with DiskStore.open(folder) as disk:
                wrote, cids = 0.0, []
                for number in range(rounds):
                    fresh = [number.to_bytes(8, "big") + block[8:] for block in blocks]
                    named = [(Cid.of(block), block) for block in fresh]
                    cids += [cid for cid, _ in named]
                    start = time.perf_counter()
                    await disk.put(named)
                    wrote += time.perf_counter() - start
                start = time.perf_counter()
                for cid in cids:
                    await disk.get(cid)
                read = time.perf_counter() - start
            total = len(cids) * PIECE / MEBIBYTE
            _report({"write_synced": total / wrote, "read_and_hash": total / read}, as_json)

    run_async(work)


def _sha256(size: int) -> None:
    data = bytes(PIECE)
    for _ in range(max(1, size // PIECE)):
        hashlib.sha256(data).digest()


def _seal(size: int) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    cipher, frame, nonce = ChaCha20Poly1305(bytes(32)), memoryview(bytearray(65535)), bytes(12)
    for _ in range(max(1, size // 65519)):
        cipher.encrypt_into(nonce, frame[:65519], b"", frame)


def _rate(size: int, threads: int, work: object) -> float:
    from concurrent.futures import ThreadPoolExecutor

    assert callable(work)
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(work, [size] * threads))
        return size * threads / MEBIBYTE / (time.perf_counter() - start)


def _report(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        output.json_line([Figure(what=name, mib_per_s=round(rate, 1)) for name, rate in figures.items()])
        return
    for name, rate in figures.items():
        output.data(f"{name.replace('_', ' '):32} {rate:8.0f} MiB/s")
    slowest = min(figures, key=lambda name: figures[name])
    output.note(f"the slowest step here is {slowest.replace('_', ' ')}")
