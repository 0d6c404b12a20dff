"""A slip in a variable of the environment is told, whatever it is a slip of."""

import re
from pathlib import Path

import pytest

import stack
from stack.cli.environment import ALONE, OTHERS, warn
from stack.node.settings import SETTINGS, variable
from tests.acceptance.kit import Machine, complaint, good

PROJECT = Path(stack.__file__).parent.parent
NAME = re.compile(r"(?<![A-Z_])STACK_[A-Z][A-Z_]*")
INVENTED = {"STACK_NAME"}
"""Stands for any."""


@pytest.mark.parametrize(("level", "hint"), [("foo", ""), ("warn", "; did you mean warning?")])
def test_a_level_that_is_none_is_told(sharer: Machine, level: str, hint: str) -> None:
    sharer.environment["STACK_LOG"] = level
    outcome = sharer.run("id", "--json")
    complaint(outcome, 2, f"STACK_LOG: '{level}' is not one of debug, info, warning, error{hint}")
    assert outcome.json["error"]["kind"] == "ConfigError"
    assert good(sharer.run("-v", "id")).code == 0, "which says what is to be logged itself"


def test_a_variable_that_is_none_is_told_once_and_on_stderr(sharer: Machine) -> None:
    sharer.environment |= {"STACK_UPLOAD_LIMITS": "1M", "STACK_XYZZY": "1", "STACK_KUBO": "ipfs", "STACK_YAML": "x"}
    outcome = good(sharer.run("shares", "ls", "--json"))
    assert outcome.json["items"] == []
    assert outcome.err.splitlines() == [
        "warning: not heeded in the environment: STACK_UPLOAD_LIMITS (did you mean STACK_UPLOAD_LIMIT?), STACK_XYZZY"
    ]


def test_many_variables_and_long_ones_are_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    warn({f"STACK_{letter * 200}\n": "" for letter in "QWXYZJV"} | {"HOME": "/", "STACK_PEER_GO": "go"})
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "and 2 more" in line and len(line) < 600


def test_every_variable_that_the_project_names_is_known() -> None:
    known = {*ALONE, *OTHERS, *map(variable, SETTINGS)}
    places = [path for folder in ("tests", "interop", "docs", ".github") for path in (PROJECT / folder).rglob("*")]
    places += [PROJECT / name for name in ("README.md", "tox.ini", "Containerfile", "CONTRIBUTING.md")]
    named = {
        name
        for path in places
        if path.suffix in {".md", ".py", ".ini", ".toml", ".yml", ".sh", ""}
        and path.is_file()
        and path != Path(__file__)
        for name in NAME.findall(path.read_text(errors="replace"))
    }
    assert {name for name in named if not name.startswith("STACK_PEER_")} <= known | INVENTED
