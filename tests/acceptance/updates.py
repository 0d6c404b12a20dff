"""A tree of many files that changes: shared again, and brought to its new version by a receiver that is killed while it writes."""

import os
import random
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.kit import Json, Machine, Running, good
from tests.acceptance.scenarios import free_port

FILES_A_DIRECTORY = 500
CHANGED_PART = 100
"""One file in so many is another one in the next version."""
PART_NAME = re.compile(r"\.[0-9a-f]{8}\.part$")
START_SECONDS = 3600.0

Look = tuple[int, int, int]
"""Inode, size, time of modification."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What one `stack share` took until its ticket."""

    seconds: float
    asked: int
    """Bytes of its read calls, those of its own index included (rchar)."""
    from_disk: int
    """Bytes that came from the disk (read_bytes)."""


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What came of it."""

    files: int
    size: int
    shares: tuple[Sharing, ...]
    """The tree for the first time, unchanged, changed."""
    received: int
    """By an update that nobody killed."""
    seconds: float
    """It took."""
    kills: tuple[tuple[int, int], ...]
    """At each: files that were new by then, and files that were half written beside their names."""

    @property
    def within(self) -> int:
        """Kills that came while files were being written, or between two of them."""
        changed = self.files // CHANGED_PART
        return sum(parts > 0 or 0 < new < changed for new, parts in self.kills)

    def __str__(self) -> str:
        told = [
            f"{name}: ticket after {each.seconds:.1f} s, read {each.asked / self.size:.2%} of the bytes,"
            f" {each.from_disk / self.size:.2%} from the disk"
            for name, each in zip(("first", "unchanged", "changed"), self.shares, strict=True)
        ]
        half = sum(parts > 0 for _, parts in self.kills)
        return "\n".join(
            [
                f"{self.files} files, {self.size:,} bytes, {self.files // CHANGED_PART} of them changed",
                *told,
                f"update: {self.received / self.size:.2%} received in {self.seconds:.1f} s",
                f"{len(self.kills)} kills, {self.within} within the writing, {half} with files half written: each file old or new",
            ]
        )


def make_tree(tree: Path, files: int, size: int) -> None:
    """Sparse files, each different."""
    for number in range(files):
        if number % FILES_A_DIRECTORY == 0:
            (tree / f"{number // FILES_A_DIRECTORY}").mkdir(parents=True)
        with _file(tree, number).open("wb") as file:
            file.write(_head(number, 1))
            file.truncate(size)


def change_tree(tree: Path, changed: list[int]) -> None:
    """The second version of some files, as a program writes that changes them in place."""
    for number in changed:
        with _file(tree, number).open("r+b") as file:
            file.write(_head(number, 2))


def _file(tree: Path, number: int) -> Path:
    return tree / f"{number // FILES_A_DIRECTORY}" / f"{number}"


def _head(number: int, version: int) -> bytes:
    return b"%09d version %d\n" % (number, version)


def _look(tree: Path, number: int) -> Look:
    status = _file(tree, number).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def share(machine: Machine, tree: Path) -> tuple[Sharing, Json]:
    """Share until the ticket is there; the share is kept, so that who shares again has all of it on record."""
    began = time.monotonic()
    with machine.sharing("--keep", tree, timeout=START_SECONDS) as (process, shared):
        seconds = time.monotonic() - began
        figures = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
        good(process.stop(signal.SIGINT, timeout=600))
    return Sharing(seconds, int(figures["rchar"]), int(figures["read_bytes"])), shared


def updated_and_killed(place: Path, *, files: int, size: int, kills: int, seed: int) -> UpdateReport:
    """Share, fetch, change, share, update: one receiver undisturbed, another one killed again and again while it writes."""
    chance = random.Random(seed)
    sharer = Machine(place / "a", listen=f"/ip4/127.0.0.1/tcp/{free_port()}")
    receiver = Machine(place / "b")
    tree = sharer.folder / "tree"
    make_tree(tree, files, size)
    first, shared = share(sharer, tree)
    with sharer.daemon():
        for name in ("whole", "killed"):
            good(receiver.run("get", shared["ticket"], "-o", name, timeout=START_SECONDS))
    unchanged, _ = share(sharer, tree)
    changed = sorted(chance.sample(range(files), files // CHANGED_PART))
    before = {name: [_look(receiver.folder / name, number) for number in range(files)] for name in ("whole", "killed")}
    change_tree(tree, changed)
    again, shared = share(sharer, tree)
    fallen: list[tuple[int, int]] = []
    with sharer.daemon():
        update = ("get", shared["ticket"], "--update", "-o")
        whole = good(receiver.run(*update, "whole", "--json", timeout=START_SECONDS))
        _check(receiver.folder / "whole", changed, before["whole"], size, complete=True)
        for _ in range(kills):
            moment = chance.randint(1, max(1, 2 * len(changed) // (kills + 1) - 1)), chance.uniform(0.0, 0.03)
            with receiver.start(*update, "killed", "--jsonl") as process:
                if _killed(process, *moment):
                    fallen.append(_check(receiver.folder / "killed", changed, before["killed"], size, complete=False))
        good(receiver.run(*update, "killed", timeout=START_SECONDS))
    _check(receiver.folder / "killed", changed, before["killed"], size, complete=True)
    shares = (first, unchanged, again)
    return UpdateReport(files, files * size, shares, whole.json["received"], whole.seconds, tuple(fallen))


def _killed(process: Running, after: int, seconds: float) -> bool:
    """End it when it has begun with so many files, and some time later; False when it was complete before."""
    told = 0
    while told < after:
        event = process.next_json(START_SECONDS)["event"]
        if event == "FetchFinished":
            break
        told += event == "EntryUpdated"
    process.goes_on_for(seconds)
    return process.kill().code == -signal.SIGKILL


def _check(tree: Path, changed: list[int], before: list[Look], size: int, *, complete: bool) -> tuple[int, int]:
    """Each file is the old or the new one, whole; what is in both versions was not touched. How many are new, and how many are being
    written beside their names."""
    new = 0
    for number in changed:
        data = _file(tree, number).read_bytes()
        versions = [_head(number, version) for version in (1, 2)]
        assert data in [head + bytes(size - len(head)) for head in versions], (
            f"{number} is neither the old nor the new one"
        )
        new += data.startswith(versions[1])
    untouched = set(range(len(before))) - set(changed)
    assert all(_look(tree, number) == before[number] for number in untouched), "a file was touched that did not change"
    assert not complete or new == len(changed)
    names = [name for _, _, names in os.walk(tree) for name in names]
    parts = sum(PART_NAME.search(name) is not None for name in names)
    assert len(names) - parts == len(before)
    return new, parts
