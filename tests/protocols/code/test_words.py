"""Codes as people say and type them."""

import random
import re
from itertools import combinations

import pytest

from stack.errors import DecodeError
from stack.protocols.code.words import COUNT, WORDS, Code, make_words, read_code

OTTER = Code(4, ("otter", "lamp", "violin"))


def distance(one: str, other: str) -> int:
    """Letters put in, left out or changed (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row = row, [number]
        for place, theirs in enumerate(other):
            row.append(min(above[place + 1] + 1, row[-1] + 1, above[place] + (letter != theirs)))
    return row[-1]


def sound(word: str) -> str:
    """Soundex, of the whole word."""
    groups = {
        letter: str(number)
        for number, letters in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"))
        for letter in letters
    }
    found, last = word[0], groups.get(word[0], "")
    for letter in word[1:]:
        group = groups.get(letter, "")
        found += group if group != last else ""
        last = last if letter in "hw" else group
    return found


def test_no_word_is_taken_for_another() -> None:
    assert len(set(WORDS)) == 256 and list(WORDS) == sorted(WORDS)
    assert all(re.fullmatch(r"[a-z]{4,10}", word) for word in WORDS)
    assert len({word[:3] for word in WORDS}) == len({sound(word) for word in WORDS}) == 256
    assert min(distance(one, other) for one, other in combinations(WORDS, 2)) >= 3


@pytest.mark.parametrize(
    "typed",
    ["4-otter-lamp-violin", " 4 OTTER Lamp violin. ", "4-ott-lam-vio", "04_otter.lamp, violin", "4 otte lamp viol\n"],
)
def test_a_code_is_read_as_people_type_it(typed: str) -> None:
    assert read_code(typed) == OTTER


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "4",
        "otter-lamp-violin",
        "4-otter-lamp",
        "4-otter-lamp-violin-owl",
        "0-otter-lamp-violin",
        "4-otter-lamp-v",
        "12345-otter-lamp-violin",
    ],
)
def test_what_has_not_its_form_is_no_code(typed: str) -> None:
    assert read_code(typed) is None


def test_a_word_that_there_is_not_is_said_with_the_nearest_before_anything_is_tried() -> None:
    with pytest.raises(DecodeError, match=r"^oter is no word of a code: otter\?$"):
        read_code("4-oter-lamp-violin")
    with pytest.raises(DecodeError, match=r"^qqqqq is no word of a code$"):
        read_code("4-otter-lamp-qqqqq")
    with pytest.raises(DecodeError, match="lampe is no word of a code: lamp"):
        read_code("4-otter-lampe-violin")


def test_new_words_are_of_the_list_and_the_same_for_the_same_seed() -> None:
    words = make_words(random.Random(1))
    assert len(words) == COUNT and set(words) <= set(WORDS) and words == make_words(random.Random(1))
    assert read_code(str(Code(17, words))) == Code(17, words)


def test_what_is_printed_of_a_code_by_accident_is_its_number_alone() -> None:
    assert repr(OTTER) == "Code(number=4)" and OTTER.password == b"4-otter-lamp-violin"
