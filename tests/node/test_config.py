"""Settings: flag, environment, file, default, in this order."""

from pathlib import Path

import pytest

from stack.errors import ConfigError
from stack.node.config import Config, load, read_setting


def test_defaults_hold_when_nothing_is_set(tmp_path: Path) -> None:
    assert load({}, home=tmp_path, environment={}) == Config(
        home=tmp_path, mdns=True, portmap=True, remember_peers=True
    )


def test_programs_speak_on_no_network_unless_they_ask_for_it(tmp_path: Path) -> None:
    for config in (Config(), Config(home=tmp_path)):
        assert not config.mdns
        assert not config.remember_peers
        assert config.bootstrap == ()


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("false", False)]
)
def test_switches_are_read_as_people_write_them(tmp_path: Path, text: str, expected: bool) -> None:
    assert load({}, home=tmp_path, environment={"STACK_MDNS": text}).mdns is expected


def test_the_bootstrap_list_comes_from_the_file_and_the_flag(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('bootstrap = ["/dnsaddr/example.com", "/ip4/1.2.3.4/tcp/1"]\nmdns = false\n')
    settings = load({}, home=tmp_path, environment={})
    assert settings.bootstrap == ("/dnsaddr/example.com", "/ip4/1.2.3.4/tcp/1")
    assert not settings.mdns
    assert load({"bootstrap": ("/ip4/5.6.7.8/tcp/1",)}, home=tmp_path, environment={}).bootstrap == (
        "/ip4/5.6.7.8/tcp/1",
    )


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'quota = "1 GiB"\nlow_water = 5\nhigh_water = 9\nlisten = ["/ip4/1.2.3.4/tcp/1"]\n'
    )
    settings = load({"low_water": 7}, home=tmp_path, environment={"STACK_LOW_WATER": "6", "STACK_HIGH_WATER": "8"})
    assert (settings.low_water, settings.high_water, settings.quota) == (7, 8, 1 << 30)
    assert settings.listen == ("/ip4/1.2.3.4/tcp/1",)


@pytest.mark.parametrize(
    ("text", "size"), [("64MiB", 64 << 20), ("1.5k", 1536), ("none", None), ("7", 7), ("2 TB", 2 << 40)]
)
def test_sizes_have_units(text: str, size: int | None) -> None:
    assert read_setting("quota", text) == size


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("colour = 1", "colour is no setting"),
        ('low_water = "many"', "low_water"),
        ("low_water = 0", "low_water"),
        ("low_water = 9\nhigh_water = 3", "high_water"),
        ('key_type = "dsa"', "key_type"),
        ("security = []", "security: at least one"),
        ('listen = ["nowhere"]', "listen"),
        ('bootstrap = ["nowhere"]', "bootstrap"),
        ('external = ["999.1.1.1:4001"]', "no IP address"),
        ('external = ["127.1:4001"]', "no IP address"),
        ('external = ["host.0x7F.:4001"]', "no IP address"),
        (f"bootstrap = {['/ip4/1.2.3.4/tcp/1'] * 65}", "bootstrap: more than"),
        ("mdns = 7", "mdns"),
        ("listen = [", "config.toml"),
    ],
)
def test_a_setting_without_meaning_is_named(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(toml)
    with pytest.raises(ConfigError, match=message):
        load({}, home=tmp_path, environment={})
