"""`stack key`: the identity of this home."""

from pathlib import Path

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.groups import Group
from stack.cli.home import take
from stack.cli.types import PathType, config
from stack.errors import Refused
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId
from stack.node.home import Home
from stack.node.keystore import export_key, import_key, load_or_create, replace_key
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """Whose key it is, and of which type."""

    peer_id: PeerId
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """Where the private key was written."""

    path: Path


@click.group(cls=Group)
def key() -> None:
    """The identity of this home."""


def _home(*, held: bool) -> Home:
    path = config("command").home
    assert path is not None
    home = Home(path)
    if not take(home) and held:
        raise Refused("a node of this home is running; stop it before its identity changes")
    return home


def _ask(question: str) -> None:
    """Raises Refused unless the answer is yes, and when nobody can answer."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        raise Refused("there is nobody to answer: the identity stays as it is; give --yes to change it") from error
    if not agreed:
        raise Refused("the identity stays as it is")


def _tell(private: PrivateKey, as_json: bool) -> None:
    peer = PeerId.of(private.public)
    if as_json:
        output.json_line(KeyInfo(peer_id=peer, type=private.kind))
    else:
        output.data(f"{peer} {private.kind}")


@key.command()
@answers(KeyInfo)
def show(as_json: bool) -> None:
    """Peer id and type of the key; never the key itself."""
    home = _home(held=False)
    _tell(load_or_create(home.path, config("command").key_type), as_json)
    home.release()


@key.command()
@click.option("--type", "kind", type=click.Choice(["ed25519", "secp256k1", "ecdsa", "rsa"]), default="ed25519")
@click.option("--yes", is_flag=True, help="Do not ask.")
@answers(KeyInfo)
def new(kind: str, yes: bool, as_json: bool) -> None:
    """Make a new identity; tickets made with the old one no longer find this node."""
    home = _home(held=True)
    if not yes:
        try:
            _ask("Tickets made so far will no longer find this node. Go on?")
        except BaseException:
            home.release()
            raise
    private = generate(kind)
    replace_key(home.path, private)
    _tell(private, as_json)
    home.release()


@key.command("export")
@click.argument("file", type=PathType())
@answers(KeyFile)
def export(file: str, as_json: bool) -> None:
    """Write the private key to FILE (libp2p protobuf, readable by its owner only); whoever has it can be this node."""
    home = _home(held=False)
    export_key(home.path, file)
    home.release()
    if as_json:
        output.json_line(KeyFile(path=Path(file).absolute()))


@key.command("import")
@click.argument("file", type=PathType())
@answers(KeyInfo)
def import_(file: str, as_json: bool) -> None:
    """Take the identity from FILE (libp2p protobuf); the old key is kept beside it."""
    home = _home(held=True)
    _tell(import_key(home.path, file), as_json)
    home.release()
