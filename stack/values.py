"""`dataclass` of the standard library, for a program that loads many classes and uses few of them.

The standard one writes five methods of each class as text and has them compiled when the module is loaded: for the 338 classes of
`stack get` that was a third of the processor time that a small file took. Here a method is written once somebody asks for it. What
the methods do is the same, and so is all that `dataclasses` and `inspect` tell of a class.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, FrozenInstanceError
from functools import partial
from itertools import chain
from reprlib import recursive_repr
from types import FunctionType
from typing import TYPE_CHECKING, ClassVar, get_origin

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, slots, frozen=False, kw_only=False, eq=True):
        """As `dataclasses.dataclass`, always with slots. InitVar and the marker KW_ONLY are not provided for."""
        if not slots:
            raise TypeError("values have slots")
        return lambda cls: _with_methods(cls, frozen, kw_only, eq)


FEW = 8
"""Objects of a class that are made before its `__init__` is written."""


def _with_methods(cls: type, frozen: bool, kw_only: bool, eq: bool) -> type:
    """A class with slots in place of this one: slots cannot be added to what is there."""
    names = [name for name, kind in inspect.get_annotations(cls).items() if ClassVar not in (kind, get_origin(kind))]
    content = {**cls.__dict__, "__qualname__": cls.__qualname__}
    for name in ("__dict__", "__weakref__"):
        content.pop(name, None)
    defaults = {name: content.pop(name) for name in names if name in content}
    inherited = set(chain.from_iterable(base.__dict__.get("__slots__", ()) for base in cls.__mro__[1:-1]))
    content["__slots__"] = tuple(name for name in names if name not in inherited)
    told = partial(_twin, defaults=defaults, frozen=frozen, kw_only=kw_only)
    for name in ("__dataclass_fields__", "__dataclass_params__", "__match_args__"):
        content[name] = _Told(told)
    content.setdefault("__init__", _Init())
    content.setdefault("__repr__", _repr)
    if eq:
        content.setdefault("__eq__", _Later(_write_eq))
        if content.get("__hash__") is None:
            content["__hash__"] = _Later(_write_hash) if frozen else None
    if frozen:
        content |= {"__setattr__": _set, "__delattr__": _delete, "__getstate__": _state, "__setstate__": _set_state}
    return type(cls)(cls.__name__, cls.__bases__, content)


def _twin(cls: type, defaults: Mapping[str, object], frozen: bool, kw_only: bool) -> type:
    """A class of the standard library with the same fields, those of bases too, and no methods."""
    annotations: dict[str, object] = {}
    content: dict[str, object] = {"__module__": cls.__module__, "__doc__": "for its fields"}
    for base in reversed(cls.__mro__[1:]):
        if "__dataclass_fields__" in base.__dict__:
            for field in dataclasses.fields(base):
                annotations[field.name], content[field.name] = field.type, field
    for name, kind in inspect.get_annotations(cls).items():
        annotations[name] = kind
        content.pop(name, None)
    content["__annotations__"] = annotations
    plain = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)
    twin: type = plain(type(cls.__name__, (), {**content, **defaults}))
    vars(twin)["__dataclass_params__"].frozen = frozen  # for whoever derives from it with the standard `dataclass`
    return twin


class _Later:
    """Stands for a method until that is needed."""

    __slots__ = ("_name", "_owner", "_write")

    def __init__(self, write: Callable[[type], FunctionType]) -> None:
        self._write = write

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, kind: type | None = None) -> object:
        method = self._write(self._owner)
        setattr(self._owner, self._name, method)
        return method.__get__(instance, kind)


class _Told:
    """Stands for what is told of a class until somebody asks."""

    __slots__ = ("_name", "_owner", "_twin")

    def __init__(self, twin: Callable[[type], type]) -> None:
        self._twin = twin

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, _instance: object, _kind: type | None = None) -> object:
        told: object = getattr(self._twin(self._owner), self._name)
        setattr(self._owner, self._name, told)
        return told


class _Init:
    """Stands for `__init__` until it is worth writing: that takes as long as fifty objects, and most classes have one or two."""

    __slots__ = ("_made", "_name", "_owner")

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name, self._made = owner, name, 0

    def __get__(self, instance: object, kind: type | None = None) -> object:
        self._made += 1
        if instance is not None and self._made <= FEW:
            return partial(_fill, self._owner, instance)
        init = _write_init(self._owner)
        setattr(self._owner, self._name, init)
        return init.__get__(instance, kind)


def _fill(cls: type, self: object, /, *given: object, **named: object) -> None:
    """What the written `__init__` does, which is asked for the words where it would refuse."""
    fields = dataclasses.fields(cls)
    places = [field.name for field in fields if field.init and not field.kw_only]
    values = dict(zip(places, given, strict=False)) | named
    wrong = len(values) < len(given) + len(named)
    for field in fields:
        if field.init and field.name in values:
            value = values.pop(field.name)
        elif field.default is not MISSING:
            value = field.default
        elif field.default_factory is not MISSING:
            value = field.default_factory()
        else:
            wrong = wrong or field.init
            continue
        object.__setattr__(self, field.name, value)
    if values or wrong:
        _write_init(cls)(self, *given, **named)
    elif hasattr(self, "__post_init__"):
        self.__post_init__()


def _compiled(
    cls: type, name: str, parameters: Iterable[str], lines: Sequence[str], known: Mapping[str, object]
) -> FunctionType:
    """A method that sees the names in `known`, and as its globals those of its class's module, in which its annotations are read."""
    body = "\n  ".join(lines)
    text = f"def make({', '.join(known)}):\n def {name}({', '.join(parameters)}):\n  {body}\n return {name}"
    made: dict[str, Callable[..., FunctionType]] = {}
    exec(text, vars(sys.modules[cls.__module__]), made)
    method = made["make"](**known)
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


def _write_init(cls: type) -> FunctionType:
    known: dict[str, object] = {}
    parameters = ["self"]
    by_name: list[str] = []
    lines: list[str] = []
    fields = dataclasses.fields(cls)
    for field in fields:
        name = parameter = value = field.name
        if field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
            value = name if field.init else f"_default_{name}"
        elif field.default_factory is not MISSING:
            known |= {f"_make_{name}": field.default_factory, "_made": _MADE}
            parameter = f"{name}=_made"
            value = f"{name} if {name} is not _made else _make_{name}()" if field.init else f"_make_{name}()"
        elif not field.init:
            continue
        if field.init:
            (by_name if field.kw_only else parameters).append(parameter)
        known[f"_set_{name}"] = getattr(cls, name).__set__  # of its slot: `setattr` refuses where it is frozen
        lines.append(f"_set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    parameters += ["*", *by_name] if by_name else []
    init = _compiled(cls, "__init__", parameters, lines or ["pass"], known)
    init.__annotations__ = {field.name: field.type for field in fields if field.init} | {"return": None}
    return init


class _Made:
    def __repr__(self) -> str:
        return "<factory>"


_MADE = _Made()
"""In place of what a factory is to make."""


def _write_eq(cls: type) -> FunctionType:
    lines = [
        "if other.__class__ is self.__class__:",
        f" return {_compared(cls, 'self')} == {_compared(cls, 'other')}",
        "return NotImplemented",
    ]
    return _compiled(cls, "__eq__", ("self", "other"), lines, {})


def _write_hash(cls: type) -> FunctionType:
    return _compiled(cls, "__hash__", ("self",), [f"return hash({_compared(cls, 'self')})"], {})


def _compared(cls: type, instance: str) -> str:
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    return f"({''.join(f'{instance}.{name}, ' for name in names)})"


@recursive_repr()
def _repr(self: object) -> str:
    shown = [f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr]  # type: ignore[arg-type]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _set(_self: object, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(_self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: object) -> list[object]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]  # type: ignore[arg-type]


def _set_state(self: object, state: list[object]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):  # type: ignore[arg-type]
        object.__setattr__(self, field.name, value)
