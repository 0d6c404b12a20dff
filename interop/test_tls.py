"""TLS 1.3 with those that speak no Noise: Kubo 0.42 and go-libp2p 0.51, both directions."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.build import why_not
from interop.driver import Peer, connect, wait_for_subscribers
from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place

pytestmark = pytest.mark.timeout(600)

SIZE = 5 * MIB
SECONDS = 60
TOPIC = "news"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for all tests of this file."""
    with temporary_place() as folder:
        yield folder


@pytest.fixture(scope="module")
def kubo(place: Path) -> Iterator[Kubo]:
    """Without Noise."""
    with Kubo(place / "kubo", settings={"Swarm.Transports.Security.Noise": False}).running() as running:
        yield running


@pytest.mark.parametrize(
    ("identity", "transport"), [("ed25519", "tcp"), ("secp256k1", "ws"), ("ecdsa", "tcp"), ("rsa", "ws")]
)
def test_we_get_a_file_from_kubo_by_tls(place: Path, kubo: Kubo, identity: str, transport: str) -> None:
    source = make_file(place / f"theirs-{identity}.bin", SIZE, len(identity))
    root = kubo.run("add", "-Q", "--cid-version", "1", str(source)).decode().strip()
    ours = Machine(place / f"getter-{identity}")
    ours.environment["STACK_KEY_TYPE"] = identity
    known = kubo.ask("id")["Addresses"]
    assert isinstance(known, list)
    [address] = [each for each in known if ("/ws/" in each) is (transport == "ws")]
    good(ours.run("get", root, "--from", address, "-o", "got.bin", timeout=SECONDS))
    assert sha256(ours.folder / "got.bin") == sha256(source)


def test_kubo_gets_a_file_from_us_by_tls(place: Path, kubo: Kubo) -> None:
    ours = Machine(place / "server")
    source = make_file(ours.folder / "ours.bin", SIZE, 1)
    with ours.sharing(source, "--open") as (_, shared):
        kubo.run("swarm", "connect", ours.address())
        kubo.run("get", "-o", str(place / "got.bin"), shared["cid"], timeout=SECONDS)
    assert sha256(place / "got.bin") == sha256(source)


def test_without_tls_we_do_not_meet(place: Path, kubo: Kubo) -> None:
    ours = Machine(place / "noise only")
    ours.environment["STACK_SECURITY"] = "noise"
    with ours.daemon():
        assert ours.run("connect", kubo.address).code != 0
        with pytest.raises(RuntimeError, match="failed"):
            kubo.run("swarm", "connect", ours.address(), timeout=SECONDS)


@pytest.mark.skipif(why_not("go") is not None, reason=str(why_not("go")))
@pytest.mark.parametrize("we_dial", [True, False], ids=["we dial", "it dials"])
def test_gossip_goes_both_ways_with_go_libp2p_by_tls(we_dial: bool) -> None:
    ours, other = Peer("ours", "ours", "--security", "tls"), Peer("go", "go", "--security", "tls")
    try:
        for peer in (ours, other):
            peer.ask("subscribe", TOPIC, answer="subscribed")
        connect(*((ours, other) if we_dial else (other, ours)))
        wait_for_subscribers(ours, TOPIC, [other])
        wait_for_subscribers(other, TOPIC, [ours])
        for author, reader in ((ours, other), (other, ours)):
            for size in (1, 50_000):
                data = os.urandom(size).hex()
                author.ask("publish", TOPIC, data, answer="published")
                reader.wait("message", TOPIC, author.id, data)
    finally:
        for peer in (ours, other):
            peer.quit()
