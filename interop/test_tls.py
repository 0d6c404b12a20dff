"""TLS 1.3 with a Kubo that speaks no Noise, beside what the matrix has: each kind of identity, and who speaks only the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.kubo.daemon import Kubo
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place

pytestmark = pytest.mark.timeout(600)

SIZE = MIB
SECONDS = 60


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


def test_without_tls_we_do_not_meet(place: Path, kubo: Kubo) -> None:
    ours = Machine(place / "noise only")
    ours.environment["STACK_SECURITY"] = "noise"
    with ours.daemon():
        assert ours.run("connect", kubo.address).code != 0
        with pytest.raises(RuntimeError, match="failed"):
            kubo.run("swarm", "connect", ours.address(), timeout=SECONDS)
