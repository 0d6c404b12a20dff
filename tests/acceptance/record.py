"""Writes `docs/session.md`: what two people see in their terminals. `python -m tests.acceptance.record` (needs root).

The two computers are network namespaces with a cable of 200 Mbit/s between them, a third has no cable, and two more are behind routers
of their own; every screen is what the commands wrote. `test_session.py` plays a part of it again and compares.
"""

import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place
from tests.acceptance.namespaces import Alone, Wire
from tests.acceptance.terminal import Terminal
from tests.lab import nat

PAGE = Path(__file__).parents[2] / "docs" / "session.md"
FILM_SIZE = 120 * MIB
PHOTOS = 1200
MBIT = 200

Size = tuple[int, int]
USUAL: Size = (80, 24)
SIZES: tuple[Size, ...] = (USUAL, (50, 15), (40, 15))

SWARM_KEY = "/key/swarm/psk/1.0.0/\n/base16/\n{}\n"


class Recorder:
    """Collects the page."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def say(self, text: str) -> None:
        """A paragraph between two screens."""
        self.parts.append(text.strip())

    def show(self, *screens: tuple[str, str, str]) -> None:
        """One block of (who, what was typed, what was seen)."""
        shown = [f"{who}$ {typed}\n{seen}".rstrip() for who, typed, seen in screens]
        self.parts.append("```console\n" + "\n".join(shown) + "\n```")

    def page(self) -> str:
        """The whole page."""
        return "\n\n".join(self.parts) + "\n"


class Person:
    """A computer of the session, with a screen for each command."""

    def __init__(
        self, name: str, place: Path, prefix: Sequence[str], *, key: str = "", settings: Mapping[str, str] | None = None
    ) -> None:
        self.name = re.sub(r"\d", "", name)
        self.machine = Machine(place / name, listen="/ip4/0.0.0.0/tcp/0", prefix=prefix, settings=settings)
        self._prefix = prefix
        if key:
            self.machine.home.mkdir(mode=0o700)
            (self.machine.home / "swarm.key").write_text(SWARM_KEY.format(key))

    def type(self, *words: str, size: Size = USUAL) -> Terminal:
        """Run a command of theirs."""
        command = (*self._prefix, sys.executable, "-c", "from stack.cli import main; main()", *words)
        columns, rows = size
        machine = self.machine
        return Terminal(
            command,
            cwd=machine.folder,
            environment=machine.environment,
            columns=columns,
            rows=rows,
            shown=lambda text: text.replace(str(machine.folder), f"/home/{self.name}"),
        )

    @contextmanager
    def sharing(self, path: str, size: Size = USUAL) -> Iterator[tuple[Terminal, str]]:
        """`stack share PATH`: its screen, and the ticket."""
        with self.type("share", path, size=size) as screen:
            seen = screen.see("nobody has asked yet")
            yield screen, "".join(seen.partition("stack get ")[2].splitlines()[:-1])  # the last line is the figures


def short(ticket: str) -> str:
    """A ticket as it is shown where it is typed: nobody reads all of it twice."""
    return f"{ticket[:12]}..."


class Session:
    """People on two computers and on one without a cable."""

    def __init__(self, place: Path, notes: Recorder, wire: Wire, alone: Alone) -> None:
        self._place, self._notes, self._wire, self._alone = place, notes, wire, alone

    def here(self, name: str, key: str = "") -> Person:
        """Somebody at the left end."""
        return Person(name, self._place, self._wire.prefix(self._wire.left), key=key)

    def there(self, name: str, key: str = "") -> Person:
        """Somebody at the right end."""
        return Person(name, self._place, self._wire.prefix(self._wire.right), key=key)

    def film(self) -> None:
        """All that happens to a film, in terminals of 80 x 24."""
        notes, anna, ben, cleo = self._notes, self.here("anna"), self.there("ben"), self.there("cleo")
        film = make_file(anna.machine.folder / "film.mkv", FILM_SIZE)
        notes.say(
            "# A session\n\nAnna has a film, Ben wants it. Their computers are on one network. What follows is what both saw, in "
            "windows of 80 columns and 24 rows, recorded by `python -m tests.acceptance.record`; `^C` is Ctrl-C. Further down are "
            "windows of other sizes."
        )
        with anna.sharing("film.mkv") as (sharing, ticket):
            notes.say("## Share\n\nNothing is copied and nothing is published: the ticket is the only way to the film.")
            notes.show(("anna", "stack share film.mkv", sharing.window))
            self._fetch_and_resume(sharing, ben, ticket)
            assert sha256(ben.machine.folder / "film.mkv") == sha256(film)
            self._lists(anna, ben, ticket)
            self._stalled(sharing, cleo, ticket)
            self._typos(ben, ticket)
            sharing.send(signal.SIGINT)
            code, end = sharing.end()
            assert code == 0, end
        notes.say("## The end of a share\n\nAnna presses Ctrl-C:")
        notes.show(("anna", "stack share film.mkv", end))

    def _fetch_and_resume(self, sharing: Terminal, ben: Person, ticket: str) -> None:
        notes, typed = self._notes, f"stack get {short(ticket)}"
        notes.say(
            "## Get, and go on later\n\nBen pastes the ticket. In the middle of it he needs the line for something else:"
        )
        with ben.type("get", ticket) as fetch:
            fetch.see(r"(4[0-9]|5[0-9])\.[0-9]/120\.0 MiB  [^0]")
            middle = fetch.window
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
        notes.say("Meanwhile at Anna's:")
        sharing.see("1 whole copy")
        notes.show(("anna", "stack share film.mkv", sharing.window))

    def _lists(self, anna: Person, ben: Person, ticket: str) -> None:
        self._notes.say("A second time there is nothing to do, and Anna can see in another window where her film went:")
        for person, words, typed in (
            (ben, ("get", ticket), f"stack get {short(ticket)}"),
            (anna, ("shares", "ls"), "stack shares ls"),
        ):
            with person.type(*words) as command:
                code, seen = command.end()
            assert code == 0, seen
            self._notes.show((person.name, typed, seen))

    def _stalled(self, sharing: Terminal, cleo: Person, ticket: str) -> None:
        self._notes.say(
            "## When the other end stands still\n\nCleo uses the same ticket, and Anna closes her laptop in the middle. Without "
            "`--timeout` Cleo's command would wait for her; with it, it ends after so long without progress, and keeps what came:"
        )
        with cleo.type("get", ticket, "-o", "copy.mkv", "--timeout", "10") as fetch:
            fetch.see(r"[3-9][0-9]\.[0-9]/120\.0 MiB")
            sharing.send(signal.SIGSTOP)
            fetch.see(r"waiting [4-9]\.\d s")
            middle = fetch.window
            code, end = fetch.end(120)
        assert code == 4, end
        typed = f"stack get {short(ticket)} -o copy.mkv --timeout 10"
        self._notes.show((cleo.name, typed, middle))
        self._notes.show((cleo.name, typed, end), (cleo.name, "echo $?", str(code)))
        sharing.send(signal.SIGCONT)

    def _typos(self, ben: Person, ticket: str) -> None:
        self._notes.say(
            "## A typo\n\nA ticket carries a checksum, so a wrong letter or a lost end is found before anything is dialled:"
        )
        wrong = ticket[:40] + ("a" if ticket[40] != "a" else "b") + ticket[41:]
        for words, typed in (
            (("get", wrong), f"stack get {short(ticket[:8] + 'x' + ticket[9:])}"),
            (("get", ticket[:-30]), f"stack get {short(ticket)}"),
            (("gett", ticket), f"stack gett {short(ticket)}"),
        ):
            with ben.type(*words) as command:
                code, seen = command.end()
            assert code == 2, seen
            self._notes.show((ben.name, typed, seen))

    def homes(self) -> None:
        """Two homes behind routers, by a ticket and by a code, with nothing else typed."""
        with nat.Homes(("port", "port")) as net:
            place, relay = self._place / "homes", f"{nat.RELAY}:{nat.PORT}"
            settings = {"STACK_RELAY_VIA": relay}
            anna, ben = (
                Person(name, place, net.prefix(home), settings=settings)
                for name, home in zip(("anna", "ben"), net.homes, strict=True)
            )
            friend = Machine(place / "friend", listen=f"/ip4/0.0.0.0/tcp/{nat.PORT}", prefix=net.prefix(net.relay))
            film = make_file(anna.machine.folder / "film.mkv", FILM_SIZE)
            allowed = good(anna.machine.run("id", "--json")).json["peer_id"]
            with friend.daemon("--relay", "--relay-allow", allowed):
                self._notes.say(
                    "## Two homes\n\nAnna and Ben are at home now, behind routers of their own which let nobody in. A friend of both runs "
                    f"`stack daemon --relay --relay-allow PEER-OF-ANNA`, and both have once typed `stack config set relay_via {relay}`:"
                )
                self._at_home(anna, ben)
                assert sha256(ben.machine.folder / "film.mkv") == sha256(film)
                self._by_telephone(anna, ben)

    def _at_home(self, anna: Person, ben: Person) -> None:
        with anna.sharing("film.mkv") as (sharing, ticket):
            self._notes.show(("anna", "stack share film.mkv", sharing.window))
            with ben.type("get", ticket) as fetch:
                code, end = fetch.end()
            assert code == 0, end
            self._notes.show(("ben", f"stack get {short(ticket)}", end))

    def _by_telephone(self, anna: Person, ben: Person) -> None:
        self._notes.say(
            "On the telephone a ticket is too long. A code is a number and three words, good once and for a minute; three letters of "
            "each word are enough, and Ben has misheard one:"
        )
        with anna.type("share", "film.mkv", "--code") as sharing:
            seen = sharing.see(r"the code is good for")
            typed = re.search(r"stack get (\d+-[a-z-]+)", seen)
            assert typed is not None, seen
            self._notes.show(("anna", "stack share film.mkv --code", sharing.window))
            number, *words = typed[1].split("-")
            wrong = "-".join((number, *words[:2], "zodiac" if words[2] != "zodiac" else "zenith"))
            right = "-".join((number, *(word[:3] for word in words)))
            for text, expected in (wrong, 7), (right, 0):
                with ben.type("get", text, "-o", "by-telephone.mkv") as fetch:
                    code, end = fetch.end()
                assert code == expected, end
                self._notes.show(("ben", f"stack get {text} -o by-telephone.mkv", end))
            sharing.see("1 whole copy")
            self._notes.say("And Anna:")
            self._notes.show(("anna", "stack share film.mkv --code", sharing.window))

    def window(self, size: Size) -> None:
        """A share, a fetch, trees, and all ways to wait, in windows of one size."""
        columns, rows = size
        self._notes.say(f"## In a window of {columns} x {rows}")
        with ThreadPoolExecutor() as pool, self._waiting(size, pool) as waiting:
            self._share_and_get(size)
            self._trees(size)
            for text, typed, screen in waiting():
                self._notes.say(text)
                self._notes.show(("cleo", typed, screen))

    def _share_and_get(self, size: Size) -> None:
        anna, ben = self.here(f"anna{size[0]}"), self.there(f"ben{size[0]}")
        make_file(anna.machine.folder / "film.mkv", FILM_SIZE)
        with anna.sharing("film.mkv", size) as (sharing, ticket):
            self._notes.say("Anna shares a film, Ben fetches it:")
            self._notes.show(("anna", "stack share film.mkv", sharing.window))
            with ben.type("get", ticket, size=size) as fetch:
                fetch.see(r"(?s)[3-9][0-9]\.[0-9]/120\.0 MiB.*left\s+1 peer")
                sharing.see("% sent to")
                self._notes.show(("ben", f"stack get {short(ticket)}", fetch.window))
                self._notes.show(("anna", "stack share film.mkv", sharing.window))

    def _trees(self, size: Size) -> None:
        notes, anna, ben = self._notes, self.here(f"anna{size[0]}"), self.there(f"ben{size[0]}")
        photos = anna.machine.folder / "photos"
        for number in range(PHOTOS):
            make_file(photos / f"2026-{number % 12 + 1:02}" / f"{number:04}.jpg", 8000 + number, number)
        for number in range(1, 13):
            make_file(photos / f"2026-{number:02}" / "notes.txt", 60_000 * number, -number)
        with anna.sharing("photos", size) as (_, ticket):
            with ben.type("get", ticket, "--down", "3M", size=size) as fetch:
                fetch.see(r"(?s)[1-9],?\d\d\d?,?\d* files.*left\s+1 peer")
                notes.say("A tree of small files, and only some of it:")
                notes.show(("ben", f"stack get {short(ticket)} --down 3M", fetch.window))
            words = ("--include", "*.txt", "-o", "texts", "--down", "1M")
            typed = f"stack get {short(ticket)} --include '*.txt' -o texts --down 1M"
            with ben.type("get", ticket, *words, size=size) as fetch:
                fetch.see(r"(?s)[1-3]\.\d/\d\.\d MiB.*\d files.*left\s+1 peer")
                middle = fetch.window
                code, _ = fetch.end()
            assert code == 0
            notes.show(("ben", typed, middle))
            notes.show(("ben", typed, fetch.window))

    @contextmanager
    def _waiting(self, size: Size, pool: ThreadPoolExecutor) -> Iterator[Callable[[], list[tuple[str, str, str]]]]:
        number = size[0]
        gone, asleep = self.here(f"gone{number}"), self.here(f"asleep{number}")
        private = self.here(f"private{number}", "ab" * 32)
        for person in gone, asleep, private:
            make_file(person.machine.folder / "f.mkv", MIB)
        with gone.sharing("f.mkv") as (_, gone_ticket):
            pass
        away = Person(f"cleo{number}4", self._place, self._alone.prefix(0))
        with asleep.sharing("f.mkv") as (sleeper, asleep_ticket), private.sharing("f.mkv") as (_, private_ticket):
            sleeper.send(signal.SIGSTOP)
            scenes = [
                ("Anna has ended her command:", self.there(f"cleo{number}1"), gone_ticket, "refused"),
                ("Cleo's cable is not plugged in:", away, asleep_ticket, "unreachable"),
                (
                    "Anna's computer is in a private network of which Cleo's has not the key:",
                    self.there(f"cleo{number}2", "cd" * 32),
                    private_ticket,
                    "swarm",
                ),
                ("Anna's computer is asleep:", self.there(f"cleo{number}3"), asleep_ticket, "asleep"),
            ]
            futures = [pool.submit(_wait, size, *scene) for scene in scenes]
            yield lambda: [future.result() for future in futures]
            sleeper.send(signal.SIGCONT)


def _wait(size: Size, text: str, person: Person, ticket: str, why: str) -> tuple[str, str, str]:
    with person.type("get", ticket, size=size) as fetch:
        fetch.see(rf"(?s){why}.*waiting ([3-9]\.\d|\d\d) s")
        return text, f"stack get {short(ticket)}", fetch.window


def record(place: Path, scenes: Sequence[Size | str] = ("film", *SIZES, "homes")) -> str:
    """Play the session: the film, windows of these sizes, two homes."""
    notes = Recorder()
    with Wire(MBIT) as wire, Alone() as alone:
        session = Session(place, notes, wire, alone)
        for scene in scenes:
            if isinstance(scene, str):
                getattr(session, scene)()
            else:
                session.window(scene)
    return notes.page()


def main() -> int:
    """Write the page; 1 where the machine cannot play it."""
    reason = nat.missing()
    if reason is not None:
        print(f"cannot record: {reason}", file=sys.stderr)
        return 1
    with temporary_place() as place:
        PAGE.write_text(record(place))
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
