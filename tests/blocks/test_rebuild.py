"""A rebuild of the index that is cut off, by a kill or by what the disk says, at any step: what was pinned stays, what was closed too."""

import errno
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.blocks import rebuild
from stack.blocks.commits import puts_of
from stack.blocks.core import StoreCore
from stack.blocks.database import Database
from stack.blocks.interfaces import Block, PinKind, RealmState
from stack.blocks.rebuild import DAMAGED_NAME, INDEX_NAME
from stack.blocks.requests import Request
from stack.errors import CorruptStore, NoSpace, StoreError
from stack.testing.conformance.stores import block
from stack.trace import TraceEvent

MINE, CLOSED, OPEN = block(1), block(2), block(3)
STEPS = ("open", "os.rename", "os.remove", "os.truncate", "sqlite3.connect")
"""What a process asks of the file system, as far as the interpreter tells of it."""
CUT = 9


def ignored(event: TraceEvent) -> None:
    pass


def put(core: StoreCore, one: Block, realm: object = None) -> None:
    [request] = puts_of([one], realm)  # type: ignore[arg-type] # an id
    core.commits.submit(request)
    core.commits.commit_next()
    assert isinstance(request, Request) and request.error is None


def make(blocks: Path) -> None:
    core = StoreCore(blocks, None, ignored)
    realm = core.index.realms.add(b"secret", CLOSED[0], RealmState.CLOSED)
    put(core, MINE)
    put(core, OPEN)
    put(core, CLOSED, realm.id)
    with core.database.writing() as connection:
        core.index.add_pin(connection, bytes(MINE[0]), PinKind.USER, "mine")
    core.close()


def check(blocks: Path) -> None:
    core = StoreCore(blocks, None, ignored)
    try:
        assert core.all_pins() == [(MINE[0], PinKind.USER, "mine")]
        assert [realm.root for realm in core.index.realms.all()] == [CLOSED[0]]
        names = [cid.multihash for cid, _ in (MINE, CLOSED, OPEN)]
        assert [size is not None for size in core.locations.sizes_for(names, frozenset())] == [True, False, True]
        assert [core.reader.get(cid) for cid, _ in (MINE, CLOSED, OPEN)] == [data for _, data in (MINE, CLOSED, OPEN)]
    finally:
        core.close()
    assert {path.name for path in blocks.iterdir()} <= {"packs", "lock", "reserve", INDEX_NAME, *aside(blocks)}


def aside(blocks: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in blocks.iterdir() if path.name.startswith(DAMAGED_NAME)}


def cut_at(step: int, cut: Callable[[], None], blocks: Path) -> bool:
    """Rebuild in a process of its own, in which `cut` happens before a step and, where it returns, before all that follow; whether it
    came to its end."""
    child = os.fork()
    if not child:
        left = step

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    cut()

        code = 1
        try:
            sys.addaudithook(hook)
            StoreCore.rebuild(blocks, ignored).close()
            code = 0
        except (StoreError, OSError):
            code = CUT
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, CUT)
    return status == 0


def killed() -> None:
    os._exit(CUT)


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("opened_between", [True, False])
@pytest.mark.parametrize("cut", [killed, full])
def test_a_rebuild_that_is_cut_off_at_any_step_loses_neither_pins_nor_for_whom_blocks_are(
    tmp_path: Path, cut: Callable[[], None], opened_between: bool
) -> None:
    blocks = tmp_path / "blocks"
    make(blocks)
    kept: dict[str, int] = {}
    for step in range(200):
        ended = cut_at(step, cut, blocks)
        if opened_between or ended:
            check(blocks)
        assert kept.items() <= aside(blocks).items(), "what was put aside before is still there"
        kept = aside(blocks)
        if ended:
            break
    assert ended and step > 10


@pytest.mark.parametrize("cut", [killed, full])
def test_the_log_of_a_damaged_index_is_never_found_beside_the_new_one(tmp_path: Path, cut: Callable[[], None]) -> None:
    """SQLite would play it back."""
    make(tmp_path)
    core = StoreCore(tmp_path, None, ignored)
    put(core, block(4))
    log = (tmp_path / f"{INDEX_NAME}-wal").read_bytes()
    core.close()
    index = (tmp_path / INDEX_NAME).read_bytes()
    for step in range(200):
        for path in tmp_path.glob(f"{INDEX_NAME}*"):
            path.unlink()
        (tmp_path / INDEX_NAME).write_bytes(b"no database" + index[11:])
        (tmp_path / f"{INDEX_NAME}-wal").write_bytes(log)
        ended = cut_at(step, cut, tmp_path)
        try:
            core = StoreCore(tmp_path, None, ignored)
        except CorruptStore:
            core = StoreCore.rebuild(tmp_path, ignored)
        assert core.database.quick_check() == [] and len(core.index.multihashes(b"", 9)) == 4
        assert core.locations.sizes_for([OPEN[0].multihash], frozenset()) == [None]
        core.close()
        [kept] = tmp_path.glob(f"{DAMAGED_NAME}")
        assert kept.read_bytes()[:11] == b"no database" and [*tmp_path.glob(f"{DAMAGED_NAME}.*")] == []
        if ended:
            break
    assert ended and step > 10


def test_one_whose_index_cannot_be_written_leaves_the_old_one_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NoSpace("the disk is full")

    make(tmp_path)
    for name in ("recover", "Packs"):
        with monkeypatch.context() as patched:
            patched.setattr(rebuild, name, refuse)
            with pytest.raises(NoSpace):
                StoreCore.rebuild(tmp_path, ignored)
    with monkeypatch.context() as patched:
        patched.setattr(Database, "checkpoint", refuse)
        with pytest.raises(NoSpace):
            StoreCore.rebuild(tmp_path, ignored)
    assert aside(tmp_path) == {}
    check(tmp_path)


def test_what_was_put_aside_stays_when_the_next_is(tmp_path: Path) -> None:
    make(tmp_path)
    for _ in range(3):
        StoreCore.rebuild(tmp_path, ignored).close()
    assert sorted(aside(tmp_path)) == [DAMAGED_NAME, f"{DAMAGED_NAME}.2", f"{DAMAGED_NAME}.3"]
    check(tmp_path)


def test_an_index_that_cannot_be_looked_into_now_is_not_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has it locked, or the disk does not answer: without a word all pins would be gone."""
    monkeypatch.setattr("stack.blocks.database.BUSY_MS", 10)
    make(tmp_path)
    foreign = sqlite3.connect(tmp_path / INDEX_NAME, isolation_level=None)
    foreign.execute("PRAGMA locking_mode = EXCLUSIVE")
    foreign.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        StoreCore.rebuild(tmp_path, ignored)
    foreign.close()
    check(tmp_path)


def test_an_index_without_its_tables_is_a_damaged_one(tmp_path: Path) -> None:
    make(tmp_path)
    index = sqlite3.connect(tmp_path / INDEX_NAME, isolation_level=None)
    index.execute("DROP TABLE pin")
    index.close()
    core = StoreCore.rebuild(tmp_path, ignored)
    assert core.all_pins() == []
    assert core.locations.sizes_for([CLOSED[0].multihash], frozenset()) == [None]
    core.close()
