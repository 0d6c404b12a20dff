"""Hostile names: as file names, and on the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.dag.unixfs.names import NAME_BYTES_MAX, collision_key, printable, safe_name
from stack.errors import DecodeError

LEADING_OUT = [
    "",
    ".",
    "..",
    "/",
    "//",
    "/etc/passwd",
    "/abs",
    "a/b",
    "a/",
    "./a",
    "../a",
    "../../a",
    "a/../../b",
    "a/./b",
    "..\\a",
    "\\",
    "\\\\server\\share",
    "a\\b",
    "\0",
    "a\0",
    "a\0.txt",
    "\0/../x",
    "C:",
    "c:",
    "C:\\Windows",
    "C:x",
    "z:/",
    "x" * 256,
    "x" * 4096,
    "é" * 128,
    "\udcff" * 256,
    "\ud800",
]


HIDDEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufe00\ufe0e\ufe0f"


@pytest.mark.parametrize("name", LEADING_OUT, ids=range(len(LEADING_OUT)))
def test_A58_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(DecodeError) as caught:
        safe_name(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "...",
        ".hidden",
        "..a",
        "a..",
        "ab:c.txt",
        "1:",
        ":",
        "été",
        "日本語",
        "x" * NAME_BYTES_MAX,
        "\udcff",
        "a\nb",
    ],
)
def test_A58_other_names_are_taken_as_they_are(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("one", "other"), [("A", "a"), ("ß", "SS"), ("\u00e9", "e\u0301"), ("É", "e\u0301"), ("\u212a", "k")]
)
def test_A58_names_that_are_one_file_elsewhere_have_one_key(one: str, other: str) -> None:
    assert collision_key(one) == collision_key(other)
    assert collision_key(one) != collision_key(one + "x")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("été 日本語 😀", "été 日本語 😀"),
        ("wide\u3000space", "wide\u3000space"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\nc\x07", "a\\x0db\\x0ac\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("exe\u202etxt", "exe\\u202etxt"),
        ("a\u2066b\u2069", "a\\u2066b\\u2069"),
        ("a\u200bb", "a\\u200bb"),
        ("a\u2028b", "a\\u2028b"),
        *((f"a{hidden}b", f"a\\u{ord(hidden):04x}b") for hidden in HIDDEN),
        ("葛\U000e0100", "葛\\U000e0100"),
        ("a\ufe0fb", "a\\ufe0fb"),
        ("\u2764\ufe0f\ufe0f \u2194\ufe0e", "\u2764\ufe0f\\ufe0f \u2194\ufe0e"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("\\x1b", "\\\\x1b"),
    ],
)
def test_A60_what_a_terminal_would_obey_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


@given(st.text())
def test_A60_nothing_a_terminal_would_obey_is_left(name: str) -> None:
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in printable(name))


@given(st.text(max_size=20), st.text(max_size=20))
def test_A60_names_that_differ_look_different(one: str, other: str) -> None:
    assert (printable(one) == printable(other)) == (one == other)
