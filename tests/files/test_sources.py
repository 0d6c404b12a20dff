"""What people paste, against its vectors and against everything else they might (use 18, 24, 25)."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.files.sources import SOURCE_MAX, NotASource, read_source
from stack.files.ticket import decode_ticket, encode_ticket
from stack.multiformats.cid import Cid
from tests.flooding import quickest

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "sources.json").read_text())
NAMED = VECTORS["named"]
TICKET, CID = NAMED[0]["text"], next(record["cid"] for record in NAMED if "cid" in record)


@pytest.mark.parametrize("record", NAMED, ids=lambda record: record["note"])
def test_what_is_pasted_names_what_was_meant(record: dict) -> None:
    source = read_source(record["text"])
    assert source.path == record["path"]
    if "ticket" in record:
        assert source.ticket is not None and source.ticket_text == record["ticket"]
        assert source.root == source.ticket.root
    else:
        assert source.ticket is None and source.root.text == record["cid"]


@pytest.mark.parametrize("record", NAMED, ids=lambda record: record["note"])
def test_the_plain_form_reads_as_the_same_again(record: dict) -> None:
    source = read_source(record["text"])
    assert read_source(str(source)) == source


@pytest.mark.parametrize("record", VECTORS["refused"], ids=lambda record: record["note"])
def test_what_names_nothing_is_told_in_one_plain_sentence(record: dict) -> None:
    with pytest.raises(DecodeError) as caught:
        read_source(record["text"])
    assert str(caught.value) == record["says"]
    assert record["says"].isprintable() and len(record["says"]) < 160


names = st.text(st.characters(exclude_characters="/\r\n", exclude_categories=("Cs",)), min_size=1, max_size=12)
paths = st.lists(names, max_size=4).map("/".join)


@given(st.sampled_from([TICKET, CID]), paths)
def test_any_path_below_a_ticket_or_cid_is_kept_as_it_is(whole: str, path: str) -> None:
    source = read_source(f"{whole}/{path}" if path else whole)
    assert source.path == path
    assert read_source(str(source)) == source


noise = st.sampled_from([" ", "\n", "-", "\u200b", "\u00ad", "\ufeff", "\n> ", "\r\n"])
around = st.sampled_from(
    [("<", ">"), ('"', '"'), ("(", ")."), ("“", "”,"), ("", "."), ("Here it is: ", ""), ("> ", "\n")]
)


@given(st.lists(st.tuples(st.integers(1, len(TICKET) - 7), noise), max_size=6), around, st.booleans())
def test_a_ticket_survives_whatever_mail_and_chat_do_to_it(
    breaks: list[tuple[int, str]], around: tuple[str, str], upper: bool
) -> None:
    letters = TICKET.removeprefix("stack:")
    for at, what in sorted(breaks, reverse=True):
        letters = letters[:at] + what + letters[at:]
    text = f"stack:{letters.upper() if upper else letters}"
    assert read_source(around[0] + text + around[1]).ticket_text == TICKET


@given(st.one_of(st.text(), st.text(alphabet='stack:/ipfs<>"“ aeb2\n-.#%\u200b')))
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    try:
        source = read_source(text)
    except DecodeError as error:
        assert "\n" not in str(error)
        assert all(each.isprintable() or unicodedata.category(each) == "Zs" for each in str(error))
    else:
        assert read_source(str(source)) == source


@pytest.mark.parametrize("piece", ["stack:", "stack:a ", "> ", "(", "s\u200b", "/", "a ", "ipfs://", "%2f", "=\n"])
def test_a_text_made_to_take_long_is_refused_soon(piece: str) -> None:
    def work() -> None:
        with pytest.raises(DecodeError):
            read_source((piece * SOURCE_MAX)[:SOURCE_MAX])
        with pytest.raises(NotASource):
            read_source(piece * SOURCE_MAX)

    assert quickest(work) < 1.0


def test_two_tickets_in_one_text_are_told_with_and_without_their_prefix() -> None:
    ticket = NAMED[0]["ticket"]
    other = encode_ticket(replace(decode_ticket(ticket), root=Cid.of(b"another")))
    first, second = ticket.removeprefix("stack:"), other.removeprefix("stack:")
    for text in (
        f"{first} {second}",
        f"{first}\n{second}\n",
        f"{first[:70]}\n{first[70:]}\n\n{second[:70]}\n{second[70:]}",
        f"stack:{first}\nand {second}",
        f"stack:{first} stack:{second}",
    ):
        with pytest.raises(NotASource, match="these are 2 tickets: one at a time"):
            read_source(text)
    assert read_source(f"{first} {first}").root == read_source(ticket).root
