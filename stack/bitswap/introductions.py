"""Who named each peer of a session, and whether it must prove, and has proved, to know the secret of what is sought. Pure."""

from dataclasses import replace

from stack.bitswap.interfaces import PeerReport, Provider
from stack.identity.peer_id import PeerId


class Introductions:
    """Facts: `named`, `proved`, `unproved`, `ended`, `forget`. Getters: `is_said_to_have`, `of`."""

    __slots__ = ("_ended", "_named_by", "_said_open", "_unproved")

    def __init__(self) -> None:
        self._named_by: dict[PeerId, str] = {}
        self._said_open: set[PeerId] = set()
        self._unproved: set[PeerId] = set()
        self._ended: set[PeerId] = set()

    def named(self, provider: Provider) -> None:
        """Somebody says that this peer has it; who said so first counts."""
        self._named_by.setdefault(provider.peer, provider.source)
        if provider.source in ("user", "announced"):
            self._said_open.add(provider.peer)

    def proved(self, peer: PeerId) -> None:
        """It knows the secret, or need not."""
        self._unproved.discard(peer)
        self._ended.discard(peer)

    def unproved(self, peer: PeerId) -> None:
        """It does not know the secret."""
        self._unproved.add(peer)

    def ended(self, peer: PeerId) -> None:
        """It knew the secret, and says that it does not any more."""
        self._ended.add(peer)

    def forget(self, peer: PeerId) -> None:
        """The session knows it no longer."""
        self._named_by.pop(peer, None)
        self._said_open.discard(peer)
        self.proved(peer)

    def is_said_to_have(self, peer: PeerId) -> bool:
        """Whether it may have the root for everybody, and need not know a secret: the user named it, or it announced the root."""
        return peer in self._said_open

    def of(self, report: PeerReport) -> PeerReport:
        """The report with what is known here."""
        source = self._named_by.get(report.peer, report.source)
        return replace(report, source=source, unproved=report.peer in self._unproved, ended=report.peer in self._ended)
