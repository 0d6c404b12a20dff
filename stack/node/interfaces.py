"""What the handlers of requests need of a node; `node.node.Node` is the one that is real."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

import anyio

from stack.bitswap.interfaces import Provider
from stack.blocks.interfaces import Block, BlockStore
from stack.files.aside import Aside
from stack.files.fetch import Fetch, Fetcher
from stack.files.jobs import Jobs
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.node.access import Access
from stack.node.config import Config
from stack.node.outside import Outside
from stack.node.patience import PatientSession
from stack.node.shares import Shares
from stack.node.traffic import Traffic
from stack.protocols.code.service import CodeService
from stack.protocols.providers.interfaces import RangeBook
from stack.streams.supervision import Supervisor
from stack.values import dataclass

if TYPE_CHECKING:  # what many nodes run without is not loaded for its name
    from stack.discovery.service import Discovery
    from stack.gossipsub.shell.service import PubSub
    from stack.node.announcing import Announcing
    from stack.security.pnet.shell import PrivateNetwork


@dataclass(slots=True)
class RunningFetch:
    """A fetch of this process that is a job."""

    fetch: Fetch
    scope: anyio.CancelScope
    ended: anyio.Event
    stopped: str = ""
    """Why somebody else ended it, in words for who follows it."""

    async def stop(self, why: str) -> None:
        """End it, and return when it has ended."""
        self.stopped = why
        self.scope.cancel()
        await self.ended.wait()


class Handled(Protocol):
    """A node as its handlers see it; each part is described there, and at its own class."""

    config: Config
    host: Host
    store: BlockStore
    jobs: Jobs
    fetcher: Fetcher
    book: RangeBook
    sharing: Shares
    receivers: Callable[[Cid], dict[PeerId, float]]
    access: Access
    codes: CodeService
    outside: Outside
    traffic: Traffic
    tasks: Supervisor
    aside: Aside
    notices: tuple[str, ...]
    private: "PrivateNetwork | None"
    discovery: "Discovery | None"
    running: dict[int, RunningFetch]
    reading: list[PatientSession]

    @property
    def peer_id(self) -> PeerId: ...
    @property
    def pubsub(self) -> "PubSub": ...
    @property
    def announces(self) -> bool: ...
    @property
    def announcing(self) -> "Announcing": ...
    def addresses(self) -> tuple[Multiaddr, ...]: ...
    @property
    def ask_name(self) -> Callable[[Cid, PeerId, bytes], Awaitable[str]]: ...
    def ticket(self, root: Cid, name: str, size: int) -> str: ...
    async def end_announcing(self, root: Cid) -> bool: ...
    async def end_share(self, root: Cid, owner: str) -> bool: ...
    async def put(self, blocks: Sequence[Block]) -> None: ...
    def patient_session(
        self,
        root: Cid,
        providers: Sequence[Provider] = (),
        timeout: float | None = None,
        *,
        public: bool = True,
        secret: bytes = b"",
    ) -> AbstractAsyncContextManager[PatientSession]: ...
