"""The one table from errors to exit codes (README, "Exit codes")."""

import errno
from functools import cache

from stack.blocks.interfaces import BlockMismatch, BlockNotFound, ReadFailed, SourceChanged
from stack.dag.model import EncodeError
from stack.dag.unixfs.reader import LeadsOut, LinkNotFound, NotAFile
from stack.errors import (
    ConfigError,
    CorruptStore,
    DeadlinePassed,
    DecodeError,
    FetchError,
    FetchStopped,
    LimitExceeded,
    LocalProtocolError,
    NegotiationError,
    NodeClosed,
    NoProvider,
    NoSpace,
    ProtocolError,
    Refused,
    RepoTooNew,
    SecurityError,
    StackError,
    Stalled,
    StoreError,
    TransportError,
    WrongBlocks,
)
from stack.net.interfaces import DialError, ListenError
from stack.node.exit_codes import BUG, INTERRUPTED, NO_DAEMON, NO_SPACE, NOT_FOUND, REFUSED, STALLED, USAGE, WRONG_BYTES

NO_SPACE_LEFT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""As `stack.blocks.disk` counts them."""

EXIT_CODES: dict[type[StackError], int] = {
    BlockMismatch: WRONG_BYTES,
    BlockNotFound: NOT_FOUND,
    ConfigError: USAGE,
    CorruptStore: WRONG_BYTES,
    DeadlinePassed: STALLED,
    DecodeError: WRONG_BYTES,
    DialError: NOT_FOUND,
    EncodeError: WRONG_BYTES,
    FetchError: NOT_FOUND,
    FetchStopped: INTERRUPTED,
    LeadsOut: USAGE,
    LimitExceeded: REFUSED,
    LinkNotFound: NOT_FOUND,
    ListenError: REFUSED,
    LocalProtocolError: WRONG_BYTES,
    NegotiationError: NOT_FOUND,
    NodeClosed: NO_DAEMON,
    NoProvider: NOT_FOUND,
    NoSpace: NO_SPACE,
    NotAFile: USAGE,
    ProtocolError: WRONG_BYTES,
    ReadFailed: REFUSED,
    Refused: REFUSED,
    RepoTooNew: NO_DAEMON,
    SecurityError: WRONG_BYTES,
    SourceChanged: WRONG_BYTES,
    Stalled: STALLED,
    StoreError: REFUSED,
    TransportError: NOT_FOUND,
    WrongBlocks: WRONG_BYTES,
}
"""The nearest class of an error decides. What the system refuses is never WRONG_BYTES: those were read, and are wrong.
Text typed by the user is checked by the command line and exits with USAGE."""


class NodeError(StackError):
    """An error that happened in the process that runs the node, told over the control protocol."""

    def __init__(self, kind: str, message: str, exit_code: int) -> None:
        Exception.__init__(self, message)
        self.kind = kind
        self.exit_code = exit_code


def kind_of(error: Exception) -> str:
    """The name of an error for programs: of its nearest class in the table, so that it is the same here and over the control protocol."""
    if isinstance(error, NodeError):
        return error.kind
    return next((kind.__name__ for kind in type(error).__mro__ if kind in EXIT_CODES), type(error).__name__)


@cache
def _told_as(kind: str) -> type[NodeError]:
    known = next((known for known in EXIT_CODES if known.__name__ == kind), None)
    return NodeError if known is None else type(kind, (NodeError, known), {})


def told_error(kind: str, message: str, exit_code: int) -> NodeError:
    """An error of another process: where its class is in the table, an instance of that too, so that whoever catches it here need not
    know where the node runs. Facts that the class has as attributes are only in the message."""
    return _told_as(kind)(kind, message, exit_code)


def exit_code(error: StackError | OSError) -> int:
    """The exit code of a command that failed with `error`; what the system refuses is no bug of ours."""
    if isinstance(error, NodeError):
        return error.exit_code
    if isinstance(error, OSError):
        return NO_SPACE if error.errno in NO_SPACE_LEFT else REFUSED
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    return BUG


def what_the_system_says(error: OSError) -> str:
    """One sentence of an error of the system that nobody has put into better words."""
    place = f" ({error.filename})" if error.filename is not None else ""
    return f"the system says: {error.strerror or error}{place}"
