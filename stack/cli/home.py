"""How a command takes its home."""

from stack.cli import output
from stack.node.home import Home


def take(home: Home) -> bool:
    """`Home.acquire`, and what the user should know of the home is said."""
    held = home.acquire()
    for notice in home.notices:
        output.note(notice)
    return held
