"""dag-json: JSON with two reserved forms, `{"/": "CID"}` for a link and `{"/": {"bytes": "base64"}}` for bytes.

Source: the IPLD specification of dag-json (ipld/ipld, specs/codecs/dag-json/spec.md), RFC 8259. The parser is our own
because the standard library's recurses: a few kilobytes of `[` would reach the interpreter's recursion limit.

White space and any order of keys are read, as the specification asks; what is written has neither. Where it leaves a
choice (escapes, exponents) the form of go-ipld-prime is written, so that CIDs are those of Kubo.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

from stack.dag.model import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, ITEMS_MAX, Codec, EncodeError, Value, links_of
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.sansio.interfaces import Buffer

_SPACE = re.compile(r"[ \t\n\r]*+")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*+))((?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)")
_WORDS: dict[str, Value] = {"null": None, "true": True, "false": False}
_WORD = re.compile("|".join(_WORDS))

_INTEGER_CHARACTERS_MAX = len(str(INTEGER_MIN))
"""Checked before the digits become a number, which takes quadratic time."""

_ESCAPED = re.compile(r'["\\\x00-\x1f\u2028\u2029]')
_SHORT_ESCAPES = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}

_FIXED_FROM, _FIXED_TO = 1e-6, 1e21
"""Floats in this range are written without exponent (ECMAScript's rule, which go-ipld-prime follows)."""


def encode(value: Value) -> bytes:
    """The canonical text of `value`: no white space, keys sorted by their bytes.

    Raises EncodeError on maps that look like a link or bytes (there is no way to escape them), integers over 64 bits,
    floats that are not finite, text that is no Unicode, nesting over `DEPTH_MAX`, what is not of the data model.
    """
    out: list[str] = []
    waiting: list[tuple[Iterator[tuple[str, Value]], str]] = [(iter((("", value),)), "")]
    while waiting:
        entries, closing = waiting[-1]
        for before, item in entries:
            out.append(before)
            if isinstance(item, list):
                out.append("[")
                waiting.append((_list_entries(item), "]"))
            elif isinstance(item, dict):
                out.append("{")
                waiting.append((_map_entries(item), "}"))
            else:
                out.append(_scalar_text(item))
                continue
            if len(waiting) > DEPTH_MAX + 1:
                raise EncodeError(f"dag-json: nested deeper than {DEPTH_MAX}")
            break
        else:
            out.append(closing)
            waiting.pop()
    try:
        return "".join(out).encode()
    except UnicodeEncodeError:
        raise EncodeError("dag-json: text that is not Unicode") from None


def _list_entries(item: list[Value]) -> Iterator[tuple[str, Value]]:
    """Each value with the text that stands before it."""
    before = ""
    for value in item:
        yield before, value
        before = ","


def _map_entries(item: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """Each value with the text that stands before it, its key. The order of code points is the order of UTF-8."""
    if not all(isinstance(key, str) for key in item):
        raise EncodeError("dag-json: the key of a map must be text")
    if _is_reserved(item):
        raise EncodeError("dag-json: a map that would be read as a link or as bytes")
    before = ""
    for key in sorted(item):
        yield f"{before}{_quoted(key)}:", item[key]
        before = ","


def _is_reserved(item: dict[str, Value], first: Callable[[Iterable[str]], str] = min) -> bool:
    """The reserved namespace: the first key is "/", its value text or a map whose first key is "bytes", with text."""
    if "/" not in item or first(item) != "/":
        return False
    inner = item["/"]
    if isinstance(inner, dict):
        return isinstance(inner.get("bytes"), str) and first(inner) == "bytes"
    return isinstance(inner, str)


def _first_written(keys: Iterable[str]) -> str:
    return next(iter(keys))


def _scalar_text(item: Value) -> str:
    if item is None:
        return "null"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        if not INTEGER_MIN <= item <= INTEGER_MAX:
            raise EncodeError("dag-json: an integer over 64 bits")
        return str(item)
    if isinstance(item, str):
        return _quoted(item)
    if isinstance(item, bytes):
        return f'{{"/":{{"bytes":"{_base64(item)}"}}}}'
    if isinstance(item, float):
        return _float_text(item)
    if isinstance(item, Cid):
        return f'{{"/":"{item}"}}'
    raise EncodeError(f"dag-json: {type(item).__name__} is not of the data model")


def _quoted(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _float_text(number: float) -> str:
    """The fewest digits that give the same float; a point or an exponent tells it from an integer."""
    if not math.isfinite(number):
        raise EncodeError("dag-json: a float must be finite")
    shortest = repr(number)
    if number == 0 or _FIXED_FROM <= abs(number) < _FIXED_TO:
        text = f"{Decimal(shortest):f}"
        return text if "." in text else text + ".0"
    mantissa, _, exponent = shortest.partition("e")
    return f"{mantissa}e{int(exponent):+d}"


def decode(data: Buffer) -> Value:
    """The value of this text, all of it. Raises DecodeError.

    Duplicate keys are refused, and the reserved forms must hold exactly one CID in its own base or unpadded base64. At
    most `ITEMS_MAX` items, `DEPTH_MAX` levels, integers of 64 bits.
    """
    try:
        text = bytes(data).decode()
    except UnicodeDecodeError:
        raise DecodeError("dag-json: not UTF-8") from None
    return _Parser(text).parse()


def links(data: Buffer) -> list[Cid]:
    """The links of a block, in the order of the text. Raises DecodeError."""
    return links_of(decode(data))


class _Parser:
    """One pass over one text. `parse` is its only entry."""

    __slots__ = ("_budget", "_position", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._budget = ITEMS_MAX

    def parse(self) -> Value:
        value = self._value()
        if self._next():
            raise self._error("something after the value")
        return value

    def _value(self) -> Value:
        """The value at the position, without recursion: `open_` is what encloses it, `keys` the key due in its maps."""
        open_: list[list[Value] | dict[str, Value]] = []
        keys: list[str] = []
        while True:
            opening = self._next()
            value: Value
            if opening in ("[", "{"):
                if len(open_) >= DEPTH_MAX:
                    raise self._error(f"nested deeper than {DEPTH_MAX}")
                self._position += 1
                container: list[Value] | dict[str, Value] = [] if opening == "[" else {}
                if self._next() != _CLOSING[opening]:
                    open_.append(container)
                    if isinstance(container, dict):
                        keys.append(self._key(container))
                    continue
                self._position += 1
                value = container
            else:
                value = self._scalar(opening)
            while open_:
                container = open_[-1]
                self._charge()
                if isinstance(container, dict):
                    container[keys.pop()] = value
                else:
                    container.append(value)
                character = self._next()
                self._position += 1
                if character == ",":
                    if isinstance(container, dict):
                        keys.append(self._key(container))
                    break
                if character != ("}" if isinstance(container, dict) else "]"):
                    raise self._error("a list or map goes on without comma, or does not end")
                open_.pop()
                value = _resolve(container) if isinstance(container, dict) else container
            else:
                return value

    def _next(self) -> str:
        """The next character that is no white space, which stays to be read; empty at the end."""
        match = _SPACE.match(self._text, self._position)
        assert match is not None  # the expression matches the empty string
        self._position = match.end()
        return self._text[self._position : self._position + 1]

    def _charge(self) -> None:
        self._budget -= 1
        if self._budget < 0:
            raise self._error(f"more than {ITEMS_MAX} items")

    def _error(self, what: str) -> DecodeError:
        return DecodeError(f"dag-json: {what} (at character {self._position})")

    def _key(self, container: dict[str, Value]) -> str:
        self._next()
        key = self._string()
        if key in container:
            raise self._error("a key twice in one map")
        if self._next() != ":":
            raise self._error("a key without colon")
        self._position += 1
        self._charge()
        return key

    def _string(self) -> str:
        match = _STRING.match(self._text, self._position)
        if match is None:
            raise self._error("text with a bad escape or a control character, unfinished, or missing")
        self._position = match.end()
        literal = match[0]
        if "\\" not in literal:
            return literal[1:-1]
        text: str = json.loads(literal)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._error("an escape for half of a surrogate pair") from None
        return text

    def _scalar(self, first: str) -> Value:
        if first == '"':
            return self._string()
        match = _WORD.match(self._text, self._position)
        if match is not None:
            self._position = match.end()
            return _WORDS[match[0]]
        match = _NUMBER.match(self._text, self._position)
        if match is None:
            raise self._error("no value")
        self._position = match.end()
        if match[2]:
            number = float(match[0])
            if not math.isfinite(number):
                raise self._error("a float that is not finite")
            return number
        if len(match[1]) > _INTEGER_CHARACTERS_MAX or not INTEGER_MIN <= int(match[1]) <= INTEGER_MAX:
            raise self._error("an integer over 64 bits")
        return int(match[1])


_CLOSING = {"[": "]", "{": "}"}


def _resolve(item: dict[str, Value]) -> Value:
    """The link or the bytes that a finished map stands for, or the map."""
    # First in the text is what other parsers go by, first when sorted what an encoder would write: neither may mislead.
    if not (_is_reserved(item) or _is_reserved(item, _first_written)):
        return item
    inner = item["/"]
    if len(item) != 1 or (isinstance(inner, dict) and len(inner) != 1):
        raise DecodeError("dag-json: further keys beside a link or bytes")
    if isinstance(inner, dict):
        return _bytes(str(inner["bytes"]))
    text = str(inner)
    cid = Cid.from_text(text)
    if cid.text != text:
        raise DecodeError("dag-json: a link must be base32, or base58 for version 0")
    return cid


def _bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise DecodeError("dag-json: bytes that are not base64") from None
    if _base64(data) != text:
        raise DecodeError("dag-json: base64 with padding or stray bits")
    return data


CODEC = Codec(name="dag-json", decode=decode, encode=encode, links=links)
