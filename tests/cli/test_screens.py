"""What people see in terminals of three sizes: of a share, a fetch, and a fetch that waits (points 9, 11 to 14, 16, 17, 27, 29, 52)."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from stack.cli import output
from stack.cli.layout import KEPT_FREE
from stack.cli.serving import ServingScreen, qr_lines
from stack.node.api import SendProgress
from tests.acceptance.kit import MIB, Machine, make_file
from tests.acceptance.terminal import Terminal

FILM = "The.Quite.Long.Movie.Name.2026.2160p.UHD.mkv"
SIZES = [(80, 24), (50, 15), (40, 15)]
FIGURES = re.compile(r"\d+\.\d/12\.0 MiB  \d+(\.\d)? (B|KiB|MiB)/s", re.S)


def typed(machine: Machine, size: tuple[int, int], *words: str) -> Terminal:
    """A command in a terminal of so many columns and rows."""
    command = (sys.executable, "-m", "stack", *words)
    columns, rows = size
    return Terminal(command, cwd=machine.folder, environment=machine.environment, columns=columns, rows=rows)


def ticket_of(seen: str) -> str:
    """From the command that is to be copied, which a terminal gives in one piece."""
    return "stack:" + "".join(seen.partition("stack get stack:")[2].splitlines()[:-1]).split(" ")[0]


def unbroken(seen: str) -> str:
    """What was written, before the terminal's width was taken into account."""
    return " ".join(seen.split())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_share_and_a_fetch_of_it(sharer: Machine, receiver: Machine, size: tuple[int, int]) -> None:
    make_file(sharer.folder / FILM, 12 * MIB)
    with typed(sharer, size, "share", FILM, "--up", "4M") as sharing:
        seen = sharing.see("nobody has asked yet")
        assert "Serving; Ctrl-C ends it." in seen and seen.count("stack:") == 1
        assert seen.splitlines()[-1].startswith("The.Qui")
        ticket = ticket_of(seen)
        with typed(receiver, size, "get", ticket) as getting:
            middle = getting.see(FIGURES.pattern)
            assert re.search(r"fetching from 127\.0\.0\.1:\d+ ?\n?\(named by", middle)
            assert max(map(len, middle.splitlines()[-3:])) <= size[0]
            sent = sharing.see(r"(?s)sent \d+\.\d MiB.*to 1 peer.*% sent to 127")
            code, end = getting.end()
        assert code == 0 and FIGURES.search(end) is None
        assert "".join(end.split()).startswith(f"{FILM}:12.0MiB->") and "complete and checked" in unbroken(end)
        assert max(map(len, sent.splitlines()[-3:])) <= size[0] - KEPT_FREE
        sharing.see("(?s)1 whole copy.*now idle|now idle.*1 whole copy", 20)
        sharing.send(signal.SIGINT)
        code, end = sharing.end()
    assert code == 0 and "^C" not in end and "now idle" not in end
    assert unbroken(end.splitlines()[-1] if size[0] > 60 else end).endswith("1 whole copy")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_fetch_from_somebody_who_has_gone_says_why_it_waits(
    sharer: Machine, receiver: Machine, size: tuple[int, int]
) -> None:
    make_file(sharer.folder / FILM, MIB)
    with sharer.sharing(FILM) as (_, shared):
        pass
    with typed(receiver, size, "get", shared["ticket"]) as getting:
        seen = getting.see(r"waiting [2-9]\.\d s")
        address = re.search(r"waiting: (127\.0\.0\.1:\d+): ", unbroken(seen))
        assert address and f"{address[1]}: connection refused; is `stack share` still running there?" in unbroken(seen)
        assert seen.count("connection") == 1 and re.search(r"^127\.0\.0\.1:\d+  waiting [2-9]\.\d s$", seen, re.M)
        getting.send(signal.SIGINT)
        code, end = getting.end()
    assert code == 130 and "^C" not in end and "waiting 2" not in end
    assert f"To go on: stack get {shared['ticket'][:6]}" in unbroken(end)


def test_a_program_is_told_the_reason_too(sharer: Machine, receiver: Machine) -> None:
    make_file(sharer.folder / FILM, MIB)
    with sharer.sharing(FILM) as (_, shared):
        pass
    with receiver.start("get", shared["ticket"], "--jsonl", "--timeout", "4s") as getting:
        first, waiting = getting.next_json(), getting.next_json()
        outcome = getting.wait(20)
    assert (first["event"], waiting["event"]) == ("Connecting", "WaitingForProvider")
    assert waiting["reason"] == "connection refused" and waiting["address"] == first["address"]
    assert outcome.code == 3 and f"{first['address']}: connection refused" in outcome.err


def test_a_qr_code_is_shown_only_where_it_fits(sharer: Machine) -> None:
    """Point 9."""
    make_file(sharer.folder / "f", 10)
    for size, words, is_shown in (((80, 24), (), False), ((80, 60), (), True), ((80, 24), ("--qr",), True)):
        with typed(sharer, size, "share", "f", *words) as sharing:
            seen = sharing.see("nobody has asked yet")
            assert ("█" in seen) == is_shown
            assert ticket_of(seen).startswith("stack:ae")


def test_a_dumb_terminal_gets_lines_and_nothing_to_obey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for term, draws in (("xterm", True), ("dumb", False)):
        monkeypatch.setenv("TERM", term)
        assert output.draws() is draws


def test_a_qr_code_has_colours_of_its_own() -> None:
    assert qr_lines([[1, 0], [1, 1], [0, 1]]) == ["\x1b[38;5;16;48;5;231m█▄\x1b[0m", "\x1b[38;5;16;48;5;231m ▀\x1b[0m"]


def test_whoever_has_it_already_has_not_been_sent_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`nobody has fetched it`, or `sent 0 B to 1 peer, 1 whole copy`."""
    screen = ServingScreen(output.Progress(), MIB)
    said = [screen.farewell()]
    for step in (
        SendProgress(peer_id="first", bytes_sent=0, complete=True, needless=True),
        SendProgress(peer_id="first", bytes_sent=0, complete=True, needless=True),
        SendProgress(peer_id="second", bytes_sent=0, complete=False, needless=True),
        SendProgress(peer_id="third", bytes_sent=MIB, complete=True),
    ):
        screen.show(step)
        said.append(screen.farewell())
    assert [line[6:] for line in capsys.readouterr().err.splitlines()] == [
        "first has all of it already",
        "second has all that it wanted already",
        "a whole copy is at third",
    ]
    assert said == [
        "nobody has fetched it",
        "nothing was sent: 1 peer had all that was wanted already",
        "nothing was sent: 1 peer had all that was wanted already",
        "nothing was sent: 2 peers had all that was wanted already",
        "sent 1.0 MiB to 1 peer, 1 whole copy; 2 peers had all that was wanted already",
    ]
    empty = ServingScreen(output.Progress(), 0)
    empty.show(SendProgress(peer_id="first", bytes_sent=0, complete=True, needless=True))
    assert empty.farewell() == "sent 0 B to 1 peer, 1 whole copy"


def test_lines_on_stdout_do_not_run_into_the_figures(sharer: Machine) -> None:
    """`added ...` was glued to the bar of `stack add`."""
    folder = sharer.folder / "tree"
    for number in range(30):
        make_file(folder / f"{number}.bin", 1000, number)
    with typed(sharer, (80, 24), "add", "tree") as adding:
        code, end = adding.end()
    assert code == 0 and all(re.match(r"added \S+ tree|baf", line) for line in end.splitlines()), end


def test_a_tree_shows_files_and_bytes(sharer: Machine, receiver: Machine) -> None:
    for number in range(300):
        make_file(sharer.folder / "tree" / f"{number}.bin", 20_000, number)
    with typed(sharer, (80, 24), "share", "tree", "--up", "1M") as sharing:
        ticket = ticket_of(sharing.see("nobody has asked yet"))
        with typed(receiver, (50, 15), "get", ticket) as getting:
            getting.see(r"\d+\.\d/\d\.\d MiB  \d+ files")
            code, end = getting.end()
    assert code == 0 and "in 300 files" in unbroken(end)
    assert len(list(Path(receiver.folder / "tree").iterdir())) == 300 and os.listdir(receiver.folder) == ["tree"]
