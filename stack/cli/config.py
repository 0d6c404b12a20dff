"""`stack config`: the settings of this home."""

import os

import click

from stack.blocks.disk import write_whole
from stack.cli import output
from stack.cli.groups import Group
from stack.cli.types import config as settings_of
from stack.cli.types import json_option
from stack.errors import ConfigError
from stack.node.config import SETTINGS, config_file, read_file, read_setting
from stack.node.home import Home


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers."""
    return [name for name in SETTINGS if name.startswith(incomplete)]


@click.group(cls=Group)
def config() -> None:
    """The settings of this home (config.toml)."""


@config.command("ls")
@json_option
def list_(as_json: bool) -> None:
    """All settings that hold, and where each comes from."""
    settings = settings_of("command")
    assert settings.home is not None
    written = read_file(settings.home)
    if as_json:
        output.json_line({name: getattr(settings, name) for name in SETTINGS})
        return
    for name in SETTINGS:
        origin = "environment" if f"STACK_{name.upper()}" in os.environ else "file" if name in written else "default"
        output.data(f"{name} = {_shown(getattr(settings, name))}  ({origin})")


@config.command("get")
@click.argument("name", shell_complete=_names)
def get(name: str) -> None:
    """One setting."""
    if name not in SETTINGS:
        raise ConfigError(f"{name} is no setting; there are: {', '.join(SETTINGS)}")
    value = getattr(settings_of("command"), name)
    output.data(value if isinstance(value, str) else _shown(value).strip('"'))


@config.command("set")
@click.argument("name", shell_complete=_names)
@click.argument("value", nargs=-1, required=True)
def set_(name: str, value: tuple[str, ...]) -> None:
    """Set one setting; the running node takes it at its next start."""
    read_setting(name, " ".join(value))
    home = settings_of("command", **{name: read_setting(name, " ".join(value))}).home
    assert home is not None
    Home(home).prepare()
    lines = [f'{key} = "{_text(item)}"' for key, item in {**read_file(home), name: " ".join(value)}.items()]
    write_whole(config_file(home), ("\n".join(lines) + "\n").encode())


@config.command("path")
def path() -> None:
    """Where the file is."""
    home = settings_of("command").home
    assert home is not None
    output.data(str(config_file(home)))


def _shown(value: object) -> str:
    """As TOML writes it; `"none"` is how no limit is written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value) if isinstance(value, int) else f'"{_text("none" if value is None else value)}"'


def _text(value: object) -> str:
    text = " ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return text.replace("\\", "\\\\").replace('"', '\\"')
