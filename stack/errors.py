"""The roots of every error this package raises; `cli` maps each to an exit code in one table.

An error that names a CID, a peer or a path lives beside its subject and is derived from one of these.
"""


class StackError(Exception):
    """Base of all errors raised on purpose by this package."""


class DecodeError(StackError):
    """These bytes, or this text, are not what they should be."""


class ProtocolError(StackError):
    """A rule of a wire protocol was broken."""


class LocalProtocolError(ProtocolError):
    """Our caller broke the rule; nothing was sent and no state changed."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rule. `code` is the wire code to answer with, where the protocol has one."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class NegotiationError(StackError):
    """The two ends have no protocol in common."""


class SecurityError(StackError):
    """The other end could not prove what it claims, or a secured message was tampered with."""


class TransportError(StackError):
    """A connection could not be made, or a listener could not be started."""


class LimitExceeded(StackError):
    """Something would have taken more than its bound. `limit` names the bound, `value` is its figure."""

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(f"limit reached: {limit} ({value})")
        self.limit = limit
        self.value = value


class StoreError(StackError):
    """The repository cannot do what was asked."""


class RepoTooNew(StoreError):
    """The repository was written by a newer version of this program."""


class NoSpace(StoreError):
    """The disk or the quota is full."""


class CorruptStore(StoreError):
    """The repository's own data is damaged; the message says what and what to do."""


class ConfigError(StackError):
    """A setting has no meaning; the message names the setting."""


class NodeClosed(StackError):
    """The node was closed, before this was asked of it or meanwhile."""

    def __init__(self, message: str = "this node is closed: its context was left") -> None:
        super().__init__(message)


class Refused(StackError):
    """The operation would have destroyed or overridden something of the user's, or is not permitted."""


class FetchError(StackError):
    """A fetch did not finish."""


class FetchStopped(FetchError):
    """Somebody else has ended it: its job was paused or removed."""


class NoProvider(FetchError):
    """Nobody was found who has what is sought."""


class WrongBlocks(NoProvider):
    """Who was found sent bytes that are not what they should be; the message names them."""


class Stalled(FetchError):
    """No progress for as long as the caller allowed."""


class DeadlinePassed(FetchError):
    """The time the caller gave for the whole is over."""


def without_frames(error: Exception) -> Exception:
    """The same error, to be kept: the calls that it came through would hold, until the collector comes, what they had in hand,
    a buffer of 320 KiB for each connection that has ended (attack 6)."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
