import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.identity.keys import KEY_TYPES, generate
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.multiformats import multihash
from stack.multiformats.cid import Cid

KEYS = {kind: generate(kind) for kind in KEY_TYPES}


@given(
    st.one_of(
        st.binary(min_size=32, max_size=32).map(lambda d: b"\x12\x20" + d),
        st.binary(min_size=1, max_size=42).map(lambda d: bytes([0, len(d)]) + d),
    )
)
def test_an_id_comes_back_from_bytes_and_every_text(data: bytes) -> None:
    peer = PeerId.decode(data)
    assert bytes(peer) == data
    assert PeerId.parse(str(peer)) == peer
    assert PeerId.parse(str(peer.cid)) == peer
    assert PeerId.parse(peer.cid.encode("base36")) == peer
    assert PeerId.decode(memoryview(data)) == peer
    assert pickle.loads(pickle.dumps(peer)) == peer


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_a_decode_error(text: str) -> None:
    try:
        peer = PeerId.parse(text)
    except DecodeError:
        return
    assert PeerId.parse(str(peer)) == peer


@pytest.mark.parametrize("kind", KEYS)
def test_short_keys_are_in_the_id_and_long_ones_are_hashed(kind: str) -> None:
    public = KEYS[kind].public
    peer = PeerId.of(public)
    if kind in ("ed25519", "secp256k1"):
        assert peer.public_key() == public
        assert multihash.decode(bytes(peer)) == (multihash.IDENTITY, public.encode())
    else:
        assert peer.public_key() is None
        assert bytes(peer) == multihash.digest("sha2-256", public.encode())


def test_an_id_that_holds_no_key_says_so_when_asked() -> None:
    with pytest.raises(DecodeError):
        PeerId.decode(b"\0\x04test").public_key()


def test_ids_are_ordered_by_their_bytes_and_hash_by_them() -> None:
    low, high = sorted(PeerId.of(KEYS[kind].public) for kind in ("ed25519", "rsa"))
    assert bytes(low) < bytes(high)
    assert len({low, PeerId.decode(bytes(low)), high}) == 2
    assert low != bytes(low)
    assert repr(low) == f"<PeerId {low}>"


def test_an_id_cannot_be_made_by_hand_or_changed() -> None:
    with pytest.raises(TypeError):
        PeerId()
    with pytest.raises(AttributeError):
        PeerId.of(KEYS["ed25519"].public).cid = None  # type: ignore[misc, assignment]


def test_the_cid_of_content_is_no_peer_id() -> None:
    with pytest.raises(DecodeError, match="libp2p-key, not raw"):
        PeerId.parse(str(Cid.of(b"x")))


def test_a_mismatch_carries_both_ids() -> None:
    expected, actual = (PeerId.of(KEYS[kind].public) for kind in ("ed25519", "rsa"))
    error = PeerIdMismatch(expected, actual)
    assert (error.expected, error.actual) == (expected, actual)
    assert str(expected) in str(error) and str(actual) in str(error)
