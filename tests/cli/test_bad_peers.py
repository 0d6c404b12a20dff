"""B6, B7, B8, B18: peers that lie, keep silent, stall or flood, and DAGs whose sizes lie."""

from pathlib import Path

import pytest

from stack.dag.dag_pb import Link, Node, encode
from stack.dag.unixfs.data import NodeKind, encode_data
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.acceptance.hostile import hostile
from tests.acceptance.kit import MIB, Json, Machine, Outcome, complaint, good, make_file, sha256

SIZE = 8 * MIB
MEMORY_MAX = 128 * MIB
PATIENCE = ("--timeout", "3", "--deadline", "20")


@pytest.fixture
def archive(place: Path, sharer: Machine) -> tuple[str, Path]:
    """The CID of a file that `sharer` has at `folder/film.mkv`, and a CAR of its blocks for who misbehaves."""
    cid = good(sharer.run("add", "-q", make_file(sharer.folder / "film.mkv", SIZE))).out.strip()
    path = place / "film.car"
    good(sharer.run("car", "export", cid, path))
    return cid, path


def nothing_wrong_was_kept(receiver: Machine) -> None:
    """No file under its final name, and every block in the store is what its CID says."""
    assert not (receiver.folder / "got.mkv").exists()
    receiver.verified()


def fetch(receiver: Machine, cid: str, *providers: str) -> Outcome:
    """A fetch that does not wait for long."""
    named = [word for provider in providers for word in ("--from", provider)]
    return receiver.run("get", cid, *named, "-o", "got.mkv", *PATIENCE)


def fetch_with_help(sharer: Machine, receiver: Machine, cid: str, address: str) -> None:
    """With an honest peer beside the other one the file arrives."""
    with sharer.sharing(sharer.folder / "film.mkv", "--no-preserve-mtime") as (_, shared):
        assert shared["cid"] == cid
        # A stalled provider may cost 5 s, so this one has more patience than those who expect nothing.
        named = ("--from", address, "--from", dialable(shared))
        good(receiver.run("get", cid, *named, "-o", "got.mkv", "--timeout", "20"))
    assert sha256(receiver.folder / "got.mkv") == sha256(sharer.folder / "film.mkv")
    receiver.verified()


def dialable(shared: Json) -> str:
    """An address of a share with its peer id."""
    address: str = shared["addresses"][0]
    return address if "/p2p/" in address else f"{address}/p2p/{shared['peer_id']}"


def test_B06_wrong_blocks_are_refused_and_who_sent_them_is_named(
    sharer: Machine, receiver: Machine, archive: tuple[str, Path]
) -> None:
    cid, blocks = archive
    with hostile(sharer, "wrong", blocks) as (_, address):
        outcome = fetch(receiver, cid, address)
        complaint(outcome, 5, "wrong blocks", address.rpartition("/")[2])
        nothing_wrong_was_kept(receiver)
        fetch_with_help(sharer, receiver, cid, address)


def test_B07_nobody_answers(receiver: Machine) -> None:
    cid = str(Cid.of(b"nobody has this"))
    nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
    outcome = receiver.run("get", cid, "--from", nobody, "--timeout", "2")
    complaint(outcome, outcome.code)
    assert outcome.code in (3, 4), str(outcome)
    complaint(receiver.run("get", cid, "--deadline", "2"), 4)
    complaint(receiver.run("connect", nobody), 3, "cannot reach")
    complaint(receiver.run("ping", nobody, "-n", "1"), 3, "cannot reach")
    assert list(receiver.folder.iterdir()) == []


def test_B07_a_peer_that_sends_nothing_is_waited_for_no_longer_than_allowed(
    sharer: Machine, receiver: Machine, archive: tuple[str, Path]
) -> None:
    cid, blocks = archive
    with hostile(sharer, "silent", blocks) as (_, address):
        outcome = fetch(receiver, cid, address)
        complaint(outcome, 4, "3")
        assert outcome.seconds < 15
        nothing_wrong_was_kept(receiver)
        fetch_with_help(sharer, receiver, cid, address)


def test_B07_a_peer_that_stalls_is_left_for_another(
    sharer: Machine, receiver: Machine, archive: tuple[str, Path]
) -> None:
    cid, blocks = archive
    with hostile(sharer, "stall", blocks) as (_, address):
        complaint(fetch(receiver, cid, address), 4)
        nothing_wrong_was_kept(receiver)
        fetch_with_help(sharer, receiver, cid, address)


def test_B08_a_provider_that_floods_is_cut_off(sharer: Machine, receiver: Machine, archive: tuple[str, Path]) -> None:
    cid, blocks = archive
    with hostile(sharer, "flood", blocks) as (_, address):
        outcome = fetch(receiver, cid, address)
        complaint(outcome, outcome.code)
        assert outcome.code in (3, 4, 5), str(outcome)
        assert outcome.peak_memory < MEMORY_MAX
        nothing_wrong_was_kept(receiver)
        fetch_with_help(sharer, receiver, cid, address)


def test_B08_a_sharer_that_is_flooded_with_wants_serves_the_others(
    sharer: Machine, receiver: Machine, archive: tuple[str, Path]
) -> None:
    assert archive[0]
    with sharer.sharing(sharer.folder / "film.mkv") as (process, shared):
        with hostile(sharer, "wants", dialable(shared)) as (flooder, _):
            assert flooder.next_line() in ("flooding", "cut off")
            good(receiver.run("get", shared["ticket"], "-o", "got.mkv"))
            assert good(receiver.run("ping", dialable(shared), "-n", "1", "--json")).json["items"][0]["seconds"] < 1.0
        assert process.peak_memory < MEMORY_MAX
        assert "Traceback" not in process.err
    assert sha256(receiver.folder / "got.mkv") == sha256(sharer.folder / "film.mkv")


def file_node(leaves: list[Cid], sizes: list[int], total: int) -> bytes:
    """The root of a file, with sizes as its author claims them."""
    data = encode_data(NodeKind.FILE, file_size=total, block_sizes=sizes)
    return encode(Node(data, tuple(Link("", size, cid) for cid, size in zip(leaves, sizes, strict=True))))


LIES = {
    "a leaf is shorter than told": ([200_000, 100_000], 300_000),
    "a leaf is longer than told": ([50_000, 100_000], 150_000),
    "the sum is another": ([100_000, 100_000], 300_000),
    "a leaf has a million million bytes": ([1 << 40, 100_000], (1 << 40) + 100_000),
    "the sum goes over 64 bits": ([(1 << 64) - 1, (1 << 64) - 1], (1 << 64) - 1),
}


@pytest.mark.parametrize("lie", LIES)
def test_B18_sizes_that_lie_are_refused_at_the_first_leaf_that_disagrees(
    sharer: Machine, receiver: Machine, lie: str
) -> None:
    sizes, total = LIES[lie]
    leaves = [bytes([number]) * 100_000 for number in range(2)]
    with sharer.daemon():
        for leaf in leaves:
            good(sharer.run("block", "put", data=leaf))
        root = file_node([Cid.of(leaf) for leaf in leaves], sizes, total)
        cid = good(sharer.run("block", "put", "--codec", "dag-pb", data=root)).out.strip()
        assert cid == str(Cid.of(root, DAG_PB))
        outcome = fetch(receiver, cid, sharer.address())
    complaint(outcome, outcome.code)
    # A file larger than the disk is refused for that already.
    assert outcome.code in (5, 9), str(outcome)
    assert outcome.peak_memory < MEMORY_MAX
    nothing_wrong_was_kept(receiver)
