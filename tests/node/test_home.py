"""The folder of a node and its lock."""

import os
from pathlib import Path

import pytest

from stack.errors import ConfigError, Refused, RepoTooNew
from stack.node.home import SOCKET_PATH_MAX, ControlAddress, Home, default_home, write_whole
from stack.node.keystore import export_key, import_key, load_or_create, replace_key


def test_one_process_holds_a_home_at_a_time(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "home"), Home(tmp_path / "home")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_the_address_of_a_killed_holder_is_forgotten(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.acquire()
    home.announce_address(ControlAddress("/nowhere.sock"))
    home.let_go()
    assert home.address() == ControlAddress("/nowhere.sock")
    assert home.acquire()
    assert home.address() is None
    home.release()


def test_addresses_survive_writing_and_reading() -> None:
    for address in (ControlAddress("/a b/c.sock"), ControlAddress(None, "127.0.0.1", 5, b"\x01\x02")):
        assert ControlAddress.decode(address.encode()) == address
    with pytest.raises(ConfigError):
        ControlAddress.decode("pigeon")


def test_B14_a_home_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("99\n")
    home = Home(tmp_path)
    with pytest.raises(RepoTooNew, match="newer version"):
        home.acquire()
    assert not home.held
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "version"]
    (tmp_path / "version").write_text("one\n")
    with pytest.raises(ConfigError, match="damaged"):
        home.acquire()


def test_a_home_that_cannot_be_made_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="STACK_HOME"):
        Home(tmp_path / "file" / "home").acquire()


def test_the_socket_path_is_short_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert Home(Path("/h")).socket_path() == "/h/control.sock"
    long = Home(tmp_path / ("x" * 200))
    assert long.socket_path().startswith(str(tmp_path / "run"))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    assert len(long.socket_path()) <= SOCKET_PATH_MAX + len(str(tmp_path))


def test_the_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STACK_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("STACK_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_home() == tmp_path / "data" / "stack"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_whole(target, b"old")
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError):
        write_whole(tmp_path / "absent" / "file", b"new")
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    key = load_or_create(tmp_path, "ed25519")
    assert load_or_create(tmp_path, "rsa").encode() == key.encode()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path, "ed25519")
    os.chmod(tmp_path / "identity.key", 0o644)
    with pytest.raises(Refused, match="chmod"):
        load_or_create(tmp_path, "ed25519")


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    write_whole(tmp_path / "identity.key", b"garbage")
    with pytest.raises(ConfigError, match=r"identity\.key is damaged"):
        load_or_create(tmp_path, "ed25519")


def test_keys_move_between_homes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    key = load_or_create(one, "secp256k1")
    load_or_create(two, "ed25519")
    export_key(one, str(tmp_path / "exported"))
    with pytest.raises(Refused, match="exists"):
        export_key(one, str(tmp_path / "exported"))
    assert import_key(two, str(tmp_path / "exported")).encode() == key.encode()
    assert (two / "identity.key.old").exists()
    with pytest.raises(Refused):
        import_key(two, str(tmp_path / "absent"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match="no private key"):
        import_key(two, str(tmp_path / "text"))
    replace_key(one, key)
    with pytest.raises(Refused, match="no identity"):
        export_key(tmp_path, str(tmp_path / "other"))
