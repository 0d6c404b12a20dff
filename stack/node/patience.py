"""A session with a time limit for each block, for requests that read rather than fetch files."""

from collections.abc import Sequence

import anyio

from stack.bitswap.interfaces import BlockSink, PeerReport, Provider, Session
from stack.errors import NoProvider, Stalled
from stack.multiformats.cid import Cid

FIRST_PROVIDER_SECONDS = 30.0
"""Design: so long a command looks for a first provider before it says that nobody was found."""


class PatientSession:
    """Wraps a session: `get` gives up after `timeout` seconds, or after 30 s when nobody has ever delivered."""

    def __init__(self, session: Session, timeout: float | None) -> None:
        self._session = session
        self._timeout = timeout
        self._delivered = False

    def add_provider(self, provider: Provider) -> None:
        """See Session."""
        self._session.add_provider(provider)

    async def get(self, cid: Cid) -> bytes:
        """See Session. Raises NoProvider when nobody was found who has it, Stalled when they ceased to deliver."""
        limit = self._timeout if self._timeout is not None else None if self._delivered else FIRST_PROVIDER_SECONDS
        with anyio.move_on_after(limit):
            block = await self._session.get(cid)
            self._delivered = True
            return block
        if self._delivered:
            raise Stalled(f"nothing came for {limit:g} s, {cid} is missing")
        raise NoProvider(f"nobody was found within {limit:g} s who has {cid}")

    async def fetch(
        self, cids: Sequence[Cid], sink: BlockSink | None = None, *, leaves: Sequence[int] | None = None
    ) -> None:
        """See Session; without a time limit of its own."""
        await self._session.fetch(cids, sink, leaves=leaves)

    def reports(self) -> list[PeerReport]:
        """See Session."""
        return self._session.reports()
