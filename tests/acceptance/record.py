"""Writes `docs/session.md`: what two people see in their terminals. `python -m tests.acceptance.record` (needs root).

The two computers are network namespaces with a cable of 200 Mbit/s between them; every screen is what the commands wrote.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.acceptance.kit import MIB, Machine, make_file, sha256, temporary_place
from tests.acceptance.namespaces import Wire, missing
from tests.acceptance.terminal import COLUMNS, Terminal

PAGE = Path(__file__).parents[2] / "docs" / "session.md"
FILM_SIZE = 240 * MIB
MBIT = 200


class Recorder:
    """Collects the page."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.parts: list[str] = []

    def say(self, text: str) -> None:
        """A paragraph between two screens."""
        self.parts.append(text.strip())

    def show(self, *screens: tuple[str, str, str]) -> None:
        """One block of (who, what was typed, what was seen)."""
        shown = [f"{who}$ {typed}\n{self._clean(seen)}".rstrip() for who, typed, seen in screens]
        self.parts.append("```console\n" + "\n".join(shown) + "\n```")

    def _clean(self, text: str) -> str:
        """Folders of this run are called as a person's would be."""
        for name in ("anna", "ben", "cleo"):
            text = text.replace(str(self._place / name / "folder"), f"/home/{name}")
            text = text.replace(str(self._place / name / "home"), f"/home/{name}/.local/share/stack")
        return text

    def page(self) -> str:
        """The whole page."""
        return "\n\n".join(self.parts) + "\n"


class Person:
    """A computer of the session, with a screen for each command."""

    def __init__(self, name: str, place: Path, prefix: Sequence[str]) -> None:
        self.name = name
        self.machine = Machine(place / name, listen="/ip4/0.0.0.0/tcp/0", prefix=prefix)
        self._prefix = prefix

    def type(self, *words: str, columns: int = COLUMNS) -> Terminal:
        """Run a command of theirs."""
        command = (*self._prefix, sys.executable, "-c", "from stack.cli import main; main()", *words)
        return Terminal(command, cwd=self.machine.folder, environment=self.machine.environment, columns=columns)


def short(ticket: str) -> str:
    """A ticket as it is shown where it is typed: nobody reads all of it twice."""
    return f"{ticket[:24]}..."


def record(place: Path) -> str:
    """Play the session."""
    notes = Recorder(place)
    with Wire(MBIT) as wire:
        anna = Person("anna", place, wire.prefix(wire.left))
        ben = Person("ben", place, wire.prefix(wire.right))
        cleo = Person("cleo", place, wire.prefix(wire.right))
        film = make_file(anna.machine.folder / "film.mkv", FILM_SIZE)
        notes.say(
            "# A session\n\nAnna has a film, Ben wants it. Their computers are on one network. What follows is what both saw, "
            "recorded by `python -m tests.acceptance.record`; `^C` is Ctrl-C."
        )
        with anna.type("share", "film.mkv", "--no-qr") as sharing:
            seen = sharing.see("nobody has asked yet")
            ticket = "".join(seen.partition("stack get ")[2].splitlines()[:-1])  # the last line is the figures
            notes.say("## Share\n\nNothing is copied and nothing is published: the ticket is the only way to the film.")
            notes.show(("anna", "stack share film.mkv", seen))
            _fetch_and_resume(notes, ben, ticket)
            assert sha256(ben.machine.folder / "film.mkv") == sha256(film)
            _lists(notes, anna, ben, ticket)
            _stalled(notes, sharing, cleo, ticket)
            _typo(notes, ben, ticket)
            sharing.send(signal.SIGINT)
            sharing.end()
        _gone(notes, cleo, ticket)
    return notes.page()


def _fetch_and_resume(notes: Recorder, ben: Person, ticket: str) -> None:
    notes.say(
        "## Get, and go on later\n\nBen pastes the ticket. In the middle of it he needs the line for something else:"
    )
    typed = f"stack get {short(ticket)}"
    with ben.type("get", ticket) as fetch:
        middle = fetch.see(r"(3[0-9]|4[0-9])\.[0-9]/240\.0 MiB|(9[0-9]|1[0-9]{2})\.[0-9]/240")
        fetch.send(signal.SIGINT)
        code, end = fetch.end()
    assert code == 130, end
    notes.show(("ben", typed, middle))
    notes.show(("ben", typed, end))
    notes.say("The same command goes on where it was. What is on the disk is checked, not fetched again:")
    with ben.type("get", ticket) as fetch:
        code, end = fetch.end()
    assert code == 0, end
    notes.show(("ben", typed, end))


def _lists(notes: Recorder, anna: Person, ben: Person, ticket: str) -> None:
    notes.say("A second time there is nothing to do, and Anna can see in another window where her film went:")
    screens = []
    for person, words, typed in (
        (ben, ("get", ticket), f"stack get {short(ticket)}"),
        (anna, ("shares", "ls"), "stack shares ls"),
    ):
        with person.type(*words) as command:
            code, seen = command.end()
        assert code == 0, seen
        screens.append((person.name, typed, seen))
    for screen in screens:
        notes.show(screen)


def _stalled(notes: Recorder, sharing: Terminal, cleo: Person, ticket: str) -> None:
    notes.say(
        "## When the other end stands still\n\nCleo uses the same ticket, and Anna closes her laptop in the middle. Without "
        "`--timeout` Cleo's command would wait for her; with it, it ends after so long without progress, and keeps what came:"
    )
    typed = f"stack get {short(ticket)} -o copy.mkv --timeout 10"
    with cleo.type("get", ticket, "-o", "copy.mkv", "--timeout", "10") as fetch:
        fetch.see(r"[3-9][0-9]\.[0-9]/240\.0 MiB")
        sharing.send(signal.SIGSTOP)
        code, end = fetch.end(120)
    assert code == 4, end
    notes.show(("cleo", typed, end), ("cleo", "echo $?", str(code)))
    sharing.send(signal.SIGCONT)


def _gone(notes: Recorder, cleo: Person, ticket: str) -> None:
    notes.say(
        "## When nobody is there\n\nAnna has ended her command. A fetch says whom it waits for and why, in a terminal of any width; "
        "here of 80 and of 40 columns:"
    )
    for columns in (80, 40):
        with cleo.type("get", ticket, "-o", "later.mkv", columns=columns) as fetch:
            seen = fetch.see(r"waiting [3-9]\.\d s")
            fetch.send(signal.SIGINT)
            fetch.end()
        notes.show(("cleo", f"stack get {short(ticket)} -o later.mkv", seen))


def _typo(notes: Recorder, ben: Person, ticket: str) -> None:
    notes.say(
        "## A typo\n\nA ticket carries a checksum, so a wrong letter or a lost end is found before anything is dialled:"
    )
    wrong = ticket[:40] + ("a" if ticket[40] != "a" else "b") + ticket[41:]
    for words, typed in (
        (("get", wrong), f"stack get {short(ticket[:20] + 'x' + ticket[21:])}"),
        (("get", ticket[:-30]), f"stack get {short(ticket)}"),
        (("gett", ticket), f"stack gett {short(ticket)}"),
    ):
        with ben.type(*words) as command:
            code, seen = command.end()
        assert code == 2, seen
        notes.show((ben.name, typed, seen))


def main() -> int:
    """Write the page; 1 where the machine cannot play it."""
    reason = missing()
    if reason is not None:
        print(f"cannot record: {reason}", file=sys.stderr)
        return 1
    with temporary_place() as place:
        PAGE.write_text(record(place))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
