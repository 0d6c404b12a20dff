import ast
import pickle
import subprocess
import sys
from pathlib import Path

import cid as py_cid
import multihash as py_multihash
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stack
from stack.errors import DecodeError
from stack.multiformats import multibase, multihash
from stack.multiformats.cid import TEXT_MAX, Cid
from stack.multiformats.multicodec import DAG_CBOR, DAG_PB, LIBP2P_KEY, RAW
from tests.flooding import quickest

DATA = b"hello world"
V0 = "QmaozNR7DZHQK1ZcU9p7QdrshMvXqWK6gpu5rmrkPdT3L4"
V1 = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
PEER = "12D3KooWLS5s8EtEo9ugm5vwqtxzQQBTcQGRKcLBzGjyhx83tyzD"

multihashes = st.one_of(
    st.builds(
        multihash.digest, st.sampled_from(["sha2-256", "identity", "blake2b-256", "sha3-512"]), st.binary(max_size=40)
    ),
    st.builds(multihash.encode, st.integers(0, 1 << 40), st.binary(max_size=60)),
)
cids = st.one_of(
    st.builds(Cid.v1, st.integers(0, 1 << 40), multihashes),
    st.builds(lambda data: Cid.of(data, DAG_PB, version=0), st.binary()),
)


@given(cids, st.binary(max_size=3), st.binary(max_size=3))
def test_a_cid_comes_back_from_bytes_and_text(cid: Cid, before: bytes, after: bytes) -> None:
    assert Cid.decode(bytes(cid)) == cid
    assert Cid.parse(str(cid)) == cid
    data = before + bytes(cid) + after
    for buffer in (data, bytearray(data), memoryview(data)):
        assert Cid.read(buffer, len(before)) == (cid, len(data) - len(after))
    assert pickle.loads(pickle.dumps(cid)) == cid


@given(
    st.builds(Cid.v1, st.integers(0, 1 << 40), multihashes),
    st.sampled_from(["base36", "base58btc", "base16", "base64url"]),
)
def test_a_cid_comes_back_from_every_base(cid: Cid, base: str) -> None:
    assert Cid.parse(cid.encode(base)) == cid


@given(st.binary(max_size=60))
def test_any_bytes_are_a_cid_or_a_decode_error(data: bytes) -> None:
    try:
        cid = Cid.decode(data)
    except DecodeError:
        return
    assert bytes(cid) == data
    assert (cid.hash_code, cid.digest) == multihash.decode(cid.multihash)
    assert Cid.v1(cid.codec, cid.multihash) == cid.to_v1()


@given(st.text(max_size=60))
def test_any_text_is_a_cid_or_a_decode_error(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except DecodeError:
        return
    assert Cid.parse(str(cid)) == cid


@given(st.binary(max_size=60), st.sampled_from(["raw", "dag-pb", "dag-cbor", "libp2p-key"]))
def test_py_cid_reads_and_writes_the_same(data: bytes, codec: str) -> None:
    theirs = py_cid.CIDv1(codec, multihash.digest("sha2-256", data))
    ours = Cid.v1({"raw": 0x55, "dag-pb": 0x70, "dag-cbor": 0x71, "libp2p-key": 0x72}[codec], theirs.multihash)
    assert bytes(ours) == theirs.buffer
    assert str(ours).encode() == theirs.encode("base32")
    assert py_cid.make_cid(str(ours)) == theirs
    if codec == "dag-pb":
        first = Cid.v0(theirs.multihash)
        assert str(first) == str(py_cid.CIDv0(theirs.multihash))
        assert first.to_v1() == ours


def test_fields_of_both_versions() -> None:
    first, second = Cid.of(DATA, DAG_PB, version=0), Cid.of(DATA)
    assert (str(first), str(second)) == (V0, V1)
    assert (first.version, second.version) == (0, 1)
    assert (first.codec, second.codec) == (DAG_PB, RAW)
    assert first.hash_code == second.hash_code == multihash.SHA2_256
    assert first.digest == second.digest
    assert first.multihash == second.multihash == bytes(first)
    assert (first.prefix, second.prefix) == (b"\0\x70\x12\x20", b"\x01\x55\x12\x20")
    assert first.to_v1() == second.with_codec(DAG_PB) == Cid.v1(DAG_PB, second.multihash)
    assert second.to_v1() is second
    assert first.encode("base58btc") == V0
    assert repr(second) == f"<Cid {V1}>"


@pytest.mark.parametrize("name", ["codec", "multihash", "hash_code", "digest", "prefix"])
def test_every_field_can_be_the_first_that_is_read_and_is_the_same_again(name: str) -> None:
    for cid in (Cid.parse(V0), Cid.parse(V1), Cid.of(DATA, 0x0200, "blake2b-256")):
        fresh = Cid.decode(bytes(cid))
        assert getattr(fresh, name) == getattr(fresh, name)
        assert Cid.v1(fresh.codec, fresh.multihash) == cid.to_v1()


def test_cids_are_ordered_by_their_bytes_and_hash_by_them() -> None:
    low, high = sorted([Cid.of(b"a"), Cid.of(b"b")])
    assert bytes(low) < bytes(high)
    assert low < high and low <= high and high > low and high >= low
    assert len({low, Cid.decode(bytes(low)), high}) == 2
    assert low != bytes(low)


def test_a_cid_cannot_be_changed_or_made_by_hand() -> None:
    cid = Cid.of(DATA)
    with pytest.raises(AttributeError):
        cid.codec = DAG_PB  # type: ignore[misc]
    with pytest.raises(AttributeError):
        cid.anything = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Cid()


def test_what_version_0_cannot_say_is_refused() -> None:
    for codec, function in ((RAW, "sha2-256"), (DAG_PB, "sha2-512")):
        with pytest.raises(ValueError, match="version 0"):
            Cid.of(DATA, codec, function, version=0)
    with pytest.raises(ValueError, match="no CID version 2"):
        Cid.of(DATA, version=2)
    with pytest.raises(DecodeError, match="version 0"):
        Cid.v0(multihash.digest("sha2-512", DATA))
    with pytest.raises(DecodeError, match="version 0"):
        Cid.v0(multihash.digest("sha2-256", DATA) + b"\0")
    with pytest.raises(ValueError, match="base58btc only"):
        Cid.of(DATA, DAG_PB, version=0).encode("base32")
    with pytest.raises(DecodeError):
        Cid.v1(RAW, b"\x12\x20")


@pytest.mark.parametrize("function", ["sha2-256", "blake3", "identity", "sha3-384"])
def test_a_bitswap_prefix_and_the_block_give_the_cid(function: str) -> None:
    cid = Cid.of(DATA, DAG_CBOR, function)
    assert Cid.from_prefix(cid.prefix, DATA) == cid
    assert Cid.from_prefix(b"\x01\x55\x12\x14", DATA) == Cid.v1(RAW, multihash.digest("sha2-256", DATA, 20))
    assert Cid.from_prefix(b"\0\x70\x12\x20", DATA) == Cid.parse(V0)


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"\x01\x55\x12",
        b"\x01\x55\x12\x20\0",
        b"\x02\x55\x12\x20",  # version 2
        b"\0\x55\x12\x20",  # version 0 is dag-pb
        b"\0\x70\x13\x40",  # version 0 is sha2-256
        b"\x01\x55\x12\x01",  # one byte of digest
        b"\x01\x55\x12\x21",  # longer than the function gives
        b"\x01\x55\x1b\x20",  # keccak costs seconds
        b"\x01\x55\xd5\x01\x10",  # md5
        b"\x01\x55\x00\x0c",  # identity of another length
        b"\x01\x55\x00\x81\x01",  # identity over 128 bytes
    ],
)
def test_A49_a_bitswap_prefix_that_names_no_allowed_block_is_refused(prefix: bytes) -> None:
    with pytest.raises(DecodeError):
        Cid.from_prefix(prefix, DATA)


def test_a_refused_function_is_not_computed() -> None:
    def work() -> None:
        with pytest.raises(DecodeError, match="not allowed"):
            Cid.from_prefix(b"\x01\x55\x1b\x20", bytes(2 << 20))

    assert quickest(work) < 0.05


class TestWhatPyCidDoesAndMustNotBeSeen:
    """The list of what py-cid and py-multihash get wrong or do not do."""

    def test_version_0_is_read_from_bytes(self) -> None:
        assert str(Cid.decode(b"\x12\x20" + bytes(32))) == str(py_cid.CIDv0(b"\x12\x20" + bytes(32)))

    def test_the_text_of_version_1_is_base32(self) -> None:
        assert str(Cid.of(DATA)).startswith("bafkrei")

    def test_a_hash_code_of_more_than_one_byte_is_read_from_a_stream(self) -> None:
        cid = Cid.of(DATA, RAW, "blake2b-256")
        assert Cid.read(bytes(cid) + b"rest") == (cid, len(bytes(cid)))

    def test_an_empty_identity_and_an_unknown_codec_are_legal(self) -> None:
        assert Cid.parse("bafkqaaa").digest == b""
        assert Cid.v1(0x3FFFFF, b"\0\0").codec == 0x3FFFFF
        assert Cid.parse(str(Cid.v1(0x3FFFFF, b"\0\0"))).codec == 0x3FFFFF

    @pytest.mark.parametrize("text", [PEER, "16Uiu2HAkv9PBN3SfVqBueCgQA7CdXsMqgKi3Yq7FqaTeW63ZTBgb", f"/p2p/{PEER}"])
    def test_a_peer_id_is_no_cid(self, text: str) -> None:
        with pytest.raises(DecodeError):
            Cid.parse(text)

    @pytest.mark.parametrize(
        "text",
        [
            f"/ipfs/{V0}",
            f"/ipfs/{V0}/a/b",
            f"ipfs://{V1}",
            f"https://ipfs.io/ipfs/{V1}",
            f" {V0}",
            f"{V0}\n",
            V0[:45] + " ",
        ],
    )
    def test_a_path_a_url_and_white_space_are_no_cid(self, text: str) -> None:
        with pytest.raises(DecodeError):
            Cid.parse(text)

    @pytest.mark.parametrize("text", [f"z{V0}", multibase.encode("base32", b"\x12\x20" + bytes(32)), V0[:-1] + "0"])
    def test_version_0_has_one_text(self, text: str) -> None:
        with pytest.raises(DecodeError):
            Cid.parse(text)

    @pytest.mark.parametrize("start", ["b", "z", "k", "f", "Qm", "1", "9"])
    def test_B2_a_text_of_ten_million_characters_costs_nothing(self, start: str) -> None:
        text = start + "2" * 10_000_000

        def work() -> None:
            with pytest.raises(DecodeError, match=f"at most {TEXT_MAX}"):
                Cid.parse(text)

        assert quickest(work) < 0.05

    def test_bytes_in_any_buffer_are_read(self) -> None:
        cid = Cid.of(DATA)
        assert Cid.decode(bytearray(bytes(cid))) == Cid.decode(memoryview(bytes(cid))) == cid


def test_the_longest_identity_that_is_allowed_has_a_text_that_is_read() -> None:
    cid = Cid.of(bytes(128), 0x7FFF_FFFF, "identity")
    multihash.check_allowed(cid.multihash)
    assert Cid.parse(cid.encode("base16")) == cid


def modules_after(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_where_many_pass_nothing_heavy_is_loaded() -> None:
    loaded = modules_after(
        f"from stack.multiformats.cid import Cid; Cid.of(b'x'); Cid.from_text({V1!r}).text; import stack"
    )
    assert not loaded & {"cid", "multihash", "multibase", "multicodec", "blake3", "mmh3", "cryptography", "google"}


@pytest.mark.apart
def test_py_cid_and_py_multihash_are_each_imported_by_one_file() -> None:
    importers: dict[str, set[str]] = {}
    root = Path(stack.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            for name in names:
                importers.setdefault(name.split(".")[0], set()).add(path.relative_to(root).as_posix())
    assert importers["cid"] == {"multiformats/cid.py"}
    assert importers["multihash"] == {"multiformats/multihash.py"}


CODECS = [RAW, DAG_PB, DAG_CBOR, 0x0129, LIBP2P_KEY]


@given(st.one_of(cids, st.builds(Cid.v1, st.sampled_from(CODECS), multihashes)))
def test_py_cid_and_we_write_and_read_one_text(cid: Cid) -> None:
    """Both versions, also where py-cid does not know codec or function and ours alone is left."""
    assert str(cid) == cid.text
    assert Cid.parse(cid.text) == Cid.from_text(cid.text) == cid


@pytest.mark.parametrize("text", [V0, V1])
def test_a_text_is_read_and_written_by_py_cid(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    make = py_cid.make_cid
    monkeypatch.setattr(py_cid, "make_cid", lambda *args: (calls.append(args), make(*args))[1])
    assert str(Cid.parse(text)) == text
    assert calls == [(text,), (Cid.from_text(text).version, *calls[1][1:])]  # type: ignore[index]


def test_what_py_cid_reads_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(py_cid, "make_cid", lambda text: py_cid.CIDv0(b"\x12\x20" + bytes(32)))
    with pytest.raises(DecodeError, match="everybody"):
        Cid.parse(V1)


@pytest.mark.parametrize(
    "text",
    [f"/ipfs/{V1}", f"http://a/ipfs/{V1}/b", PEER, f" {V1}", V1 + "a", "Qm" + "1" * 44, "", "b", "zdj7"],
)
def test_what_py_cid_takes_for_a_cid_is_none_here(text: str) -> None:
    with pytest.raises(DecodeError):
        Cid.parse(text)


@given(st.one_of(cids, st.builds(Cid.v1, st.sampled_from(CODECS), multihashes)))
def test_a_cid_goes_to_the_objects_of_both_packages_and_back(cid: Cid) -> None:
    try:
        theirs = cid.to_py_cid()
    except DecodeError:
        assert cid.codec not in CODECS
    else:
        assert theirs.multihash == cid.multihash and Cid.from_py_cid(theirs) == cid
    try:
        hashed = cid.to_py_multihash()
    except DecodeError:
        return
    assert (hashed.code, hashed.digest, hashed.length) == (cid.hash_code, cid.digest, len(cid.digest))
    assert Cid.from_py_multihash(cid.codec, hashed) == cid.to_v1()


def test_objects_that_hold_nonsense_are_refused() -> None:
    with pytest.raises(DecodeError):
        Cid.from_py_cid(py_cid.CIDv1("raw", b"\x12\x20short"))
    with pytest.raises(DecodeError, match="says 3 bytes"):
        multihash.from_py(py_multihash.Multihash(code=0x12, name="sha2-256", length=3, digest=b"ab"))
    with pytest.raises(DecodeError, match="py-multihash"):
        Cid.v1(RAW, multihash.encode(0x9999, bytes(20))).to_py_multihash()
    with pytest.raises(DecodeError, match="py-cid"):
        Cid.v1(0x999999, multihash.digest("sha2-256", b"")).to_py_cid()
