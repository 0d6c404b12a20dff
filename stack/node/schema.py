"""Requests and answers as JSON values: what `--json` prints and what the control protocol carries.

A value is `{"class": ClassName, field: ...}` at the top and plain JSON below. Known field types: str, int, float, bool, None, Path,
Cid, PeerId, Multiaddr, bytes (in base64), dataclasses, unions of these with None, and tuples of these. Everything read is checked against
the field's type, so a hostile or newer peer of the control protocol gets a DecodeError, never a half-made request.
"""

import types
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

from stack.errors import DecodeError
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr

SCHEMA_VERSION = 1
"""Version of what `--json` and `--jsonl` print; raised when a field changes its meaning or goes."""

JSON_NAMES = {"addrs": "addresses", "peer": "peer_id", "root": "cid", "total": "bytes_total"}
"""One name for one thing: what some fields, named after their own rooms, are called in JSON."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def _bytes_of(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise DecodeError("base64 was expected") from error


_TEXTS: dict[type, Callable[[str], object]] = {
    bytes: _bytes_of,
    Path: Path,
    Cid: Cid.from_text,
    PeerId: PeerId.parse,
    Multiaddr: Multiaddr.parse,
}


def json_name(field: str) -> str:
    """What a field is called in JSON."""
    return JSON_NAMES.get(field, field)


def to_json(value: object) -> Json:
    """The JSON form of an answer, without its type's name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Cid):
        return value.text
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, tuple(_TEXTS)):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {json_name(item.name): to_json(getattr(value, item.name)) for item in fields(value)}
    raise TypeError(f"{type(value).__name__} has no place in the schema")


def to_tagged(value: object) -> Json:
    """As `to_json`, but dataclasses at the top (also in a tuple) carry their type's name."""
    if isinstance(value, tuple | list):
        return [to_tagged(item) for item in value]
    form = to_json(value)
    if isinstance(form, dict):
        return {"class": type(value).__name__, **form}  # a word that no field can have
    return form


@lru_cache(maxsize=512)
def _hints(kind: type) -> dict[str, object]:
    return get_type_hints(kind)


def from_json(kind: object, form: Json) -> object:
    """The value of type `kind` that `form` stands for. Raises DecodeError."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _from_union(get_args(kind), form)
    if origin is tuple:
        if not isinstance(form, list):
            raise DecodeError("a list was expected")
        return tuple(from_json(get_args(kind)[0], item) for item in form)
    if kind is float and isinstance(form, int) and not isinstance(form, bool):
        try:
            return float(form)
        except OverflowError as error:
            raise DecodeError("a number was expected that fits 64 bits") from error
    if kind in (str, int, float, bool, type(None)):
        if type(form) is not kind:
            raise DecodeError(f"{getattr(kind, '__name__', kind)} was expected")
        return form
    if isinstance(kind, type) and kind in _TEXTS:
        if not isinstance(form, str):
            raise DecodeError("a text was expected")
        return _TEXTS[kind](form)
    if isinstance(kind, type) and is_dataclass(kind):
        return _from_fields(kind, form)
    raise TypeError(f"{kind!r} has no place in the schema")


def _from_union(kinds: tuple[object, ...], form: Json) -> object:
    if form is None and type(None) in kinds:
        return None
    problem = DecodeError("no value of these types was expected")
    for kind in kinds:
        if kind is not type(None):
            try:
                return from_json(kind, form)
            except DecodeError as error:
                problem = error
    raise problem


def _from_fields(kind: type, form: Json) -> object:
    if not isinstance(form, dict):
        raise DecodeError(f"{kind.__name__}: an object was expected")
    hints = _hints(kind)
    values: dict[str, object] = {}
    for item in fields(kind):
        name = json_name(item.name)
        if name in form:
            try:
                values[item.name] = from_json(hints[item.name], form[name])
            except DecodeError as error:
                raise DecodeError(f"{kind.__name__}.{name}: {error}") from error
        elif item.default is MISSING and item.default_factory is MISSING:
            raise DecodeError(f"{kind.__name__}.{name} is missing")
    return kind(**values)


def from_tagged(form: Json, known: dict[str, type]) -> object:
    """The opposite of `to_tagged` for the types in `known`. Raises DecodeError."""
    if isinstance(form, list):
        return tuple(from_tagged(item, known) for item in form)
    if isinstance(form, dict):
        name = form.get("class")
        kind = known.get(name) if isinstance(name, str) else None
        if kind is None:
            raise DecodeError(f"{name!r} is not known here")
        return _from_fields(kind, {key: value for key, value in form.items() if key != "class"})
    return form
