"""Our node against Kubo as it is, both directions: files, trees with a HAMT shard, CIDv0 and CIDv1, TCP and WebSocket.

`STACK_KUBO` names an `ipfs` binary; without it one is built. `STACK_INTEROP_MIB` is the size of the file (256 for the long form).
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.kubo.daemon import Kubo
from stack.dag.unixfs.data import NodeKind
from stack.dag.unixfs.reader import decode_node
from stack.multiformats.cid import Cid
from tests.acceptance.kit import MIB, Json, Machine, good, make_file, sha256, snapshot

SIZE = int(os.environ.get("STACK_INTEROP_MIB", "32")) * MIB
SHARD_ENTRIES = 1400
SHARD_NAME = "an entry of a large directory " * 6
"""More than a directory block of 256 KiB holds, so that it becomes a HAMT shard. Long names, few entries: `ipfs get` takes 20 ms
for each of them, from another Kubo too."""
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws")
SECONDS = 300

VERSIONS = {"v0": ("--cid-version", "0"), "v1": ("--cid-version", "1", "--raw-leaves")}
"""The same flags for both programs, on top of Kubo's own default profile."""
OURS = ("--profile", "default")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for all tests of this file."""
    with tempfile.TemporaryDirectory(prefix="stack-kit-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def kubo(place: Path) -> Iterator[Kubo]:
    """A Kubo that runs."""
    with Kubo(place / "kubo").running() as running:
        yield running


@pytest.fixture(scope="module")
def ours(place: Path) -> Iterator[Machine]:
    """A daemon of ours that runs."""
    machine = Machine(place / "ours")
    del machine.environment["STACK_LISTEN"]
    with machine.daemon(*LISTEN):
        yield machine


@pytest.fixture(scope="module")
def file(place: Path) -> Path:
    """A file of many blocks."""
    return make_file(place / "file.bin", SIZE, 42)


@pytest.fixture(scope="module")
def tree(place: Path) -> Path:
    """A tree with a directory large enough to be sharded, files of one and many blocks, a link, an empty file."""
    root = place / "tree"
    make_file(root / "several blocks.bin", 3 * MIB + 1, 1)
    make_file(root / "deep" / "er" / "небольшой", 100, 2)
    (root / "empty").write_bytes(b"")
    (root / "link").symlink_to("deep/er/небольшой")
    shard = root / "shard"
    shard.mkdir()
    for number in range(SHARD_ENTRIES):
        (shard / f"{SHARD_NAME}{number:05}").write_text(str(number))
    return root


def addresses(machine: Machine) -> dict[str, str]:
    """Our daemon's addresses with its peer id, by transport."""
    known: list[str] = good(machine.run("id", "--json")).json["addresses"]
    return {"ws" if "/ws" in address else "tcp": address for address in known}


def kubo_addresses(kubo: Kubo) -> dict[str, str]:
    """Kubo's addresses with its peer id, by transport."""
    known = kubo.ask("id")["Addresses"]
    assert isinstance(known, list)
    return {"ws" if "/ws/" in address else "tcp": address for address in known if "/tcp/" in address}


def fresh(place: Path, request: pytest.FixtureRequest) -> Machine:
    """A receiver that has nothing yet."""
    return Machine(place / f"r{abs(hash(request.node.name)) % 10**8}")


def kubo_is_fresh(kubo: Kubo, root: str) -> None:
    """Kubo has none of it, so that what it gets comes from us."""
    kubo.run("repo", "gc", "-q")
    assert root not in kubo.run("refs", "local").decode()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubo_gets_a_file_from_our_daemon(place: Path, kubo: Kubo, ours: Machine, file: Path, version: str) -> None:
    root = good(ours.run("add", "-q", *OURS, *VERSIONS[version], file, timeout=SECONDS)).out.strip()
    assert root == kubo.run("add", "-Q", "--only-hash", *VERSIONS[version], str(file)).decode().strip()
    kubo_is_fresh(kubo, root)
    kubo.run("swarm", "connect", addresses(ours)["tcp"])
    kubo.run("get", "-o", str(place / f"kubo-{version}.bin"), root, timeout=SECONDS)
    assert sha256(place / f"kubo-{version}.bin") == sha256(file)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubo_gets_a_tree_with_a_shard_from_our_daemon(
    place: Path, kubo: Kubo, ours: Machine, tree: Path, version: str
) -> None:
    root = good(ours.run("add", "-q", *OURS, *VERSIONS[version], tree, timeout=SECONDS)).out.strip()
    kubo_is_fresh(kubo, root)
    kubo.run("swarm", "connect", addresses(ours)["tcp"])
    kubo.run("get", "-o", str(place / f"kubo-{version}"), root, timeout=SECONDS)
    assert snapshot(place / f"kubo-{version}") == snapshot(tree)


@pytest.mark.parametrize("transport", ["tcp", "ws"])
@pytest.mark.parametrize("version", VERSIONS)
def test_we_get_a_file_from_kubo(
    place: Path, kubo: Kubo, file: Path, version: str, transport: str, request: pytest.FixtureRequest
) -> None:
    root = kubo.run("add", "-Q", *VERSIONS[version], str(file)).decode().strip()
    receiver = fresh(place, request)
    got = receiver.run("get", root, "--from", kubo_addresses(kubo)[transport], "-o", "got.bin", timeout=SECONDS)
    good(got)
    assert sha256(receiver.folder / "got.bin") == sha256(file)
    receiver.verified()


@pytest.mark.parametrize("version", VERSIONS)
def test_we_get_a_tree_with_a_shard_from_kubo(
    place: Path, kubo: Kubo, tree: Path, version: str, request: pytest.FixtureRequest
) -> None:
    root = kubo.run("add", "-Q", "-r", *VERSIONS[version], str(tree)).decode().strip()
    receiver = fresh(place, request)
    good(receiver.run("get", root, "--from", kubo_addresses(kubo)["tcp"], "-o", "got", timeout=SECONDS))
    assert snapshot(receiver.folder / "got") == snapshot(tree)
    shard = Cid.parse(kubo.run("resolve", f"/ipfs/{root}/shard").decode().strip().removeprefix("/ipfs/"))
    assert decode_node(shard, kubo.run("block", "get", str(shard))).kind is NodeKind.HAMT_SHARD
    entry = good(receiver.run("cat", f"{root}/shard/{SHARD_NAME}00777", "--from", kubo_addresses(kubo)["tcp"]))
    assert entry.stdout == b"777"


def test_kubo_gets_a_file_over_websocket(place: Path, kubo: Kubo) -> None:
    machine = Machine(place / "ws", listen="/ip4/127.0.0.1/tcp/0/ws")
    source = make_file(machine.folder / "over ws.bin", 5 * MIB, 77)
    with machine.sharing(source, "--open") as (_, shared):
        address = addresses(machine)["ws"]
        kubo.run("swarm", "connect", address)
        assert address.partition("/p2p/")[0] in kubo.run("swarm", "peers").decode()
        kubo.run("get", "-o", str(place / "over ws.bin"), shared["cid"], timeout=SECONDS)
    assert sha256(place / "over ws.bin") == sha256(source)


def test_shared_in_place_is_fetched_by_kubo_with_the_cid_of_a_ticket(place: Path, kubo: Kubo) -> None:
    machine = Machine(place / "sharing")
    source = make_file(machine.folder / "shared.bin", 5 * MIB, 78)
    with machine.sharing(source, "--open") as (_, shared):
        kubo.run("swarm", "connect", machine.address())
        kubo.run("get", "-o", str(place / "shared.bin"), shared["cid"], timeout=SECONDS)
        (share,) = machine.shares()
        assert share["bytes_sent"] >= 5 * MIB
    assert sha256(place / "shared.bin") == sha256(source)


def test_kubo_gets_nothing_of_a_plain_share_and_all_of_it_when_it_is_opened(place: Path, kubo: Kubo) -> None:
    machine = Machine(place / "closed")
    source = make_file(machine.folder / "closed.bin", MIB, 79)
    # Without times: what is shared for everybody has none, and would be other blocks.
    with machine.sharing(source, "--no-preserve-mtime") as (_, shared):
        kubo.run("swarm", "connect", machine.address())
        with pytest.raises(RuntimeError, match="deadline"):
            kubo.run("block", "get", "--timeout=3s", shared["cid"])
        with machine.sharing(source, "--open"):
            kubo.run("get", "-o", str(place / "opened.bin"), shared["cid"], timeout=SECONDS)
    assert sha256(place / "opened.bin") == sha256(source)


def test_kubo_understands_our_identify_and_our_ping(kubo: Kubo, ours: Machine) -> None:
    address = addresses(ours)["tcp"]
    peer_id = address.rpartition("/")[2]
    kubo.run("swarm", "connect", address)
    seen: Json = kubo.ask("id", arg=peer_id)
    assert seen["AgentVersion"] == good(ours.run("id", "--json")).json["agent"]
    for protocol in ("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/ipfs/bitswap/1.2.0", "/meshsub/1.3.0"):
        assert protocol in seen["Protocols"], seen["Protocols"]
    assert "/perf/1.0.0" not in seen["Protocols"]  # the specification: only while somebody measures
    pong = kubo.run("ping", "-n", "3", peer_id).decode()
    assert pong.count("Pong received") == 3


def test_we_understand_the_identify_and_the_ping_of_kubo(kubo: Kubo, ours: Machine) -> None:
    address = kubo_addresses(kubo)["tcp"]
    peer_id = good(ours.run("connect", address, "--json")).json["peer_id"]
    assert len(good(ours.run("ping", peer_id, "-n", "3", "--json")).json["items"]) == 3
    row = next(row for row in good(ours.run("peers", "--json")).json["items"] if row["peer_id"] == peer_id)
    assert row["agent"].startswith("kubo/0.42.0")


def test_archives_pass_between_us_and_kubo(kubo: Kubo, ours: Machine, place: Path) -> None:
    source = make_file(place / "archived.bin", 3 * MIB, 79)
    root = kubo.run("add", "-Q", "--cid-version", "1", str(source)).decode().strip()
    archive = kubo.run("dag", "export", root)
    assert good(ours.run("car", "import", "-", "--json", data=archive)).json["roots"] == [root]
    back = good(ours.run("car", "export", root)).stdout
    assert back == archive
    assert root in kubo.run("dag", "import", "--stats", data=back).decode()
