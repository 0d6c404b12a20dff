"""How a command takes its home."""

from stack.cli import output
from stack.node.home import Home


def take(home: Home) -> bool:
    """`Home.acquire`, and what the user should know of the home is said."""
    held = home.acquire()
    _tell(home)
    return held


def prepare(home: Home) -> None:
    """`Home.prepare`, and the same is said."""
    home.prepare()
    _tell(home)


def _tell(home: Home) -> None:
    for notice in home.notices:
        output.note(notice)
