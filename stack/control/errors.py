"""What a command is told of a node in another process that does not answer."""

from stack.node.exit_codes import NO_DAEMON
from stack.node.exits import NodeError


class NodeUnreachable(NodeError):
    """The process that holds the home does not answer, or speaks another version."""

    def __init__(self, message: str) -> None:
        super().__init__("NodeUnreachable", message, NO_DAEMON)


class NodeGone(NodeUnreachable):
    """The process that held the home ended before it had answered: another may hold it now, or this one take it."""
