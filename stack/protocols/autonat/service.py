"""AutoNAT on a host: tries addresses of others, and has them try ours. What does the work is loaded when it is needed."""

from typing import TYPE_CHECKING

import anyio

from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import Reach, ip_of, is_relayed, neighbourhood_of, reach_of, unique
from stack.net.failures import ASK_ERRORS
from stack.net.host import Host
from stack.net.our_addresses import AddressSource
from stack.protocols.autonat import DIAL_BACK, DIAL_REQUEST, V1
from stack.protocols.autonat.judge import Judge, Question, Verdict
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor

if TYPE_CHECKING:
    from stack.protocols.autonat.shell.asking import Asking
    from stack.protocols.autonat.shell.server import Server

FIRST_SECONDS = 5.0
"""After the first server is known, unless somebody waits for the answer: a node that begins has other things to do."""
STREAMS_PER_PEER_MAX = 2
"""Of each protocol: the figure of limits.md."""


class AutonatService:
    """Row "autonat" of `SERVICES`. Getters: `verdicts`, `servers`, `is_busy`. Commands: `settle`. A PeerListener."""

    def __init__(self, host: Host, *, serve: bool = True) -> None:
        """`serve`: try addresses for others too."""
        self._host = host
        self._judge = Judge()
        self._asking: Asking | None = None
        self._server: Server | None = None
        self._hurry = anyio.Event()
        self._changed = anyio.Event()
        if serve:
            host.handle(DIAL_REQUEST, self._serve, streams=STREAMS_PER_PEER_MAX)
            host.handle(V1, self._serve_v1, streams=STREAMS_PER_PEER_MAX)
        host.handle(DIAL_BACK, self._knock, streams=STREAMS_PER_PEER_MAX)
        host.listen_to_peers(self)
        host.ours.on_move(self._moved)
        host.on_change(self._wake)
        host.start(self._run, "AutoNAT")

    @property
    def servers(self) -> int:
        """Connected peers outside that could be asked."""
        return self._judge.servers

    def verdicts(self) -> list[Verdict]:
        """Which of the addresses by which others may reach us have been tried, and what came of it."""
        self._judge.candidates_are(self._candidates())
        return self._judge.verdicts(anyio.current_time())

    @property
    def is_busy(self) -> bool:
        """Somebody is being asked, or will be at once."""
        self._judge.candidates_are(self._candidates())
        return self._judge.may_learn(anyio.current_time())

    async def settle(self, *, expecting: bool = False) -> None:
        """Have it found out now, and wait until there is nothing more to find out; `expecting` servers, until there is one."""
        self._hurry.set()
        while self.is_busy or (expecting and not self.servers):
            await self._changed.wait()

    # --- what others want

    async def _serve(self, stream: Stream) -> None:
        await self._loaded().serve(stream)

    async def _serve_v1(self, stream: Stream) -> None:
        await self._loaded().serve_v1(stream)

    def _loaded(self) -> "Server":
        if self._server is None:
            from stack.protocols.autonat.shell.server import Server

            self._server = Server(self._host)
        return self._server

    async def _knock(self, stream: Stream) -> None:
        if self._asking is None:
            stream.reset()  # nothing was asked
        else:
            await self._asking.knock(stream)

    # --- PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener; what it speaks is not known yet."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener. Only who is outside can tell how it looks from there."""
        if DIAL_REQUEST in protocols or V1 in protocols:
            for info in self._host.connections():
                place = neighbourhood_of(info.address)
                outside = reach_of(info.address) is Reach.PUBLIC and not is_relayed(info.address)
                if info.peer == peer and place is not None and outside:
                    self._judge.server_found(peer, place, v2=DIAL_REQUEST in protocols)
        self._wake()

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        self._judge.server_gone(peer)
        self._wake()

    def _moved(self) -> None:
        self._judge.moved()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # --- what we want

    def _candidates(self) -> list[Multiaddr]:
        """Where others may reach us, but perhaps do not: also our ports at the IP that others see, for a router may forward them."""
        from stack.protocols.autonat.guard import may_be_dialled

        ours = self._host.ours
        told = [address for source in AddressSource for address in ours.of(source)]
        guessed = []
        for ip in ours.ips():
            for bound in ours.bound():
                at = ip_of(bound)
                if at is not None and at.version == ip.version:
                    rest = str(bound).split("/", 3)[3]
                    guessed.append(Multiaddr.parse(f"/ip{ip.version}/{ip}/{rest}"))
        return [address for address in unique([*told, *guessed]) if may_be_dialled(address)]

    async def _run(self) -> None:
        while not self._judge.servers:
            await self._changed.wait()
        with anyio.move_on_after(FIRST_SECONDS):
            await self._hurry.wait()
        from stack.protocols.autonat.shell.asking import Asking

        self._asking = Asking(self._host)
        async with anyio.create_task_group() as group:
            tasks = Supervisor(group, self._host.trace)
            while True:
                changed, now = self._changed, anyio.current_time()
                self._judge.candidates_are(self._candidates())
                while (question := self._judge.next_question(now)) is not None:
                    tasks.start(self._ask, self._asking, question, owner="a question of AutoNAT")
                due = self._judge.next_timeout(now)
                with anyio.move_on_after(None if due is None else due - now):
                    await changed.wait()

    async def _ask(self, asking: "Asking", question: Question) -> None:
        said = []
        try:
            said = await asking.ask(question)
        except ASK_ERRORS:
            pass  # as if it would not try
        finally:
            now = anyio.current_time()
            if not said:
                self._judge.failed(question, now)
            for address, word in said:
                self._judge.answered(question, word, now, address)
            self._conclude()
            self._wake()

    def _conclude(self) -> None:
        """What was guessed and is open is one of our addresses from now on."""
        ours = self._host.ours
        known = {address for source in AddressSource for address in ours.of(source)}
        known -= set(ours.of(AddressSource.OBSERVED))
        opened = [verdict.address for verdict in self._judge.verdicts(anyio.current_time()) if verdict.open]
        ours.tell(AddressSource.OBSERVED, [address for address in opened if address not in known])
