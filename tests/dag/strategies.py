"""Values for property tests of the codecs."""

from hypothesis import strategies as st

from stack.dag.dag_pb import SIZE_MAX, Link, Node
from stack.dag.model import INTEGER_MAX, INTEGER_MIN, Value
from stack.multiformats.cid import Cid


def cids() -> st.SearchStrategy[Cid]:
    """CIDs of both versions, of known and unknown codecs and functions, identity among them."""
    version_1 = st.builds(
        lambda codec, data, function: Cid.of(data, codec, function),
        st.sampled_from([0x55, 0x70, 0x71, 0x0129, 0x300000]),
        st.binary(max_size=8),
        st.sampled_from(["sha2-256", "sha2-512", "blake2b-256", "identity"]),
    )
    version_0 = st.builds(lambda data: Cid.of(data, 0x70, version=0), st.binary(max_size=8))
    return version_1 | version_0


def scalars() -> st.SearchStrategy[Value]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(INTEGER_MIN, INTEGER_MAX),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=12),
        st.binary(max_size=12),
        cids(),
    )


def values() -> st.SearchStrategy[Value]:
    """Values of the data model; keys are often those that dag-json reserves."""
    keys = st.text(max_size=4) | st.sampled_from(["/", "bytes", "", "~"])
    return st.recursive(
        scalars(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


def nodes() -> st.SearchStrategy[Node]:
    """dag-pb nodes; names may be no UTF-8, as on the wire."""
    names = st.none() | st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape"))
    links = st.builds(Link, names, st.none() | st.integers(0, SIZE_MAX), cids())
    return st.builds(Node, st.none() | st.binary(max_size=300), st.lists(links, max_size=6).map(tuple))
