"""A private network with Kubo by its `swarm.key`, both directions, over TCP and WebSocket; outsiders of both kinds stay outside."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.kubo.daemon import Kubo
from stack.security.pnet.cipher import fingerprint
from stack.security.pnet.key import encode_swarm_key
from tests.acceptance.kit import MIB, Machine, good, make_file, sha256, temporary_place

pytestmark = pytest.mark.timeout(300)

KEY = secrets.token_bytes(32)
LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/tcp/0/ws")
SECONDS = 60


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for all tests of this file."""
    with temporary_place() as folder:
        yield folder


def a_kubo(repository: Path, key: bytes | None) -> Kubo:
    """With a swarm key; QUIC and others cannot carry one, and Kubo has them switched off in our settings."""
    kubo = Kubo(repository)
    if key is not None:
        (repository / "swarm.key").write_bytes(encode_swarm_key(key))
        kubo.environment["LIBP2P_FORCE_PNET"] = "1"
    return kubo


@pytest.fixture(scope="module")
def kubo(place: Path) -> Iterator[Kubo]:
    """A member."""
    with a_kubo(place / "kubo", KEY).running() as running:
        yield running


def machine(place: Path, name: str, key: bytes | None) -> Machine:
    """A computer of ours."""
    made = Machine(place / name)
    made.home.mkdir(exist_ok=True)
    if key is not None:
        (made.home / "swarm.key").write_bytes(encode_swarm_key(key))
        made.environment["LIBP2P_FORCE_PNET"] = "1"
    return made


def addresses(found: list[str]) -> dict[str, str]:
    """By transport."""
    return {"ws" if "/ws" in address else "tcp": address for address in found}


def kubo_addresses(kubo: Kubo) -> dict[str, str]:
    known = kubo.ask("id")["Addresses"]
    assert isinstance(known, list)
    return addresses(known)


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_we_get_a_file_from_kubo_in_a_private_network(place: Path, kubo: Kubo, transport: str) -> None:
    source = make_file(place / f"theirs-{transport}.bin", 5 * MIB, 1)
    root = kubo.run("add", "-Q", "--cid-version", "1", str(source)).decode().strip()
    ours = machine(place, f"getter-{transport}", KEY)
    good(ours.run("get", root, "--from", kubo_addresses(kubo)[transport], "-o", "got.bin"))
    assert sha256(ours.folder / "got.bin") == sha256(source)


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_kubo_gets_a_file_from_us_in_a_private_network(place: Path, kubo: Kubo, transport: str) -> None:
    ours = machine(place, f"server-{transport}", KEY)
    del ours.environment["STACK_LISTEN"]
    source = make_file(ours.folder / "ours.bin", 5 * MIB, 2 if transport == "tcp" else 3)
    with ours.daemon(*LISTEN):
        root = good(ours.run("add", "-q", source)).out.strip()
        ours_at = addresses(good(ours.run("id", "--json")).json["addresses"])
        kubo.run("swarm", "connect", ours_at[transport])
        kubo.run("get", "-o", str(place / f"got-{transport}.bin"), root, timeout=SECONDS)
        kubo.run("swarm", "disconnect", ours_at[transport])
    assert sha256(place / f"got-{transport}.bin") == sha256(source)


def test_kubo_and_we_call_the_network_by_the_same_name(kubo: Kubo, place: Path) -> None:
    assert fingerprint(KEY).hex() in kubo.output.decode()


@pytest.mark.parametrize("key", [None, secrets.token_bytes(32)], ids=["public", "another network"])
def test_we_as_outsiders_get_nothing_from_a_private_kubo(place: Path, kubo: Kubo, key: bytes | None) -> None:
    ours = machine(place, "outsider" if key is None else "stranger", key)
    for address in kubo_addresses(kubo).values():
        outcome = ours.run("connect", address)
        assert outcome.code != 0
        if key is not None:
            assert "key of this private network" in outcome.err


@pytest.mark.parametrize("key", [None, secrets.token_bytes(32)], ids=["public", "another network"])
def test_an_outside_kubo_gets_nothing_from_us(place: Path, key: bytes | None) -> None:
    ours = machine(place, f"inside-{key is None}", KEY)
    del ours.environment["STACK_LISTEN"]
    with ours.daemon(*LISTEN), a_kubo(place / f"outside-{key is None}", key).running() as outsider:
        for address in good(ours.run("id", "--json")).json["addresses"]:
            with pytest.raises(RuntimeError, match="failed"):
                outsider.run("swarm", "connect", address, timeout=SECONDS)
        assert good(ours.run("peers", "--json")).json["items"] == []
        assert ours.run("connect", outsider.address).code != 0
