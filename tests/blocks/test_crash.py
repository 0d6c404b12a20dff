"""kill -9 at moments nobody chose: nothing that was acknowledged is lost, nothing wrong is served (A79)."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from stack.blocks import disk, packs
from stack.blocks.store import DiskStore
from stack.testing.conformance.stores import block
from tests.blocks.crash_child import FILE_BYTES, LEAF_BYTES, pinned_root, put_block
from tests.blocks.support import leaves_of, noise
from tests.blocks.test_marking import links

ROOT = Path(__file__).parent.parent.parent
KILLS = 4


def run_and_kill(mode: str, home: Path, first: int, lines: int) -> list[int]:
    """Let a process work until it has acknowledged `lines` things, kill it, and return all it acknowledged."""
    environment = {**os.environ, "PYTHONHASHSEED": str(lines)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.blocks.crash_child", mode, str(home), str(first)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(int(line))
            if len(said) >= lines:
                break
        child.send_signal(signal.SIGKILL)
        # What it still had said before it died counts too; a line that was cut does not.
        said += [int(line) for line in child.stdout if line.endswith(b"\n")]
    return said


def test_A79_acknowledged_puts_survive_kills(tmp_path: Path) -> None:
    randomness = random.Random(79)
    acknowledged: set[int] = set()

    async def check() -> None:
        async with DiskStore.open(tmp_path) as store:
            for number in acknowledged:
                cid, data = put_block(number)
                assert await store.get(cid) == data
            assert (await store.verify()).problem_count == 0

    for _ in range(KILLS):
        said = run_and_kill("puts", tmp_path, len(acknowledged) * 4, randomness.randrange(1, 150))
        acknowledged.update(said)
        anyio.run(check)
    assert len(acknowledged) >= KILLS


def test_A79_a_fetch_continues_after_kills(tmp_path: Path) -> None:
    randomness = random.Random(79)
    data = noise(FILE_BYTES)
    leaves = {leaf.offset: leaf for leaf in leaves_of(data, LEAF_BYTES)}
    recorded: set[int] = set()

    async def check() -> None:
        async with DiskStore.open(tmp_path) as store:
            for offset in recorded:
                assert await store.get(leaves[offset].cid) == data[offset : offset + LEAF_BYTES]
            assert (await store.verify()).problem_count == 0
            writer = await store.create_file(tmp_path / "film.part", FILE_BYTES)
            assert recorded <= {offset for offset, _ in await writer.present()}
            await writer.aclose()

    for _ in range(KILLS):
        recorded.update(run_and_kill("fetch", tmp_path, 0, randomness.randrange(1, 150)))
        assert -1 not in recorded
        anyio.run(check)
    assert run_and_kill("fetch", tmp_path, 0, 10**9)[-1] == -1
    assert (tmp_path / "film").read_bytes() == data
    assert not (tmp_path / "film.part").exists()


def test_A79_collections_that_are_killed_lose_nothing_that_is_pinned(tmp_path: Path) -> None:
    randomness = random.Random(79)
    pinned: set[int] = set()
    first = 0

    async def check() -> None:
        async with DiskStore.open(tmp_path) as store:
            for number in pinned:
                root, below = pinned_root(number)
                for cid, data in [root, *below]:
                    assert await store.get(cid) == data
            assert (await store.verify(links)).problem_count == 0

    for _ in range(KILLS):
        pinned.update(run_and_kill("collections", tmp_path, first, randomness.randrange(1, 10)))
        first = max(pinned) + 1
        anyio.run(check)


@pytest.mark.anyio
async def test_A79_a_power_cut_that_takes_all_unsynced_data_takes_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst disk: of the files it keeps exactly what was synced; the index survives with its last commit."""
    home, dead = tmp_path / "home", tmp_path / "dead"
    monkeypatch.setattr(packs, "PACK_BYTES_MAX", 20_000)
    synced: dict[str, bytes] = {}
    sync = disk.sync_data

    def keep(fd: int) -> None:
        sync(fd)
        synced[os.readlink(f"/proc/self/fd/{fd}")] = os.pread(fd, 1 << 24, 0)

    monkeypatch.setattr(disk, "sync_data", keep)
    data = noise(10_000)
    leaves = leaves_of(data, 1000)
    async with DiskStore.open(home) as store:
        writer = await store.create_file(tmp_path / "film.part", len(data))
        for number in range(40):
            await store.put([block(number)])
            if number % 5 == 0:
                await anyio.to_thread.run_sync(writer.write, leaves[number // 5], data[number * 200 :][:1000])
                await writer.checkpoint()
        # Written, but not acknowledged: the cut comes now.
        await anyio.to_thread.run_sync(writer.write, leaves[9], data[9000:])
        (dead / "blocks" / "packs").mkdir(parents=True)
        for name in ("index.sqlite", "index.sqlite-wal"):
            (dead / "blocks" / name).write_bytes((home / "blocks" / name).read_bytes())
        for name, content in synced.items():
            if name.endswith(".pack"):
                (dead / "blocks" / "packs" / Path(name).name).write_bytes(content)
    (tmp_path / "film.part").write_bytes(synced[str(tmp_path / "film.part")])
    async with DiskStore.open(dead) as store:
        for number in range(40):
            assert await store.get(block(number)[0]) == block(number)[1]
        for leaf in leaves[:8]:
            assert await store.get(leaf.cid) == data[leaf.offset : leaf.offset + 1000]
        assert await store.has([leaves[9].cid]) == [False]
        assert (await store.verify()).problem_count == 0
