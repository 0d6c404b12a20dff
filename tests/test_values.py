"""What `stack.values.dataclass` makes is what the standard library makes of the same class."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from typing import Any, Generic, TypeVar, get_type_hints

import pytest

from stack import values

T = TypeVar("T")
Number = float
Decorator = Callable[..., Callable[[type], type]]


def _family(decorator: Decorator, *, frozen: bool) -> dict[str, Any]:
    """The same classes by one decorator or the other."""

    @decorator(frozen=frozen, slots=True, kw_only=True)
    class Fact:
        """Of nothing."""

    @decorator(frozen=frozen, slots=True, kw_only=True)
    class Opened(Fact):
        """With all kinds of defaults, and one hidden."""

        peer: str
        bytes: "int" = 7
        names: list[str] = field(default_factory=list)
        key: str = field(default="k", repr=False)
        seen: "Number" = field(default=0.0, compare=False)
        made: list[int] = field(init=False, default_factory=list)
        fixed: int = field(init=False, default=3)

        def doubled(self) -> int:
            return 2 * self.bytes

        @property
        def title(self) -> str:
            return f"{self.peer}!"

    @decorator(frozen=frozen, slots=True, kw_only=True)
    class Closed(Opened):
        """With a field of the base given another default, and one more."""

        bytes: int = 9
        reason: str

    @decorator(frozen=frozen, slots=True)
    class Pair(Generic[T]):
        """By position, and checked."""

        first: T
        second: int = 1

        def __post_init__(self) -> None:
            if self.second < 0:
                raise ValueError("negative")

    @decorator(frozen=frozen, slots=True, eq=False)
    class Same:
        """Equal to itself alone."""

        name: str
        late: int = field(init=False)

    @decorator(frozen=frozen, slots=True)
    class Own:
        """With methods of its own."""

        name: str

        def __init__(self, text: str) -> None:
            object.__setattr__(self, "name", text.lower())

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self))

        def __hash__(self) -> int:
            return 1

    return {cls.__name__: cls for cls in (Fact, Opened, Closed, Pair, Same, Own)}


@pytest.fixture(params=[True, False], ids=["frozen", "not frozen"])
def both(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    return _family(values.dataclass, frozen=request.param), _family(dataclasses.dataclass, frozen=request.param)


def _objects(family: dict[str, Any]) -> list[Any]:
    return [
        family["Fact"](),
        family["Opened"](peer="a"),
        family["Opened"](peer="a", bytes=1, names=["x"], key="other"),
        family["Opened"](peer="a", seen=2.5),
        family["Closed"](peer="a", reason="r"),
        family["Pair"](1),
        family["Pair"]((2, 3), second=4),
        family["Own"]("TEXT"),
    ]


def test_objects_are_shown_compared_and_hashed_as_those_of_the_standard_library(both: Any) -> None:
    ours, standard = _objects(both[0]), _objects(both[1])
    assert list(map(repr, ours)) == list(map(repr, standard))
    assert [[a == b for a in ours] for b in ours] == [[a == b for a in standard] for b in standard]
    for own, other in zip(ours, standard, strict=True):
        assert own != other
        assert own.__eq__(None) is other.__eq__(None)
        if type(other).__hash__ is None:
            assert type(own).__hash__ is None
        else:
            try:
                expected = hash(other)
            except TypeError:
                with pytest.raises(TypeError, match="unhashable"):
                    hash(own)
            else:
                assert hash(own) == expected
    same = both[0]["Same"]("a")
    assert same == same and same != both[0]["Same"]("a") and hash(same) == object.__hash__(same)
    assert not hasattr(same, "late")


def test_what_is_told_of_a_class_is_what_the_standard_library_tells(both: Any) -> None:
    for own, standard in zip(both[0].values(), both[1].values(), strict=True):
        assert [str(each) for each in fields(own)] == [str(each) for each in fields(standard)]
        assert inspect.signature(own) == inspect.signature(standard) or "<factory>" in str(inspect.signature(own))
        assert str(inspect.signature(own)) == str(inspect.signature(standard))
        assert get_type_hints(own.__init__) == get_type_hints(standard.__init__)
        assert own.__init__.__module__ == standard.__init__.__module__
        for name in ("__slots__", "__match_args__", "__doc__", "__qualname__", "__module__", "__annotations__"):
            assert getattr(own, name) == getattr(standard, name), (own, name)
        assert not hasattr(own, "__dict__") or "__dict__" not in dir(own)
    ours, standards = _objects(both[0]), _objects(both[1])
    assert [asdict(each) for each in ours] == [asdict(each) for each in standards]
    assert ours[1].doubled() == 14 and ours[1].title == "a!"


def test_a_copy_with_other_values_is_made_as_from_the_standard_library(both: Any) -> None:
    for own, standard in zip(_objects(both[0])[1:5], _objects(both[1])[1:5], strict=True):
        assert repr(replace(own, peer="b")) == repr(replace(standard, peer="b"))
        assert copy.copy(own) == own and copy.deepcopy(own) == own


@pytest.mark.parametrize("wrong", [{}, {"peer": "a", "other": 1}, {"peer": "a", "made": []}])
def test_what_the_standard_library_refuses_is_refused_in_its_words(both: Any, wrong: dict[str, object]) -> None:
    said = []
    for family in both:
        with pytest.raises(TypeError) as refused:
            family["Opened"](**wrong)
        said.append(str(refused.value))
    assert said[0] == said[1]
    with pytest.raises(ValueError, match="negative"):
        both[0]["Pair"](1, -1)


def test_what_is_frozen_cannot_be_changed() -> None:
    value = _family(values.dataclass, frozen=True)["Opened"](peer="a")
    for name in ("peer", "unknown"):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field"):
            setattr(value, name, 1)
        with pytest.raises(FrozenInstanceError, match="cannot delete field"):
            delattr(value, name)


def test_the_standard_library_derives_from_it_where_both_are_frozen_or_neither() -> None:
    for frozen in (True, False):
        base = _family(values.dataclass, frozen=frozen)["Opened"]

        @dataclasses.dataclass(frozen=frozen, slots=True, kw_only=True)
        class Further(base):  # type: ignore[misc,valid-type]
            """In another package."""

            more: int = 0

        assert repr(Further(peer="a", more=2)).endswith("seen=0.0, made=[], fixed=3, more=2)")

    with pytest.raises(TypeError, match="frozen"):

        @dataclasses.dataclass
        class Loose(_family(values.dataclass, frozen=True)["Fact"]):  # type: ignore[misc]
            """Not allowed."""


@values.dataclass(frozen=True, slots=True)
class Sent:
    """Where pickle finds it."""

    number: int
    text: str = ""


def test_it_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent(1, "a"))) == Sent(1, "a")


def test_a_value_inside_itself_is_shown_once() -> None:
    opened = _family(values.dataclass, frozen=True)["Opened"](peer="a")
    opened.made.append(opened)
    assert "made=[...]" in repr(opened)


def test_values_have_slots() -> None:
    with pytest.raises(TypeError, match="slots"):
        values.dataclass(slots=False)
