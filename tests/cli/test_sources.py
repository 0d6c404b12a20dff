"""What is read is what was named: flags that say no, pipes, links, files without a size, streams that stay silent."""

import os
import shutil
import time
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path

import anyio
import anyio.to_thread
import click
import pytest

from stack.cli import sources as sources_module
from stack.cli.sources import KEPT_SECONDS, PIECE, Source, at_a_place, pieces_of
from stack.cli.types import SourceType
from tests.acceptance.kit import Machine, complaint, good, make_file
from tests.acceptance.process import Outcome

HELLO_V0 = "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN"
HELLO_V1 = "bafybeiffndsajwhk3lwjewwdxqntmjm4b5wxaaanokonsggenkbw6slwk4"
"""Kubo's CIDs of `hello` and a line end."""


def said(outcome: Outcome) -> str:
    """What a command that must end well printed."""
    return good(outcome).out.strip()


def test_a_ticket_in_a_file_that_cannot_be_read_is_not_called_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: object, **options: object) -> object:
        raise OSError(24, "Too many open files")

    (tmp_path / "mail").write_text(HELLO_V1)
    assert SourceType().convert(str(tmp_path / "mail"), None, None) == HELLO_V1
    monkeypatch.setattr(Path, "open", short)
    with pytest.raises(click.BadParameter, match="cannot be read: Too many open files"):
        SourceType().convert(str(tmp_path / "mail"), None, None)


@pytest.mark.parametrize(
    ("flags", "cid"),
    [
        ((), None),
        (("--profile", "default"), HELLO_V0),
        (("--profile", "default", "--cid-version", "1", "--no-raw-leaves"), HELLO_V1),
        (("--no-raw-leaves",), HELLO_V1),
        (("--cid-version", "0", "--no-raw-leaves"), HELLO_V0),
    ],
)
def test_flags_that_say_no_or_zero_are_heeded(sharer: Machine, flags: tuple[str, ...], cid: str | None) -> None:
    (sharer.folder / "hello").write_bytes(b"hello\n")
    added = said(sharer.run("add", "-q", "--only-hash", *flags, "hello"))
    assert added == cid if cid is not None else added.startswith("bafkrei")


def test_modes_and_times_need_no_other_flag(sharer: Machine) -> None:
    (sharer.folder / "run.sh").write_bytes(b"hello\n")
    cids = {
        said(sharer.run("add", "-q", "--only-hash", *flag, "run.sh"))
        for flag in (["--preserve-mode"], ["--mode", "0755"], [])
    }
    assert len(cids) == 3
    complaint(sharer.run("add", "--mode", "0755", "--raw-leaves", "run.sh"), 2, "raw-leaves")


def test_what_is_piped_is_kept_and_several_are_added_each_for_itself(sharer: Machine) -> None:
    (sharer.folder / "hello").write_bytes(b"hello\n")
    cid = said(sharer.run("add", "-q", "hello"))
    for arguments in ("add", "-q", "-"), ("add", "-q"), ("add", "-q", "/dev/stdin"):
        assert said(sharer.run(*arguments, data=b"hello\n")).split() == [cid]
    assert said(sharer.run("cat", cid)) == "hello"
    assert said(sharer.run("add", "-q", "-", "hello", data=b"hello\n")).split() == [cid, cid]
    complaint(sharer.run("add", "-", "-", data=b"hello\n"), 2, "once")
    assert list((sharer.home / "incoming").iterdir()) == []
    version = said(sharer.run("add", "-q", "/proc/version"))
    assert said(sharer.run("cat", version)) == Path("/proc/version").read_text().strip()
    os.mkfifo(sharer.folder / "fifo")
    complaint(sharer.run("add", "fifo"), 7, "neither a file nor a directory")


@pytest.mark.anyio
async def test_a_stream_that_stays_silent_holds_no_thread() -> None:
    """A thread that waits for a pipe would keep the process from ending at Ctrl-C."""
    reading, writing = os.pipe()
    got: list[bytes] = []
    with os.fdopen(writing, "wb", buffering=0) as out:
        out.write(b"one")
        with anyio.move_on_after(0.2) as scope:
            async for piece in pieces_of(os.fdopen(reading, "rb")):
                got.append(piece)
        assert scope.cancelled_caught and got == [b"one"]
        assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0


@pytest.mark.anyio
async def test_files_and_bytes_are_read_like_streams(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(PIECE + 1))
    assert sum([len(piece) async for piece in pieces_of((tmp_path / "file").open("rb"))]) == PIECE + 1
    assert [piece async for piece in pieces_of(BytesIO(b"text"))] == [b"text"]


def test_several_paths_have_the_name_they_are_given_and_lack_what_is_excluded(
    sharer: Machine, receiver: Machine
) -> None:
    for name in "one", "two/three", "two/three.tmp":
        make_file(sharer.folder / name, 10)
    paths = sharer.folder / "one", sharer.folder / "two"
    with sharer.sharing("--name", "papers", "--exclude", "*.tmp", *paths) as (_, shared):
        good(receiver.run("get", shared["ticket"]))
        good(receiver.run("get", "--update", "-o", ".", shared["ticket"]))
    for place in receiver.folder / "papers", receiver.folder:
        assert (place / "one").exists() and [path.name for path in (place / "two").iterdir()] == ["three"]
    complaint(sharer.run("share", "--name", "../x", paths[0]), 2, "slash")


def test_a_tree_is_updated_in_place(sharer: Machine, receiver: Machine) -> None:
    tree = sharer.folder / "tree"
    make_file(tree / "large", 3_000_000)
    make_file(tree / "small", 10)
    make_file(tree / "old", 10)
    with sharer.sharing(tree) as (_, shared):
        good(receiver.run("get", shared["ticket"]))
    (tree / "small").write_bytes(b"changed")
    (tree / "old").unlink()
    mine = receiver.folder / "tree"
    inode = (mine / "large").stat().st_ino
    with sharer.sharing(tree) as (_, shared):
        ticket = shared["ticket"]
        complaint(receiver.run("get", ticket), 7, "--update")
        shown = good(receiver.run("get", "--update", "--delete", "--dry-run", ticket))
        assert (
            "would change tree/small" in shown.err and "would delete tree/old" in shown.err and (mine / "old").exists()
        )
        good(receiver.run("get", "--update", "--delete", ticket))
        assert "this version already" in good(receiver.run("get", "--update", "--dry-run", ticket)).err
    assert sorted(path.name for path in mine.iterdir()) == ["large", "small"]
    assert (mine / "small").read_bytes() == b"changed" and (mine / "large").stat().st_ino == inode
    complaint(receiver.run("get", "--delete", ticket), 2, "--update")
    complaint(receiver.run("get", "--update", "--delete", "-o", receiver.home.parent, ticket), 2, "home")


def test_point_54_what_is_piped_in_is_shared_while_the_command_runs(sharer: Machine, receiver: Machine) -> None:
    with sharer.start("share", "--json", "--once", "--name", "note.txt", "-", data=b"a note\n") as process:
        shared = process.next_json(30)
        assert shared["name"] == "note.txt"
        good(receiver.run("get", shared["ticket"]))
        good(process.wait(30))
    assert (receiver.folder / "note.txt").read_bytes() == b"a note\n"
    assert list((sharer.home / "incoming").iterdir()) == []
    assert "while this command runs" in complaint(sharer.run("share", "--keep", "-", data=b"a note\n"), 2)


def make_old(folder: Path) -> None:
    """As a day and an hour later, or after the clock was set."""
    then = time.time() - KEPT_SECONDS - 3600
    os.utime(folder, (then, then))


def piped(data: bytes) -> Source:
    return Source(Path("stdin"), BytesIO(data))


@pytest.mark.anyio
async def test_what_a_command_still_serves_is_not_swept_however_old_it_is(tmp_path: Path) -> None:
    """It is the only copy: the pipe is empty."""
    async with at_a_place(piped(b"the only copy"), tmp_path) as place:
        make_old(place.parent)
        async with at_a_place(piped(b"another"), tmp_path) as other:
            assert (place.read_bytes(), other.read_bytes()) == (b"the only copy", b"another")
    left = tmp_path / "incoming" / "left"
    left.mkdir()
    (left / "stdin").write_bytes(b"of a killed command")
    async with at_a_place(piped(b"young"), tmp_path):
        assert left.exists()
    make_old(left)
    async with at_a_place(piped(b"old"), tmp_path):
        assert not left.exists()
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.anyio
async def test_without_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources_module, "claim", lambda fd: True)
    async with AsyncExitStack() as commands:
        places = []
        for _ in range(2):
            places.append(await commands.enter_async_context(at_a_place(piped(b"data"), tmp_path)))
            make_old(places[-1].parent)
        assert [place.read_bytes() for place in places] == [b"data"] * 2


@pytest.mark.anyio
async def test_two_commands_may_sweep_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "incoming"
    for name in "abc":
        (folder / name).mkdir(parents=True)
        make_old(folder / name)
    real = os.scandir

    class Other:
        """Lists them, and removes all but one before they are looked at."""

        def __enter__(self) -> object:
            with real(folder) as found:
                entries = list(found)
            for name in "ab":
                shutil.rmtree(folder / name)
            return iter(entries)

        def __exit__(self, *failed: object) -> None:
            pass

    def scandir(path: object) -> object:
        if path != folder:
            return real(path)  # type: ignore[call-overload]
        monkeypatch.setattr(os, "scandir", real)
        return Other()

    monkeypatch.setattr(os, "scandir", scandir)
    async with at_a_place(piped(b"data"), tmp_path) as place:
        assert place.read_bytes() == b"data" and not (folder / "c").exists()
