"""What the operating system refuses is told as that, whatever the command: never as wrong bytes (exit code 5)."""

import asyncio
import errno
import gc
import io
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.cli.app import run
from stack.node.exit_codes import NO_SPACE, NOT_FOUND, REFUSED, USAGE, WRONG_BYTES
from stack.node.home import Home

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REASONS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, *FULL)

SIZE = 700_000
"""More than one block, and more than lies in the index."""


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""A command that fails leaves its input open to the end of the process."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """A home that has a file, and a folder to work in."""
    monkeypatch.setenv("STACK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STACK_LISTEN", "/ip4/127.0.0.1/tcp/0")
    monkeypatch.setenv("STACK_MDNS", "0")
    monkeypatch.setenv("STACK_PORTMAP", "0")
    monkeypatch.chdir(tmp_path)
    Path("film").write_bytes(os.urandom(SIZE))
    Path("more").write_bytes(os.urandom(SIZE))
    Path("tree").mkdir()
    for name in ("a", "b"):
        Path("tree", name).write_bytes(os.urandom(300))
    for name in ("film", "tree"):
        assert ended("add", "-q", "--copy", name) == 0
        Path(f"cid-{name}").write_text(capfd.readouterr().out.strip())
    assert ended("car", "export", Path("cid-film").read_text(), "film.car") == 0
    yield tmp_path
    gc.collect()


def ended(*words: str) -> object:
    """The exit code of a command."""
    words = tuple(Path(word[1:]).read_text() if word.startswith("@") else word for word in words)
    with pytest.raises(SystemExit) as end:
        run(words)
    return end.value.code


def failing(reason: int, when: Callable[[Path, int], bool]) -> tuple[Callable[..., int], list[Path]]:
    """`os.open`, which fails for the files that `when` names by their path and flags; and which those were."""
    real, failed = os.open, []

    def open_(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = Path(os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd(), path)
        if when(place, flags):
            failed.append(place)
            raise OSError(reason, os.strerror(reason), os.fspath(path))
        return real(path, flags, mode, dir_fd=dir_fd)

    return open_, failed


def target(place: Path, flags: int) -> bool:
    """A file that is made where the user wants it."""
    return bool(flags & os.O_CREAT) and not place.is_relative_to(os.environ["STACK_HOME"])


def pack(place: Path, flags: int) -> bool:
    """Blocks in the home."""
    return place.suffix == ".pack"


def source(place: Path, flags: int) -> bool:
    """What the user has."""
    return place == Path("more").absolute()


def settings(place: Path, flags: int) -> bool:
    """A file of the home that is written anew."""
    return place.name.startswith(".new-") and place.parent == Path(os.environ["STACK_HOME"])


COMMANDS: dict[str, tuple[Callable[[Path, int], bool], tuple[str, ...]]] = {
    "get a file": (target, ("get", "@cid-film", "-o", "new")),
    "get a tree": (target, ("get", "@cid-tree", "-o", "new")),
    "get --update": (target, ("get", "@cid-tree", "-o", "there", "--update")),
    "get from packs": (pack, ("get", "@cid-film", "-o", "new", "--timeout", "1")),
    "add --copy": (pack, ("add", "--copy", "more")),
    "add": (source, ("add", "more")),
    "car export": (target, ("car", "export", "@cid-film", "new.car")),
    "car import": (pack, ("car", "import", "film.car")),
    "cat": (pack, ("cat", "@cid-film", "--timeout", "1")),
    "key export": (target, ("key", "export", "new.key")),
    "config set": (settings, ("config", "set", "quota", "1GiB")),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_refused_is_no_wrong_bytes(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    when, words = COMMANDS[command]
    Path("there").mkdir()
    told = {}
    for reason in (each for each in REASONS if when is not source or each not in FULL):
        opened, failed = failing(reason, when)
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", opened)
            code = ended(*words)
        assert failed
        told[errno.errorcode[reason]] = code, capfd.readouterr().err.splitlines()[-1:]
    assert {name: code for name, (code, _) in told.items()} == {
        name: NO_SPACE if getattr(errno, name) in FULL else REFUSED for name in told
    }, told
    assert not any(".new-" in line for _, lines in told.values() for line in lines), told


@pytest.mark.parametrize(
    "words", [("get", "@cid-film", "-o", "new"), ("cat", "@cid-film"), ("add", "more"), ("repo", "verify")]
)
def test_an_index_that_cannot_be_opened_is_not_damaged(
    words: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = sqlite3.connect

    def connect(database: str | Path, **options: object) -> sqlite3.Connection:
        if str(database).endswith("index.sqlite"):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return real(database, **options)  # type: ignore[call-overload, no-any-return] # as they came

    monkeypatch.setattr(sqlite3, "connect", connect)
    assert ended(*words) == REFUSED, capfd.readouterr()
    assert "index.sqlite" in capfd.readouterr().err


def test_what_verify_cannot_read_is_told_apart_from_what_is_wrong(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ended("add", "more") == 0
    opened, failed = failing(errno.EIO, source)
    for damaged in False, True:
        if damaged:
            (blocks,) = Path(os.environ["STACK_HOME"]).rglob("*.pack")
            with blocks.open("r+b") as file:
                file.seek(SIZE // 2)
                file.write(b"damaged")
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", opened)
            code = ended("repo", "verify", "--json")
        report = json.loads(capfd.readouterr().out)
        assert failed and report.get("unread"), report
        assert code == (WRONG_BYTES if damaged else REFUSED), report
        assert (report["problems"] > report["unread"]) == damaged, report


def test_what_is_sought_in_something_else_is_a_mistake_of_who_asks(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree = Path("cid-tree").read_text()
    for words, code, said in (
        (("cat", tree), USAGE, "is a directory, not a file; `stack get` fetches it"),
        (("cat", f"{tree}/../x"), USAGE, "leads out of"),
        (("ls", f"{tree}/../x"), USAGE, "leads out of"),
        (("get", f"{tree}/../x"), USAGE, "leads out of"),
        (("cat", f"{tree}/c"), NOT_FOUND, "no link named 'c'"),
        (("cat", f"{tree}/a/c"), NOT_FOUND, "is a file, there is no 'c' in it"),
    ):
        capfd.readouterr()
        assert ended(*words, "--timeout", "1") == code, (words, capfd.readouterr())
        assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "no more memory"),
        (ImportError("rust.so: failed to map segment from shared object"), "no more memory"),
        (RuntimeError("can't start new thread"), "no more threads"),
    ],
)
def test_a_system_that_gives_no_more_is_told_in_a_sentence(
    error: Exception, said: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lacks(*_: object) -> None:
        raise error

    monkeypatch.setattr("stack.cli.key.load_or_create", lacks)
    capfd.readouterr()
    assert ended("key", "show", "--json") == REFUSED
    captured = capfd.readouterr()
    assert json.loads(captured.out)["error"]["exit_code"] == REFUSED and said in captured.out
    assert captured.err.count("\n") == 1 and said in captured.err


def test_a_question_that_nobody_can_answer_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = Path("home/identity.key").read_bytes()
    for answer, said in ((b"", "give --yes"), (b"n\n", "stays as it is")):
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(answer)))
            assert ended("key", "new", "--json") == REFUSED
        (line,) = capfd.readouterr().out.splitlines()
        assert json.loads(line)["error"]["kind"] == "Refused" and said in line
    assert Path("home/identity.key").read_bytes() == before
    assert ended("key", "new", "--yes") == 0
    assert Path("home/identity.key").read_bytes() != before


def test_a_source_that_cannot_be_read_is_named(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    if not Path("/proc/self/mem").exists():
        pytest.skip("NOT TESTED: no procfs here")
    assert ended("add", "/proc/self/mem") == REFUSED
    assert "Input/output error (mem)" in capfd.readouterr().err


def test_a_home_that_may_not_be_written_stays_so(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o700)
    for mode, left in ((0o555, 0o500), (0o755, 0o700)):
        home.path.chmod(mode)
        home.prepare()
        assert stat.S_IMODE(home.path.stat().st_mode) == left and "now it is yours alone" in home.notices[0]
    home.path.chmod(0o700)


def test_a_daemon_that_cannot_wait_for_signals_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """asyncio makes a RuntimeError of what the system says (ENOLCK, placed at a `fcntl` of its start, was one): a traceback."""

    def refused(*_: object) -> object:
        raise RuntimeError("[Errno 37] No locks available")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refused)
    assert ended("daemon") == REFUSED
    assert "no signals can be waited for: [Errno 37]" in capfd.readouterr().err
