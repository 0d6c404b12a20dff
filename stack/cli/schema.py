"""`stack schema`: what every command prints as JSON, as a JSON Schema made from the types that the commands name (`cli.answers`)."""

import ast
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

import click

from stack.cli import is_utf_8, output
from stack.cli.answers import Answer, Error
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.schema import SCHEMA_VERSION, Json, json_name

PLAIN: dict[object, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Path: {"type": "string", "description": "A path."},
    Cid: {"type": "string", "description": "A CID."},
    PeerId: {"type": "string", "description": "A peer id."},
    Multiaddr: {"type": "string", "description": "A multiaddr."},
    bytes: {"type": "string", "contentEncoding": "base64"},
}

VERSION: Json = {"const": SCHEMA_VERSION}
FAILURE: Json = {"$ref": "#/$defs/Failure"}


@click.command()
def schema() -> None:
    """Print the JSON Schema of what all commands print with --json and --jsonl."""
    from stack.cli.app import cli

    output.lines(json.dumps(schema_of(cli), indent=1, ensure_ascii=not is_utf_8(sys.stdout)))


def schema_of(root: click.Group, *, closed: bool = False) -> dict[str, Json]:
    """The whole schema: `commands` has the two forms of each, `$defs` the types they are made of. A newer version may say more than
    an older schema names, unless that is `closed`."""
    made = _Schema(closed)
    commands: dict[str, Json] = {}
    for name, command in commands_of(root):
        answer, told = getattr(command.callback, "answers", None), getattr(command.callback, "tells", None)
        forms: dict[str, Json] = {}
        if answer is not None:
            forms["--json"] = {"anyOf": [*made.printed(answer), FAILURE]}
        if told is not None:
            forms["--jsonl"] = {"anyOf": [*map(made.event, kinds_of(told.kind)), FAILURE]}
        if forms:
            commands[name] = forms
    said = "What a command prints instead, or last, when it fails."
    failure = made.object({"schema": VERSION, "error": made.of(Error)}, said)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What stack prints as JSON, version {SCHEMA_VERSION}",
        "commands": commands,
        "$defs": {"Failure": failure, **dict(sorted(made.definitions.items()))},
    }


def commands_of(group: click.Group, above: str = "stack") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be typed, also groups that do something by themselves."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = f"{above} {name}"
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield path, command
        if isinstance(command, click.Group):
            yield from commands_of(command, path)


def kinds_of(kind: object) -> tuple[object, ...]:
    """The types of a union, or the one that it is."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


class _Schema:
    """Schemas of types; dataclasses are collected in `definitions`."""

    def __init__(self, closed: bool) -> None:
        self._closed = closed
        self.definitions: dict[str, Json] = {}

    def printed(self, answer: Answer) -> list[Json]:
        """The objects that `--json` may print; why an answer is not what was hoped for stands beside it."""
        if answer.many:
            items: Json = {"type": "array", "items": self.of(answer.kind)}
            return [self.object({"schema": VERSION, "items": items}, beside=self._beside())]
        return [self._fields(each, {"schema": VERSION}, self._beside()) for each in kinds_of(answer.kind)]

    def _beside(self) -> dict[str, Json]:
        return {"error": self.of(Error)}

    def event(self, kind: object) -> Json:
        """The object that a line of `--jsonl` has."""
        assert isinstance(kind, type)
        return self._fields(kind, {"schema": VERSION, "event": {"const": kind.__name__}})

    def of(self, kind: object) -> Json:
        """The schema of values of a type of `node.schema`."""
        if kind in PLAIN:
            return PLAIN[kind]
        if get_origin(kind) in (Union, types.UnionType):
            return {"anyOf": [self.of(each) for each in get_args(kind)]}
        if get_origin(kind) is tuple:
            return {"type": "array", "items": self.of(get_args(kind)[0])}
        assert isinstance(kind, type)
        if kind.__name__ not in self.definitions:
            self.definitions[kind.__name__] = None  # now: a type may hold others of its own
            self.definitions[kind.__name__] = self._fields(kind, {})
        return {"$ref": f"#/$defs/{kind.__name__}"}

    def _fields(self, kind: object, properties: dict[str, Json], beside: dict[str, Json] | None = None) -> Json:
        """The object with these properties, and the fields of a dataclass."""
        assert isinstance(kind, type) and is_dataclass(kind), kind
        hints, told = get_type_hints(kind), _said_of_fields(kind)
        for field in fields(kind):
            form = self.of(hints[field.name])
            assert isinstance(form, dict)
            said: dict[str, Json] = {"description": told[field.name]} if field.name in told else {}
            properties[json_name(field.name)] = {**form, **said}
        return self.object(properties, _one_line(kind.__doc__ or ""), beside)

    def object(
        self, properties: dict[str, Json], said: str = "", beside: dict[str, Json] | None = None
    ) -> dict[str, Json]:
        """All of these are there, and what is `beside` them may be."""
        made: dict[str, Json] = {"description": said} if said else {}
        made |= {"type": "object", "required": list(properties), "properties": {**properties, **(beside or {})}}
        return made | ({"additionalProperties": False} if self._closed else {})


def _one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def _said_of_fields(kind: type) -> dict[str, str]:
    """The docstrings that stand behind the fields of a class."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id: _one_line(said.value.value)
        for field, said in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant) and isinstance(said.value.value, str)
    }
