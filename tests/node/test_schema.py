"""Requests and answers as JSON values."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.control.client import ANSWERS
from stack.control.server import REQUESTS
from stack.errors import DecodeError
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Add, Fetch, GetIdentity, ImportFlags, Perf, PingReply
from stack.node.schema import Json, from_json, from_tagged, to_json, to_tagged

FETCH = Fetch(
    source="bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
    directory=Path("/somewhere"),
    providers=(Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),),
    include=("*.txt",),
)


@pytest.mark.parametrize(
    "request_",
    [FETCH, GetIdentity(), Add(paths=(Path("/a"),), flags=ImportFlags(cid_version=1, raw_leaves=False))],
)
def test_a_request_comes_out_as_it_went_in(request_: object) -> None:
    assert from_tagged(to_tagged(request_), REQUESTS) == request_


def test_every_request_and_answer_has_a_place_in_the_schema() -> None:
    assert {"Fetch", "Share", "CarImport", "GetPresence"} <= set(REQUESTS)
    assert {"NodeInfo", "FetchFinished", "Shared"} <= set(ANSWERS)


def test_a_tuple_of_answers_keeps_its_types() -> None:
    rows = (PingReply(peer_id="x", sequence=1, seconds=0.5), PingReply(peer_id="y", sequence=2, seconds=1.0))
    assert from_tagged(to_tagged(rows), ANSWERS) == rows


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"class": "Nonsense"}, "not known"),
        ({"class": 5}, "not known"),
        ({"class": "Perf", "upload": 1, "download": 1}, "address is missing"),
        ({"class": "Perf", "address": "x", "upload": 1, "download": 1}, "Perf.address"),
        ({"class": "Perf", "address": "/ip4/1.2.3.4/tcp/1", "upload": "1", "download": 1}, "Perf.upload"),
        ({"class": "Perf", "address": "/ip4/1.2.3.4/tcp/1", "upload": True, "download": 1}, "Perf.upload"),
        ({"class": "Add", "paths": "/a"}, "list was expected"),
        ({"class": "Add", "paths": ["/a"], "flags": []}, "object was expected"),
    ],
)
def test_a_malformed_request_is_refused_with_the_field_named(form: Json, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        from_tagged(form, REQUESTS)


def test_fields_of_a_newer_version_are_ignored() -> None:
    form = {"class": "Perf", "address": "/ip4/1.2.3.4/tcp/1", "upload": 1, "download": 2, "colour": "red"}
    assert from_tagged(form, REQUESTS) == Perf(address=Multiaddr.parse("/ip4/1.2.3.4/tcp/1"), upload=1, download=2)


def test_ids_and_paths_are_texts_in_json() -> None:
    cid = Cid.parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
    assert to_json((cid, Path("/x"), 1, None, {"a": cid})) == [str(cid), "/x", 1, None, {"a": str(cid)}]
    with pytest.raises(TypeError):
        to_json(object())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from(sorted(REQUESTS)),
    st.dictionaries(st.sampled_from(["paths", "cid", "source", "flags"]), json_values),
)
def test_any_json_is_a_request_or_a_decode_error(name: str, fields: dict[str, Json]) -> None:
    try:
        value = from_tagged({**fields, "class": name}, REQUESTS)
    except DecodeError:
        return
    assert type(value).__name__ == name


def test_a_union_takes_the_first_type_that_fits() -> None:
    assert from_json(int | None, None) is None
    assert from_json(int | str, "a") == "a"
    with pytest.raises(DecodeError):
        from_json(int | None, "a")
    with pytest.raises(TypeError):
        from_json(set, "a")
    assert from_json(float, 1) == 1.0
