"""dag-json: canonical text out, strict reading in. The vectors are in tests/vectors/test_ipld.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.dag import dag_cbor, dag_json
from stack.dag.dag_json import decode, encode, links
from stack.dag.model import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, EncodeError, Value
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from tests.dag.strategies import values
from tests.dag.test_dag_cbor import memory_below
from tests.flooding import quickest

LEAF = Cid.of(b"leaf")


def looks_reserved(value: Value) -> bool:
    """Whether some map in `value` begins with "/" and text, or a map that begins with "bytes" and text."""
    if isinstance(value, list):
        return any(looks_reserved(item) for item in value)
    if not isinstance(value, dict):
        return False
    if sorted(value)[:1] == ["/"]:
        inner = value["/"]
        if isinstance(inner, str):
            return True
        if isinstance(inner, dict) and sorted(inner)[:1] == ["bytes"] and isinstance(inner["bytes"], str):
            return True
    return any(looks_reserved(item) for item in value.values())


@given(values())
@settings(deadline=None)
def test_a_value_comes_back_and_has_one_form_unless_it_is_reserved(value: Value) -> None:
    if looks_reserved(value):
        with pytest.raises(EncodeError):
            encode(value)
        return
    block = encode(value)
    found = decode(block)
    assert encode(found) == block
    assert dag_cbor.encode(found) == dag_cbor.encode(value)  # tells 1 from 1.0 and True


@given(
    st.text('[]{}:,"/bytes0.1e-+ntru\\ \n\ud7ff', max_size=30).map(lambda text: text.encode()) | st.binary(max_size=40)
)
@settings(deadline=None)
def test_any_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    try:
        value = decode(data)
    except DecodeError:
        return
    assert decode(encode(value)) == value


@given(values(), st.data())
@settings(deadline=None)
def test_a_changed_byte_gives_a_value_or_a_decode_error(value: Value, data: st.DataObject) -> None:
    try:
        block = bytearray(encode(value))
    except EncodeError:
        return
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(block)
    except DecodeError:
        pass


def test_nesting_up_to_the_bound_is_read_and_written_without_recursion() -> None:
    for text in (
        b"[" * DEPTH_MAX + b"0" + b"]" * DEPTH_MAX,
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
        b'{"a":' * DEPTH_MAX + b"0" + b"}" * DEPTH_MAX,
    ):
        assert encode(decode(text)) == text


def test_nesting_over_the_bound_is_refused() -> None:
    with pytest.raises(DecodeError, match="nested"):
        decode(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))
    value: list[Value] = []
    value.append(value)
    with pytest.raises(EncodeError, match="nested"):
        encode(value)


@pytest.mark.parametrize("pattern", [b"[", b'{"a":', b'{"/":', b"[[],", b'["', b"\\u0041", b"-", b"1", b" "])
def test_A56_two_megabytes_of_one_thing_are_an_error_at_once(pattern: bytes) -> None:
    text = pattern * (2 * 10**6 // len(pattern))

    def work() -> None:
        with memory_below(24 * 2**20), pytest.raises(DecodeError):
            decode(text)

    assert quickest(work) < 2


def test_A56_two_megabytes_of_escapes_are_read_in_linear_time() -> None:
    text = b'"' + b"\\n" * 10**6 + b'"'

    def work() -> None:
        assert decode(text) == "\n" * 10**6
        with pytest.raises(DecodeError):
            decode(text[:-1])

    assert quickest(work) < 2


def test_A57_the_items_of_a_block_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_json, "ITEMS_MAX", 4)
    assert decode(b"[0,0,0,0]") == [0] * 4
    assert decode(b'{"a":0,"b":0}') == {"a": 0, "b": 0}
    for text in (b"[0,0,0,0,0]", b"[[0,0],[0]]", b'{"a":0,"b":[0]}', b'{"a":0,"b":0,"c":0}'):
        with pytest.raises(DecodeError, match="items"):
            decode(text)


@pytest.mark.parametrize("number", [INTEGER_MIN, INTEGER_MAX])
def test_integers_of_64_bits_are_read_and_larger_ones_not(number: int) -> None:
    assert decode(str(number).encode()) == number
    further = number + 1 if number > 0 else number - 1
    with pytest.raises(DecodeError):
        decode(str(further).encode())
    with pytest.raises(EncodeError):
        encode(further)
    with pytest.raises(DecodeError):
        decode(b"9" * 5_000)  # more digits than int() takes


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (123456789.125, "123456789.125"),
        (1e16, "10000000000000000.0"),
    ],
)
def test_floats_are_written_as_ecmascript_does_and_never_as_integers(number: float, text: str) -> None:
    assert encode(number) == text.encode()
    assert repr(decode(text.encode())) == repr(number)


@pytest.mark.parametrize("value", [{"/": "text"}, {"/": {"bytes": "AA"}}, {"/": "text", "a": 1}])
def test_a_map_that_would_be_read_as_a_link_or_as_bytes_is_not_written(value: Value) -> None:
    with pytest.raises(EncodeError, match="read as a link"):
        encode([value])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_values_outside_of_the_data_model_are_not_written(value: Value) -> None:
    with pytest.raises(EncodeError):
        encode([value])


@pytest.mark.parametrize("value", [{1: 2}, {b"a": 1}, {1: 2, "/": 3}, (1, 2), object()])
def test_objects_outside_of_the_data_model_are_not_written(value: Value) -> None:
    with pytest.raises(EncodeError):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        '{"/":"x"}',
        '{"/":"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n","a":1}',
        '{"a":1,"/":"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"}',
        f'{{"/":"{LEAF.encode("base58btc")}"}}',
        f'{{"/":"{LEAF.encode("base32upper")}"}}',
        '{"/":{"bytes":"AQ=="}}',
        '{"/":{"bytes":"AR"}}',
        '{"/":{"bytes":"A"}}',
        '{"/":{"bytes":"A Q"}}',
        '{"/":{"bytes":"é"}}',
        '{"/":{"bytes":"mAQ="}}',
        '{"/":{"bytes":"AQ"},"a":1}',
        '{"/":{"bytes":"AQ","a":1}}',
        '{"/":{"bytes":"AQ","c":1}}',
    ],
)
def test_the_reserved_forms_hold_exactly_one_link_or_bytes(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"!":1,"/":"x"}',
        '{"/":null}',
        '{"/":["x"]}',
        '{"/":{"a":"x","bytes":"x"}}',
        '{"/":{"bytes":["x"]}}',
        '{"!":1,"/":{"bytes":"x"}}',
    ],
)
def test_maps_beside_the_reserved_forms_are_maps(text: str) -> None:
    value = decode(text.encode())
    assert isinstance(value, dict)
    assert encode(value) == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "[",
        "[1",
        "[1 2]",
        "[1,]",
        "[,1]",
        "{",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,}',
        '{"a" 1}',
        "{1:2}",
        '{"a":1]',
        "[1}",
        '{"a":1,"a":1}',
        "nul",
        "nulls",
        "True",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e999",
        "Infinity",
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\x"',
        '"\t"',
        '"',
        "'a'",
        "\ufeff1",
        "1\u00a0",
    ],
)
def test_text_that_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(text.encode())


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(DecodeError):
        decode(b'"\xff"')


def test_text_is_escaped_as_go_ipld_prime_does() -> None:
    text = '"\\/\b\f\n\r\t\x00\x1f\x7fé\u2028\u2029\U0001f600'
    written = '"\\"\\\\/\\u0008\\u000c\\n\\r\\t\\u0000\\u001f\x7fé\\u2028\\u2029\U0001f600"'
    assert encode(text) == written.encode()
    assert decode(written.encode()) == text
    assert decode(b'"\\ud83d\\ude00\\b\\f\\/"') == "\U0001f600\b\f/"


def test_white_space_and_any_order_of_keys_are_read() -> None:
    assert encode(decode(b' { "b" : [ 1 , 2 ] ,\r\n\t"a" : { } , "c" : [ ] } ')) == b'{"a":{},"b":[1,2],"c":[]}'


def test_links_come_in_the_order_of_the_text() -> None:
    other = Cid.of(b"other")
    assert links(f'[{{"/":"{other}"}},{{"z":{{"/":"{LEAF}"}},"a":{{"/":"{other}"}}}}]'.encode()) == [other, LEAF, other]
