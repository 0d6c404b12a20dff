"""The one table from errors to exit codes (README, "Exit codes")."""

import errno

from stack.blocks.interfaces import BlockMismatch, BlockNotFound, ReadFailed, SourceChanged
from stack.dag.model import EncodeError
from stack.dag.unixfs.reader import LinkNotFound
from stack.errors import (
    ConfigError,
    CorruptStore,
    DeadlinePassed,
    DecodeError,
    FetchError,
    FetchStopped,
    LimitExceeded,
    NegotiationError,
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
from stack.net.interfaces import ListenError

OK = 0
BUG = 1
USAGE = 2
NOT_FOUND = 3
STALLED = 4
WRONG_BYTES = 5
NO_DAEMON = 6
REFUSED = 7
PARTIAL = 8
NO_SPACE = 9
INTERRUPTED = 130

EXIT_CODES: dict[type[StackError], int] = {
    BlockMismatch: WRONG_BYTES,
    BlockNotFound: NOT_FOUND,
    ConfigError: USAGE,
    CorruptStore: WRONG_BYTES,
    DeadlinePassed: STALLED,
    DecodeError: WRONG_BYTES,
    EncodeError: WRONG_BYTES,
    FetchError: NOT_FOUND,
    FetchStopped: INTERRUPTED,
    LimitExceeded: REFUSED,
    LinkNotFound: NOT_FOUND,
    ListenError: REFUSED,
    NegotiationError: NOT_FOUND,
    NoProvider: NOT_FOUND,
    NoSpace: NO_SPACE,
    ProtocolError: WRONG_BYTES,
    ReadFailed: REFUSED,
    Refused: REFUSED,
    RepoTooNew: NO_DAEMON,
    SecurityError: WRONG_BYTES,
    SourceChanged: WRONG_BYTES,
    Stalled: STALLED,
    StoreError: WRONG_BYTES,
    TransportError: NOT_FOUND,
    WrongBlocks: WRONG_BYTES,
}
"""The nearest class of an error decides; text typed by the user is checked by the command line and exits with USAGE."""


class NodeError(StackError):
    """An error that happened in the process that runs the node, told over the control protocol."""

    def __init__(self, kind: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.exit_code = exit_code


def exit_code(error: StackError | OSError) -> int:
    """The exit code of a command that failed with `error`; what the system refuses is no bug of ours."""
    if isinstance(error, NodeError):
        return error.exit_code
    if isinstance(error, OSError):
        return NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else REFUSED
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
    return BUG


def what_the_system_says(error: OSError) -> str:
    """One sentence of an error of the system that nobody has put into better words."""
    place = f" ({error.filename})" if error.filename is not None else ""
    return f"the system says: {error.strerror or error}{place}"
