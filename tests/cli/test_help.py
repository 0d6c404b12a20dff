"""What somebody sees who does not know the command yet, or knows another tool."""

import re

import click
import pytest

from stack.cli import COMMANDS
from stack.cli.app import cli, run
from stack.cli.groups import ELSEWHERE, NOT_SO, SECTIONS, Group
from stack.cli.types import DURATION


def commands(group: Group, *above: str) -> list[tuple[tuple[str, ...], click.Command]]:
    """All commands of a group and of the groups in it."""
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(((*above, name), command))
        if isinstance(command, Group):
            found += commands(command, *above, name)
    return found


assert isinstance(cli, Group)
ALL = commands(cli)
GROUPS = [(), *(words for words, command in ALL if isinstance(command, click.Group))]


def said(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str, str]:
    """Exit code, stdout and stderr of `stack WORDS`."""
    with pytest.raises(SystemExit) as ended:
        run(words)
    return (ended.value.code, *capsys.readouterr())


@pytest.mark.parametrize("words", [words for words in GROUPS if words != ("jobs",)], ids=" ".join)
def test_a_group_that_is_named_alone_prints_its_help_whole(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Point 8; `jobs` alone lists the jobs."""
    bare = said(words, capsys)
    assert bare == said((*words, "--help"), capsys)
    code, out, err = bare
    assert (code, err) == (0, "") and out.count("\n") > 5 and out.startswith("Usage: stack")


def test_every_command_stands_in_one_section_of_the_help() -> None:
    """Point 49."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert set(COMMANDS) <= set(listed) and len(listed) == len(set(listed))


def test_the_help_says_of_each_command_what_its_file_says() -> None:
    """It loads none of them."""
    told = {(name,): text for section in SECTIONS.values() for name, text in section.items()}
    assert told == {words: command.get_short_help_str(1000) for words, command in ALL if len(words) == 1}


PATHS = [
    (*words, str(each.name)) for words, command in ALL for each in command.params if isinstance(each.type, click.Path)
]


@pytest.mark.parametrize("words", PATHS, ids=" ".join)
def test_an_empty_name_is_no_path(words: tuple[str, ...]) -> None:
    """A variable that is not set, as in `stack share "$film"`, shared the current directory."""
    command = dict(ALL)[words[:-1]]
    (parameter,) = (each for each in command.params if each.name == words[-1])
    with pytest.raises(click.UsageError, match="empty name"):
        parameter.type.convert("", parameter, None)


@pytest.mark.parametrize("columns", ["40", "50", "80"])
@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_summaries_are_not_cut(
    words: tuple[str, ...], columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point 49: `share  Share files or directories where they lie; prints a ticket...`."""
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = said((*words, "--help"), capsys)
    assert "...\n" not in out.replace("[ARGS]...\n", "")
    assert max(map(len, out.splitlines())) <= int(columns)


@pytest.mark.parametrize(
    "columns", ["0", "-5", "abc", "\N{SUPERSCRIPT TWO}", "9" * 5000], ids=["0", "-5", "abc", "square", "long"]
)
def test_a_width_that_is_none_is_the_terminals(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, _ = said(("--help",), capsys)
    assert not code and max(map(len, out.splitlines())) <= 80


def test_words_of_other_tools_are_answered_with_the_command_here(capsys: pytest.CaptureFixture[str]) -> None:
    """Points 46 and 47."""
    for typed, here in ELSEWHERE.items():
        code, out, err = said((*typed.split(), "something"), capsys)
        assert (code, out, err) == (2, "", f"stack: `stack {typed}` is `stack {here}` here.\n")


def test_words_that_have_no_match_here_are_answered_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Point 46: `restart`, `log`, `tail`, `mount`, `cid`, `upgrade`, `shell`; all that is named is there."""
    known = {words for words, _ in ALL}
    for typed, sentence in NOT_SO.items():
        code, out, err = said((typed,), capsys)
        assert (code, out) == (2, "") and err == f"stack: there is no command {typed!r}: {sentence}.\n"
        assert (typed,) not in known and typed not in ELSEWHERE
        for command in re.findall(r"`stack (?:-\w )?([a-z ]+)", sentence):
            assert any(tuple(command.split()[:length]) in known for length in (1, 2))


def test_what_the_answers_name_is_there() -> None:
    known = {words for words, _ in ALL}
    for typed, here in ELSEWHERE.items():
        assert tuple(typed.split()) not in known, f"{typed} is a command of ours"
        parts = tuple(here.split())
        assert parts[0].startswith("--") or parts in known or (parts[:1] in known and parts[:2] != parts[:1])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(("gte",), "get"), (("shar",), "share"), (("pin", "lss"), "pin ls"), (("jobs", "lss"), "jobs ls")],
)
def test_a_mistyped_command_is_guessed(typed: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(typed, capsys)
    assert (code, out) == (2, "") and f"Did you mean `stack {meant}`?" in err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("0.5", 0.5), ("5s", 5), ("2m", 120), ("2 min", 120), ("1h30m", 5400), ("1d", 86400), ("500ms", 0.5)],
)
def test_a_time_is_read_with_and_without_a_unit(text: str, seconds: float) -> None:
    """Point 48: rates take units, times did not."""
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-1", "0", "1e9", "99999999999", "5 5s", "nan", "inf", "٣s"])
def test_what_is_no_time_is_told_with_an_example(text: str) -> None:
    with pytest.raises(click.UsageError, match=r"is no time such as 30s, 5m or 1h30m"):
        DURATION.convert(text, None, None)


MACHINE_WORDS = re.compile(r"SOURCE|FLOAT|<lambda|Invalid value|x>=|\(\d+[KMG]iB\)|RAW|HAMT|TEXT\b")


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_no_help_speaks_of_how_the_program_is_made(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Point 48."""
    code, out, _ = said((*words, "--help"), capsys)
    assert code == 0 and MACHINE_WORDS.findall(out) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("share", "nofile"), "nofile does not exist"),
        (("get", "bafkqaaa", "--timeout", "5x"), "--timeout: '5x' is no time such as 30s, 5m or 1h30m"),
        (("share", "--up", "fast", "x"), "--up: 'fast' is not a rate such as 500K or 4MB/s"),
    ],
)
def test_a_mistake_is_told_without_words_of_the_machine(
    words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Point 48: `Invalid value: nofile does not exist`."""
    assert said(words, capsys) == (2, "", f"stack: {line}\n")
