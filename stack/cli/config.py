"""`stack config`: the settings of this home."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from stack.blocks.disk import write_whole
from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.completing import setting_values, settings_written
from stack.cli.groups import Group
from stack.cli.session import running_node
from stack.cli.types import config as settings_of
from stack.errors import ConfigError, StackError
from stack.node.api import CompareSettings, GetIdentity
from stack.node.config import Config
from stack.node.home import Home, default_home
from stack.node.settings import (
    SETTINGS,
    changed,
    config_file,
    line_of,
    no_setting,
    read_file,
    read_setting,
    read_text,
    shown,
    toml,
    variable,
    without,
)
from stack.values import dataclass


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers."""
    return [name for name in SETTINGS if name.startswith(incomplete)]


name_argument = click.argument("name", metavar="KEY", shell_complete=_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that holds."""

    name: str
    value: tuple[str, ...] | str | bool | int | None
    origin: str
    """`default`, `file`, `environment`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPath:
    """Where the settings of this home are written."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingInfo:
    """A setting, explained."""

    name: str
    value: str
    """As TOML writes it, like `default`."""
    origin: str
    """`default`, `file`, `environment`."""
    place: str
    """The file with its line, or the variable; empty for a default."""
    default: str
    kind: str
    meaning: str
    flag: str
    variable: str
    running: str
    """What the node that runs has in its place, where that is known to differ; else empty."""


@click.group(cls=Group)
def config() -> None:
    """The settings of this home (config.toml)."""


@config.command("ls")
@answers(Setting, many=True)
def list_(as_json: bool) -> None:
    """All settings that hold, and where each comes from."""
    settings = settings_of("command")
    if as_json:
        output.json_line([_setting(settings, name) for name in SETTINGS])
        return
    for name, (origin, _) in _origins(settings).items():
        output.data(f"{name} = {shown(name, getattr(settings, name))}  ({origin})")


@config.command("get")
@name_argument
@answers(Setting)
def get(name: str, as_json: bool) -> None:
    """One setting."""
    _check(name)
    settings = settings_of("command")
    if as_json:
        output.json_line(_setting(settings, name))
        return
    value = getattr(settings, name)
    output.data(value if isinstance(value, str) else shown(name, value).strip('"'))


@config.command("explain")
@click.argument("names", metavar="[KEY]...", nargs=-1, shell_complete=_names)
@answers(SettingInfo, many=True)
def explain(names: tuple[str, ...], as_json: bool) -> None:
    """What settings mean, in which unit, what they are now, and where that comes from. Without KEY all of them."""
    for name in names:
        _check(name)
    settings = settings_of("command")
    running = run_async(lambda: _running(settings))
    origins = _origins(settings)
    rows = [_explained(name, settings, *origins[name], running.get(name, "")) for name in names or SETTINGS]
    if as_json:
        output.json_line(rows)
        return
    for row in rows:
        output.data(f"{row.name} = {row.value}  ({row.place or row.origin})")
        output.data(f"    {row.meaning}")
        flag = f" Flag: {row.flag}." if row.flag else ""
        output.data(f"    Form: {row.kind}. Default: {row.default}. Environment: {row.variable}.{flag}")
        if row.running:
            output.data(f"    {row.running}")


@config.command("set")
@name_argument
@click.argument("value", nargs=-1, required=True, shell_complete=setting_values)
@answers(Setting)
def set_(name: str, value: tuple[str, ...], as_json: bool) -> None:
    """Set one setting; the running node takes it at its next start."""
    text = " ".join(value)
    read = read_setting(name, text)
    settings = settings_of("command", **{name: read})
    assert settings.home is not None
    Home(settings.home).prepare()
    written = toml(read) if isinstance(read, bool | tuple) else toml(text)
    _write(settings.home, name, changed(read_text(settings.home), name, written))
    if as_json:
        output.json_line(_setting(settings_of("command"), name))


@config.command("unset")
@click.argument("name", metavar="KEY", shell_complete=settings_written)
@answers(Setting)
def unset(name: str, as_json: bool) -> None:
    """Take one setting out of the file, also one that is none; the running node has its default at its next start."""
    home = default_home()
    text = read_text(home)
    if line_of(text, name) is None:
        _check(name)
        output.note(f"{name} is not set in {config_file(home)}")
    else:
        _write(home, name, without(text, name))
    if as_json:
        known = name in SETTINGS
        output.json_line(
            _setting(settings_of("command"), name) if known else Setting(name=name, value=None, origin="default")
        )


@config.command("path")
@answers(ConfigPath)
def path(as_json: bool) -> None:
    """Where the file is."""
    home = settings_of("command").home
    assert home is not None
    if as_json:
        output.json_line(ConfigPath(path=config_file(home)))
    else:
        output.data(str(config_file(home)))


def _write(home: Path, name: str, text: str) -> None:
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name}: the file of settings is UTF-8, and this value is not") from error
    write_whole(config_file(home), content)
    if variable(name) in os.environ:
        output.note(f"{variable(name)} is set, and counts more")


def _check(name: str) -> None:
    if name not in SETTINGS:
        raise no_setting(name)


def _setting(settings: Config, name: str) -> Setting:
    value = getattr(settings, name)
    origin, _ = _origins(settings)[name]
    return Setting(name=name, value=str(value) if isinstance(value, Path) else value, origin=origin)


def _origins(settings: Config, environment: Mapping[str, str] = os.environ) -> dict[str, tuple[str, str]]:
    """Of each setting, what kind of place it comes from, and which."""
    assert settings.home is not None
    written, text = read_file(settings.home), read_text(settings.home)
    found = {}
    for name in SETTINGS:
        if variable(name) in environment:
            found[name] = "environment", variable(name)
        elif name in written:
            found[name] = "file", f"{config_file(settings.home)}, line {line_of(text, name)}"
        else:
            found[name] = "default", ""
    return found


def _explained(name: str, settings: Config, origin: str, place: str, running: str) -> SettingInfo:
    setting = SETTINGS[name]
    usual = Config(home=settings.home, mdns=True, portmap=True, remember_peers=True)
    return SettingInfo(
        name=name,
        value=shown(name, getattr(settings, name)),
        origin=origin,
        place=place,
        default=shown(name, getattr(usual, name)),
        kind=f"one of {', '.join(setting.choices)}" if setting.choices else setting.kind,
        meaning=setting.meaning,
        flag=setting.flag,
        variable=variable(name),
        running=running,
    )


async def _running(settings: Config) -> dict[str, str]:
    """What is said of settings that the node which runs has otherwise; nothing where none runs."""
    node = running_node(settings)
    if node is None:
        return {}
    try:
        asked = CompareSettings(
            listen=settings.listen,
            external=settings.external,
            relay_via=settings.relay_via,
            bootstrap=settings.bootstrap,
            mdns=settings.mdns,
            upload_limit=settings.upload_limit or 0,
            download_limit=settings.download_limit or 0,
        )
        differing, info = await node.ask(asked), await node.ask(GetIdentity())
    except StackError:
        return {}
    text = f"The node that runs (stack {info.role}, process {info.pid}) has another value: from a flag, or from before a change."
    return dict.fromkeys(differing, text)
