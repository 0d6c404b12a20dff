"""The folder of a node and its lock."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.errors import ConfigError, NoSpace, Refused, RepoTooNew
from stack.identity.keys import generate
from stack.node import keystore
from stack.node.config import Config
from stack.node.home import SOCKET_PATH_MAX, ControlAddress, Home, default_home, write_whole
from stack.node.keystore import export_key, import_key, load_or_create, replace_key
from stack.node.node import Node


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["version"]
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
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
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


def test_a_new_identity_on_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start made another in silence, and the next import wrote over the first."""
    first, other = load_or_create(tmp_path, "ed25519"), generate("ed25519")
    (tmp_path / "other").write_bytes(other.encode())
    real, full_for = keystore.write_whole, [""]

    def full(path: Path, data: bytes, *, new: bool = False) -> None:
        if path.name == full_for[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, data, new=new)

    monkeypatch.setattr(keystore, "write_whole", full)
    for name in ("identity.key.old", "identity.key", "identity.key"):
        full_for[0] = name
        with pytest.raises(NoSpace, match=r"identity\.key.*: No space left"):
            import_key(tmp_path, str(tmp_path / "other"))
        assert load_or_create(tmp_path, "ed25519").encode() == first.encode()
    monkeypatch.undo()
    import_key(tmp_path, str(tmp_path / "other"))
    replace_key(tmp_path, generate("ed25519"))
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("identity.key.*")}
    assert kept == {"identity.key.old": first.encode(), "identity.key.old.2": other.encode()}


def test_a_control_address_that_cannot_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("stack.node.home.read_regular", short)
    with pytest.raises(Refused, match="control cannot be read: Too many open files"):
        Home(tmp_path).address()


def lax(folder: Path) -> list[Path]:
    """What others may read below a folder, or itself."""
    places = [folder, *folder.rglob("*")]
    return [path for path in places if stat.S_IMODE(path.lstat().st_mode) & 0o077 and not path.is_socket()]


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Whatever is made gets the mode that was asked for."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.anyio
@pytest.mark.usefixtures("no_umask")
async def test_finding_19_nobody_else_can_read_a_home_whatever_the_umask(tmp_path: Path) -> None:
    """Finding 19: index, packs and jobs were 0644; `jobs.options` holds tickets."""
    file = tmp_path / "film"
    file.write_bytes(bytes(300_000))
    home = tmp_path / "above" / "home"
    async with Node.open(Config(home=home, announce=False, pubsub=False)) as node:
        await node.share(file)
        await node.add(file, copy=True)
        assert lax(tmp_path / "above") == []


@pytest.mark.anyio
@pytest.mark.usefixtures("no_umask")
async def test_finding_19_a_home_that_was_open_to_others_is_closed_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "film"
    file.write_bytes(bytes(300_000))
    home = tmp_path / "home"
    settings = Config(home=home, announce=False, pubsub=False)
    async with Node.open(settings) as node:
        await node.share(file)
        assert node.notices == ()
    (home / "notes of mine").write_text("left as they are")
    for path in (home, *home.rglob("*")):
        if path.name != "identity.key":
            path.chmod(0o755 if path.is_dir() else 0o666)
    async with Node.open(settings) as node:
        assert "open to other users" in node.notices[0]
        assert lax(home) == [home / "notes of mine"]


def test_attack_11_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 11: `mkdir(exist_ok=True)` took any folder."""
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Refused, match="another user"):
        Home(tmp_path).acquire()


def test_attack_11_a_folder_for_everybody_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    with pytest.raises(Refused, match="all users"):
        Home(tmp_path / "tmp").acquire()
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o1777


@pytest.mark.parametrize("squatted", ["a link", "open to others"])
@pytest.mark.parametrize("below", [(), ("stack",)])
def test_finding_20_a_socket_folder_that_others_may_write_is_refused(
    squatted: str, below: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 20: whoever made the folder for sockets among the temporary ones first could answer in place of the node."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = tmp_path.joinpath(f"stack-{os.getuid()}", *below)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    if squatted == "a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "theirs")
    else:
        place.mkdir()
        place.chmod(0o755)
    with pytest.raises(Refused, match="yours alone"):
        Home(tmp_path / ("x" * 200)).socket_path()


def test_finding_20_a_key_is_exported_into_a_new_file_or_not_at_all(tmp_path: Path) -> None:
    """Finding 20: it was written through a name that could be foreseen, by following links."""
    home = tmp_path / "home"
    home.mkdir()
    key = load_or_create(home, "ed25519")
    (tmp_path / "link").symlink_to(tmp_path / "of somebody else")
    with pytest.raises(Refused, match="exists"):
        export_key(home, str(tmp_path / "link"))
    assert not (tmp_path / "of somebody else").exists()
    export_key(home, str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == key.encode()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    with pytest.raises(Refused):
        export_key(home, "/dev/full")


def test_a_key_that_could_not_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    load_or_create(home, "ed25519")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="No space"):
        export_key(home, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.EOPNOTSUPP])
def test_finding_35_a_home_that_cannot_be_locked_is_not_taken_for_one_that_is_held(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding 35: ENOLCK of a network file system was `another process holds it`."""

    def fail(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(Refused, match="cannot be locked"):
        Home(tmp_path).acquire()
