"""Settings are explained in one place, and a wrong one is told where it stands (point 45)."""

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from stack import Node
from stack.cli.app import run
from stack.cli.daemon import daemon
from stack.cli.share import share
from stack.dag.unixfs.options import PROFILES
from stack.errors import ConfigError
from stack.identity.keys import KEY_TYPES
from stack.node import settings as table
from stack.node.config import Config, load
from stack.node.settings import SETTINGS, changed, shown, variable
from tests.cli.settings_page import PAGE, page


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """stdout of a command that ends well."""
    with pytest.raises(SystemExit) as ended:
        run(["config", *words])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return str(out)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in SETTINGS:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.setenv("STACK_HOME", str(tmp_path))
    return tmp_path


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), "python -m tests.cli.settings_page"


def test_the_table_has_what_a_node_is_built_from_and_nothing_else() -> None:
    assert set(SETTINGS) == {item.name for item in fields(Config)} - {"home", "role", "serve"}
    assert set(table.PROFILES) == set(PROFILES)
    assert tuple(KEY_TYPES) == table.KEY_TYPES
    known = {flag for command in (share, daemon) for option in command.params for flag in option.opts}
    assert {setting.flag for setting in SETTINGS.values() if setting.flag} <= known


def test_a_setting_is_explained_with_what_it_is_now_and_why(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text('# mine\nupload_limit = "4M"\n')
    lines = said(capsys, "explain", "upload_limit").splitlines()
    assert lines[0] == f'upload_limit = "4M"  ({home}/config.toml, line 2)'
    assert "bytes a second" in lines[2] and 'Default: "none"' in lines[2] and "--up" in lines[2]
    monkeypatch.setenv("STACK_UPLOAD_LIMIT", "2M")
    (row,) = json.loads(said(capsys, "explain", "upload_limit", "--json"))["items"]
    assert (row["value"], row["origin"], row["place"]) == ('"2M"', "environment", "STACK_UPLOAD_LIMIT")
    assert len(said(capsys, "explain").splitlines()) == 3 * len(SETTINGS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# a\n\nuplod_limit = 3", "line 3: uplod_limit is no setting; did you mean upload_limit"),
        ("[listen]\na = 1", "line 1: listen"),
        ('mdns = true\n"low-water" = 3', "line 2: low-water is no setting; did you mean low_water"),
        ("low_water = 1.5", "line 1: low_water: '1.5' is not a number of connections"),
        ("mdns = true\nhigh_water = -1", "line 2: high_water: at least 1"),
        ("mdns = true\nhigh_water = 5", "line 2: low_water: at least 1 and at most high_water, which is 5"),
        ("mdns = true\nlow_water = 999", "line 2: low_water: at least 1 and at most high_water, which is 160"),
        ('profile = "unixfs-v1"', "line 1: profile: .* did you mean unixfs-v1-2025"),
        ("memory_limit = 'none'", "line 1: memory_limit: 'none' is not bytes"),
        ('upload_limit = "1"', "line 1: upload_limit: at least 16K"),
        ('memory_limit = "15M"', "line 1: memory_limit: at least 16M"),
        ('quota = "1e999"', "line 1: quota"),
        ("mdns = ", "line 1"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(home: Path, text: str, message: str) -> None:
    (home / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match=f"config.toml.*{message}"):
        load({}, home=home, environment={})


def test_what_is_wrong_in_the_environment_is_told_by_its_variable(home: Path) -> None:
    (home / "config.toml").write_text('low_water = 3\nkey_type = "rsa"\n')
    for name, text in (("LOW_WATER", "x"), ("KEY_TYPE", "rsa1024"), ("HIGH_WATER", "0"), ("LOW_WATER", "500")):
        with pytest.raises(ConfigError, match=f"^(STACK_{name}|.*config.toml, line 1): "):
            load({}, home=home, environment={f"STACK_{name}": text})


def test_a_file_that_cannot_be_read_is_told_without_words_of_the_machine(home: Path) -> None:
    (home / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no text"):
        load({}, home=home, environment={})
    (home / "config.toml").unlink()
    (home / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read: Is a directory"):
        load({}, home=home, environment={})
    (home / "config.toml").rmdir()
    (home / "config.toml").write_bytes(b"\xef\xbb\xbfmdns = false\r\n")
    assert load({}, home=home, environment={}).mdns is False


def test_to_set_one_leaves_the_rest_of_the_file_as_it_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen on the way: `config set` deleted the user's comments."""
    file = home / "config.toml"
    file.write_text(
        '# mine\nquota = "1G # x" # why\n\nbootstrap = [\n  "/ip4/1.2.3.4/tcp/1", # a\n]\nperf = true\n'.replace(
            " # x", ""
        )
    )
    said(capsys, "set", "quota", "20G")
    said(capsys, "set", "bootstrap", "/ip4/1.2.3.4/tcp/2", "/ip4/1.2.3.4/tcp/3")
    said(capsys, "set", "mdns", "off")
    assert file.read_text().splitlines() == [
        "# mine",
        'quota = "20G"  # why',
        "",
        'bootstrap = ["/ip4/1.2.3.4/tcp/2", "/ip4/1.2.3.4/tcp/3"]',
        "perf = true",
        "mdns = false",
    ]
    assert changed("swarm_key = '#a' # b", "swarm_key", '"c"') == 'swarm_key = "c"  # b\n'


def test_one_is_taken_out_of_the_file_and_the_rest_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / "config.toml"
    file.write_text('# mine\nquota = "1G" # why\nbootstrap = [\n  "/ip4/1.2.3.4/tcp/1", # a\n]\nperf = true\n')
    for name in ("quota", "bootstrap", "mdns"):
        assert json.loads(said(capsys, "unset", name, "--json"))["origin"] == "default"
    assert file.read_text() == "# mine\nperf = true\n"
    said(capsys, "unset", "perf")
    assert file.read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("line", "name"), [("uplod_limit = 3", "uplod_limit"), ("mdns = ", "mdns"), ("[listen]", "listen")]
)
def test_what_is_wrong_in_the_file_can_be_taken_out_of_it(
    line: str, name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else works in such a home until somebody has mended the file."""
    (home / "config.toml").write_text(f"perf = true\n{line}\n")
    with pytest.raises(ConfigError):
        load({}, home=home, environment={})
    assert json.loads(said(capsys, "unset", name, "--json"))["name"] == name
    assert load({}, home=home, environment={}).perf


def test_what_is_neither_a_setting_nor_in_the_file_cannot_be_taken_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["config", "unset", "uplod_limit"])
    assert ended.value.code == 2 and "did you mean upload_limit" in capsys.readouterr().err


def test_what_is_listed_is_read_back_as_it_was(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config.toml").write_text(
        'upload_limit = 4194304\ndownload_limit = 16384\nquota = "1536M"\nswarm_key = "/a\\"b"\n'
    )
    before = load({}, home=home, environment={})
    listed = "\n".join(line.rpartition("  (")[0] for line in said(capsys, "ls").splitlines())
    assert tomllib.loads(listed)["upload_limit"] == "4M"
    (home / "config.toml").write_text(listed)
    assert load({}, home=home, environment={}) == before
    assert shown("quota", 5) == "5" and shown("quota", 0) == "0"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('store = "tape"', "store: 'tape' is not installed"),
        ('security = ["rot13"]', "security: 'rot13' is not one of"),
        ('swarm_key = "/nowhere/key"', "swarm_key: /nowhere/key: No such file"),
    ],
)
async def test_what_is_found_wrong_when_it_is_used_is_told_with_its_line(home: Path, text: str, message: str) -> None:
    (home / "config.toml").write_text(f"mdns = false\n{text}\n")
    with pytest.raises(ConfigError, match=f"config.toml, line 2: {message}"):
        async with Node.open(load({}, home=home, environment={})):
            pass
