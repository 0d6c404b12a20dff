"""B1, B2, B3: what is typed is no CID, no ticket, far too long, mistyped or cut. Said at once, before anything is made."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from stack.cli.app import cli
from stack.files.ticket import Ticket, encode_ticket
from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from tests.acceptance.kit import MIB, Machine, complaint, good

CID_COMMANDS = [
    ("get",),
    ("cat",),
    ("ls",),
    ("pin", "add"),
    ("pin", "rm"),
    ("block", "get"),
    ("block", "stat"),
    ("car", "export"),
]
NONSENSE = ["film.mkv", "Qm", "bafy!!", "-", "stack", "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"]
LARGE = 10_000_000
ANSWER_MAX = 3_000
"""Characters of what is said about an argument of 10 MB."""
QUICK_SECONDS = 5.0


def untouched(machine: Machine) -> None:
    """Nothing was made: neither a home nor a file."""
    assert not (machine.home / "version").exists()
    assert list(machine.folder.iterdir()) == []


@pytest.fixture(scope="module")
def ticket() -> str:
    """A good ticket that nobody serves."""
    peer = PeerId.of(generate().public)
    address = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
    return encode_ticket(Ticket(Cid.of(b"content"), "film.mkv", 7, peer, (address,)))


@pytest.mark.parametrize("command", CID_COMMANDS, ids=" ".join)
def test_B01_a_cid_that_is_none_is_a_mistake_of_usage(sharer: Machine, command: tuple[str, ...]) -> None:
    complaint(sharer.run(*command, "no-such-thing"), 2)
    untouched(sharer)


@pytest.mark.parametrize("text", NONSENSE)
def test_B01_get_says_what_it_wanted_instead(sharer: Machine, text: str) -> None:
    complaint(sharer.run("get", "--", text), 2)
    untouched(sharer)


def test_B01_an_empty_argument_and_a_missing_one(sharer: Machine) -> None:
    complaint(sharer.run("get", ""), 2)
    complaint(sharer.run("get"), 2, "missing argument")
    complaint(sharer.run("connect", "127.0.0.1"), 2, "not an address")
    complaint(sharer.run("ping", "somebody"), 2, "neither a peer id nor an address")
    complaint(sharer.run("get", str(Cid.of(b"x")), "--from", "example.org"), 2, "not an address")
    complaint(sharer.run("gett", "x"), 2, "did you mean `stack get`")
    complaint(sharer.run("share", "not-there.bin"), 2, "does not exist")
    untouched(sharer)


@pytest.mark.parametrize("start", ["", "stack:", "Qm", "bafy", "/ip4/127.0.0.1", "a/"])
def test_B02_ten_megabytes_of_it_are_refused_at_once(sharer: Machine, start: str) -> None:
    # The kernel takes no argument of more than 128 KiB, so they are handed over inside of the process.
    for command in (["get"], ["cat"], ["pin", "add"], ["connect"], ["get", str(Cid.of(b"x")), "--from"]):
        code = f"from stack.cli.app import run; run([*{command!r}, {start!r} + 'a' * {LARGE}])"
        outcome = sharer.python(code)
        line = complaint(outcome, 2)
        assert len(line) < ANSWER_MAX and len(outcome.err) < 2 * ANSWER_MAX
        assert outcome.seconds < QUICK_SECONDS
        assert outcome.peak_memory < 128 * MIB
    untouched(sharer)


def test_B03_a_typo_in_a_ticket_is_told_as_one(sharer: Machine, ticket: str) -> None:
    for position in (10, len(ticket) // 2, len(ticket) - 1):
        other = "a" if ticket[position] != "a" else "b"
        complaint(sharer.run("get", ticket[:position] + other + ticket[position + 1 :]), 2, "ticket", "typo")
    complaint(sharer.run("get", ticket[:20] + "1" + ticket[21:]), 2, "typo", "character")
    untouched(sharer)


def test_B03_a_ticket_that_was_cut_is_told_as_one(sharer: Machine, ticket: str) -> None:
    for length in (len("stack:"), 20, len(ticket) // 2, len(ticket) - 1):
        complaint(sharer.run("get", ticket[:length]), 2, "ticket", "cut off")
    untouched(sharer)


def test_B03_case_spaces_and_line_breaks_do_not_matter(sharer: Machine, ticket: str) -> None:
    pasted = "\n".join(ticket[start : start + 40].upper() for start in range(0, len(ticket), 40))
    outcome = sharer.run("get", f"  {pasted}  ", "--timeout", "1", "--deadline", "3")
    assert outcome.code in (3, 4), str(outcome)
    assert good(sharer.run("--version")).out.startswith("stack ")


def test_the_home_folder_is_no_place_for_what_others_call_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-o .` there would let the author of a tree make a `.bash_profile`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(cli, ["get", str(Cid.of(b"tree")), "-o", "."])
    assert outcome.exit_code == 2 and "make a directory for it" in outcome.output
