"""multistream-select 1.0, as pure machines: how two ends agree on a protocol.

Source: libp2p specs connections/README.md ("multistream-select"), and the answers of go-multistream. A message is its
length as an unsigned varint (newline included), the text, a newline.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from enum import Enum

from stack.errors import NegotiationError, RemoteProtocolError
from stack.sansio.buffer import ReceiveBuffer
from stack.sansio.delimited import encode_delimited
from stack.streams.signs import Patience
from stack.values import dataclass

HEADER = "/multistream/1.0.0"
NOT_AVAILABLE = "na"

TOKEN_BYTES_MAX = 1024
"""Newline included; go-multistream refuses more, too."""

ROUNDS_MAX = 64
"""Proposals we answer on one stream: more than any node has, and an endless list ends here."""

_BACKLOG_BYTES_MAX = 1024 * 1024
"""What may wait behind the negotiation when a caller hands over more than was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """Both ends speak this from now on."""

    protocol: str
    """As it was proposed."""


class State(Enum):
    """Where a negotiation stands."""

    __hash__ = object.__hash__  # as that of `Resource`

    HEADER = "waiting for the header"
    PROPOSAL = "waiting for a proposal or its answer"
    AGREED = "agreed"
    FAILED = "failed"


class Token(Enum):
    """What a received message means."""

    __hash__ = object.__hash__  # as that of `Resource`

    HEADER = "header"
    MATCH = "match"
    OTHER = "other"


TRANSITIONS: dict[tuple[State, Token], State] = {
    (State.HEADER, Token.HEADER): State.PROPOSAL,
    (State.PROPOSAL, Token.MATCH): State.AGREED,
    (State.PROPOSAL, Token.OTHER): State.PROPOSAL,
}
"""What is legal; every other pair ends the negotiation."""


def encode_token(token: str) -> bytes:
    """One message. Raises NegotiationError when it is longer than 1,024 bytes or contains a newline."""
    data = token.encode() + b"\n"
    if len(data) > TOKEN_BYTES_MAX or "\n" in token:
        raise NegotiationError(f"not a protocol name: {token[:64]!r}")
    return encode_delimited(data)


_HEADER = encode_token(HEADER)


class TokenReader:
    """Cuts bytes into messages. Facts: `append`. Outputs: `wanted`, `next_token`, `take_rest`."""

    __slots__ = ("_buffer", "_size")

    def __init__(self) -> None:
        self._buffer = ReceiveBuffer(_BACKLOG_BYTES_MAX)
        self._size: int | None = None

    @property
    def wanted(self) -> int:
        """How many bytes the current message lacks, at least 1: whoever reads only these reads nothing too far."""
        return 1 if self._size is None else self._size - len(self._buffer)

    def append(self, data: bytes) -> None:
        """Add received bytes. Raises LimitExceeded far beyond what a negotiation needs."""
        self._buffer.append(data)

    def next_token(self) -> str | None:
        """The next message, or None. Raises RemoteProtocolError when it is none."""
        if self._size is None:
            size = self._buffer.take_uvarint()
            if size is None:
                return None
            if not 1 <= size <= TOKEN_BYTES_MAX:
                raise RemoteProtocolError(f"a negotiation message of {size} bytes, 1 to {TOKEN_BYTES_MAX} are allowed")
            self._buffer.commit()
            self._size = size
        data = self._buffer.take(self._size)
        if data is None:
            return None
        self._buffer.commit()
        self._size = None
        if data[-1:] != b"\n":
            raise RemoteProtocolError("a negotiation message without its newline")
        try:
            return data[:-1].decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError("a negotiation message that is not UTF-8") from error

    def take_rest(self) -> bytes:
        """Bytes behind the last message."""
        return self._buffer.take_all()


class _Negotiation(ABC):
    """What both ends share. Facts: `receive_data`. Outputs: `data_to_send`, `next_event`; getters: `wanted`, `state`.

    Raises RemoteProtocolError when the peer breaks the rules, NegotiationError when nothing is agreed; both are final.
    """

    def __init__(self, first: bytes = b"", patience: Patience | None = None) -> None:
        self._reader = TokenReader()
        self._to_send = bytearray(first)
        self._header_left = len(_HEADER)
        self._event: Agreed | None = None
        self._patience = patience
        self.state = State.HEADER

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value}>"

    def wanted(self) -> int:
        """How many bytes may be given next without reading beyond the negotiation; at least 1."""
        return max(self._reader.wanted, self._header_left)  # nothing else may come first, and nothing is shorter

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; `b""` means it sends no more."""
        try:
            self._receive(data)
        except BaseException:
            self.state = State.FAILED
            raise

    def next_event(self) -> Agreed | None:
        """The agreement, once."""
        event, self._event = self._event, None
        return event

    def data_to_send(self) -> bytes:
        """Bytes to send now."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def next_timeout(self) -> float | None:
        """When its patience with the peer is to be looked at."""
        return None if self._patience is None else self._patience.until

    def handle_timeout(self, now: float) -> None:
        """Go on, or raise TimeoutError."""
        if self._patience is not None:
            self._patience.look(now)

    def take_rest(self) -> bytes:
        """Bytes received behind the agreement; they belong to the agreed protocol."""
        return self._reader.take_rest()

    def _receive(self, data: bytes) -> None:
        if not data and self.state is not State.AGREED:
            raise NegotiationError("the peer closed during the negotiation of a protocol")
        self._reader.append(data)
        self._header_left = max(self._header_left - len(data), 0)
        while self.state is not State.AGREED and (text := self._reader.next_token()) is not None:
            token = Token.HEADER if self.state is State.HEADER and text == HEADER else self._meaning(text)
            following = TRANSITIONS.get((self.state, token))
            if following is None:
                raise RemoteProtocolError(f"{text[:64]!r} while {self.state.value}")
            self.state = following
            if token is Token.MATCH:
                self._event = Agreed(protocol=text)
            self._answer(token, text)

    @abstractmethod
    def _meaning(self, text: str) -> Token:
        """What a message that is not the header, or comes behind it, means to this end."""

    @abstractmethod
    def _answer(self, token: Token, text: str) -> None:
        """Queue what follows from it, or raise."""


class Proposer(_Negotiation):
    """The end that opened the stream: proposes one protocol after the other.

    Header and first proposal go out together. With one protocol this is the lazy form: send `data_to_send()` with the
    first data of the protocol, and feed the answer before anything else is received.
    """

    def __init__(self, protocols: Sequence[str], patience: Patience | None = None) -> None:
        if not protocols:
            raise NegotiationError("no protocol to propose")
        self._protocols = tuple(protocols)
        self._round = 0
        super().__init__(_HEADER + encode_token(self._protocols[0]), patience)

    def _meaning(self, text: str) -> Token:
        return Token.MATCH if text == self._protocols[self._round] else Token.OTHER

    def _answer(self, token: Token, text: str) -> None:
        if token is not Token.OTHER:
            return
        if text != NOT_AVAILABLE:
            raise RemoteProtocolError(f"{text[:64]!r} is no answer to {self._protocols[self._round]!r}")
        self._round += 1
        if self._round == len(self._protocols):
            raise NegotiationError(f"the peer speaks none of {', '.join(self._protocols)}")
        self._to_send += encode_token(self._protocols[self._round])


class Responder(_Negotiation):
    """The end that accepted the stream: answers the header with its own, proposals with an echo or with `na`. Who says nothing is
    told nothing (attack 3), and who proposes at once gets one answer to both."""

    def __init__(self, supported: Container[str], patience: Patience | None = None) -> None:
        self._supported = supported
        self._round = 0
        super().__init__(patience=patience)

    def _meaning(self, text: str) -> Token:
        # `na` is an answer: a peer that proposes it never gets it agreed, whatever is in the table.
        return Token.MATCH if text != NOT_AVAILABLE and text in self._supported else Token.OTHER

    def _answer(self, token: Token, text: str) -> None:
        if token is not Token.OTHER:
            self._to_send += encode_token(text)
            return
        self._round += 1
        if self._round == ROUNDS_MAX:
            raise NegotiationError(f"{ROUNDS_MAX} proposals and none of them is spoken here")
        self._to_send += encode_token(NOT_AVAILABLE)
