"""What each command prints as JSON, said where its options are: `--json` is one object, `--jsonl` one for each event.

The schema (`stack schema`) is made from this. What a command prints instead when it fails is an `Error`.
"""

from collections.abc import Callable
from typing import TypeVar

import click

from stack.values import dataclass

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Why a command failed; it is said on stderr too."""

    kind: str
    """The class of the error: `NoProvider`, `Refused`, ..., or `UsageError` for what was typed wrongly."""
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command prints."""

    kind: object
    """A dataclass, or a union of them."""
    many: bool = False
    """They are the `items` of the object."""


def answers(kind: object, *, many: bool = False) -> Callable[[F], F]:
    """The option `--json`: one object with the fields of `kind`, or `{"items": [...]}` with many of them."""

    def decorated(function: F) -> F:
        function.answers = Answer(kind, many)  # type: ignore[attr-defined] # read by `cli.schema`
        return click.option("--json", "as_json", is_flag=True, is_eager=True, help="Print JSON on stdout.")(function)

    return decorated


def tells(kind: object, what: str = "every event") -> Callable[[F], F]:
    """The option `--jsonl`: an object a line, each with the fields of one of `kind` and its name in `event`."""

    def decorated(function: F) -> F:
        function.tells = Answer(kind)  # type: ignore[attr-defined] # as above
        text = f"Print {what} as a line of JSON."
        return click.option("--jsonl", "as_lines", is_flag=True, callback=_alone, help=text)(function)

    return decorated


def _alone(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """`--jsonl` without `--json`: a program that wants one object would read many."""
    if value and context.params.get("as_json"):
        raise click.UsageError("--json prints one object, --jsonl one for each event: one of them", context)
    return value
