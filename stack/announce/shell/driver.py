"""Carries out what the machine wants: streams, topics, dials, what is saved."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from stack.announce.clocks import ADVICE as CLOCK_ADVICE
from stack.announce.events import (
    Ask,
    AskId,
    ClockWrong,
    Connect,
    FetchKeys,
    Found,
    InterestEnded,
    InterestId,
    Judgement,
    KeepKeys,
    ListsNamed,
    LookupId,
    Publish,
    Push,
    RoundEnded,
    Save,
    StopAsking,
    Subscribe,
    Unsubscribe,
)
from stack.announce.interfaces import AnnouncementStore, KeyLists
from stack.announce.machine import AnnounceMachine
from stack.announce.messages import PROTOCOL, Kind, Response
from stack.announce.records import addresses_to_tell
from stack.announce.rules import TOPIC_RULES
from stack.announce.shell.line import Line
from stack.announce.shell.questions import Finding, Served, ask, receive_request, send
from stack.errors import StackError
from stack.gossipsub.events import Verdict
from stack.gossipsub.messages import Message
from stack.gossipsub.shell.service import PubSub
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import neighbourhood_of
from stack.net.failures import ASK_ERRORS
from stack.net.interfaces import Host
from stack.streams.interfaces import Stream
from stack.streams.supervision import Supervisor
from stack.streams.turns import Turn

_log = logging.getLogger(__name__)

ADDRESSES_SECONDS = 2.0
"""Between two looks at where we can be dialled."""
DIAL_SECONDS = 30.0
LIST_SECONDS = 60.0
"""For a block of further keys."""
SAVE_AGAIN_SECONDS = 30.0
"""After our announcements could not be saved: a disk that was full may have room again."""
ASKS_MAX = 64
"""Questions of ours under way; more wait."""
PUBLISHING_MAX = 1024
"""Records that wait to be published; more are dropped: tables are compared every few minutes."""
STREAMS_PER_PEER_MAX = 64
"""Streams of one peer: sixteen with an interest, and as many as a node opens that hands in its records."""

_VERDICTS = {
    Judgement.ACCEPT: Verdict.ACCEPT,
    Judgement.REJECT: Verdict.REJECT,
    Judgement.IGNORE: Verdict.IGNORE,
}


class Driver:
    """Commands: `start`, `pump`, `look_at_addresses`, `follow`, `save_now`, `serve` (a StreamHandler). A PeerListener. Its tasks are
    the owner's."""

    def __init__(
        self,
        host: Host,
        pubsub: PubSub,
        machine: AnnounceMachine,
        tasks: Supervisor,
        wall_clock: Callable[[], float],
        store: AnnouncementStore | None,
        lists: KeyLists | None,
    ) -> None:
        self._host = host
        self._pubsub = pubsub
        self._machine = machine
        self._tasks = tasks
        self._wall = wall_clock
        self._store = store
        self._lists = lists
        self._keeping = anyio.Lock()
        self._asks: dict[AskId, anyio.CancelScope] = {}
        self._asking = anyio.CapacityLimiter(ASKS_MAX)
        self._topics: dict[str, anyio.CancelScope] = {}
        self._served: dict[InterestId, Served] = {}
        self._streams: dict[PeerId, int] = {}
        self._line = Line(anyio.current_time())
        self._findings: WeakValueDictionary[LookupId, Finding[object]] = WeakValueDictionary()
        self._members: set[PeerId] = set()
        self._publishing: deque[Publish] = deque()
        self._publish = anyio.Event()
        self._save = anyio.Event()
        self._unsaved = False
        self._save_fault = ""
        """What was told last."""
        self._changed = anyio.Event()

    def woken(self, seconds: float) -> None:
        """The machine has slept, or its clock was set: whatever is due by now is done."""
        self._machine.handle_timeout(*self.now())
        self.pump()

    def start(self) -> None:
        """Begin all tasks that go on."""
        for duty in (self._run_timer, self._run_publisher, self._run_saver, self._watch_addresses):
            self._tasks.keep(duty, owner=f"announcements: {duty.__name__}")

    def now(self) -> tuple[float, float]:
        """Monotonic and wall-clock seconds."""
        return anyio.current_time(), self._wall()

    def follow(self, lookup: LookupId, finding: Finding[object]) -> None:
        """Tell `finding` of a lookup as long as somebody holds it."""
        self._findings[lookup] = finding

    def look_at_addresses(self) -> None:
        """Tell the machine where we can be dialled."""
        self._machine.addresses_changed(addresses_to_tell(self._host.addresses()), anyio.current_time())

    def pump(self) -> None:
        """Do what the machine wants done."""
        while (effect := self._machine.next_effect()) is not None:
            match effect:
                case Ask():
                    scope = self._asks[effect.id] = anyio.CancelScope()
                    self._tasks.start(self._ask, effect, scope, owner="a question about announcements")
                case StopAsking(id=ask_id):
                    if ask_id in self._asks:
                        self._asks.pop(ask_id).cancel()
                case Connect():
                    gone = partial(self._machine.dial_failed, effect.peer)
                    self._tasks.start(
                        self._connect, effect.peer, effect.addresses, owner="a dial for announcements", failed=gone
                    )
                case Subscribe(topic=topic):
                    scope = self._topics[topic] = anyio.CancelScope()
                    self._tasks.start(self._stay_in, topic, scope, owner="a topic of announcements")
                case Unsubscribe(topic=topic):
                    self._topics.pop(topic).cancel()
                case Publish():
                    if len(self._publishing) < PUBLISHING_MAX:
                        self._publishing.append(effect)
                        self._publish.set()
                case Found() | RoundEnded():
                    self._tell(effect)
                case Push(interest=interest, data=data):
                    if interest in self._served:
                        self._served[interest].push(data)
                case InterestEnded(interest=interest):
                    if interest in self._served:
                        self._served.pop(interest).end()
                case FetchKeys():
                    self._tasks.start(self._fetch_keys, effect, owner="fetching announced keys")
                case KeepKeys() | ListsNamed():
                    self._tasks.start(self._keep_keys, effect, owner="keeping announced keys")
                case Save():
                    self._unsaved = True
                    self._save.set()
                case ClockWrong(opinion=opinion):
                    _log.warning("%s: %s", opinion, CLOCK_ADVICE)
        self._changed.set()

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener; what it speaks is not known yet."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""
        if PROTOCOL in protocols and peer not in self._members:
            self._members.add(peer)
            places = (info.address for info in self._host.connections() if info.peer == peer)
            group = next((neighbourhood_of(address) for address in places), None)
            self._machine.peer_connected(peer, group, *self.now())
            self.pump()

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        if peer in self._members:
            self._members.remove(peer)
            self._machine.peer_disconnected(peer)
            self.pump()

    # What others ask

    async def serve(self, stream: Stream) -> None:
        """One question, its answer, and what follows while an interest is kept."""
        peer = stream.remote_peer
        if self._streams.get(peer, 0) >= STREAMS_PER_PEER_MAX:
            stream.reset()
            return
        self._streams[peer] = self._streams.get(peer, 0) + 1
        interest: InterestId | None = None
        try:
            request = await receive_request(stream, self._host.peer_budget(peer))
            async with self._line.turn(peer) as work:
                response, interest = self._machine.receive_request(peer, request, *self.now())
                work.answer_bytes = sum(map(len, response.records))
                served = Served()
                if interest is not None:
                    self._served[interest] = served
                self.pump()
            await send(stream, response)
            if interest is not None:
                await served.run(stream)
            await stream.send_eof()
        except ASK_ERRORS:
            stream.reset()
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]
            if interest is not None:
                self._served.pop(interest, None)
                self._machine.interest_dropped(interest)

    # What we ask

    async def _ask(self, effect: Ask, scope: anyio.CancelScope) -> None:
        ready: list[bytes] = []

        def forget() -> None:
            for data in ready:
                self._machine.unprepare(data)
            ready.clear()

        def answered(response: Response | None, first: bool) -> None:
            if first:
                self._machine.answered(effect.id, effect.peer, response, *self.now())
                forget()
            elif response is not None:
                self._machine.pushed(effect.id, effect.peer, response, self._wall())
            self.pump()

        async def prepared(response: Response) -> Response:
            turn = Turn()
            if effect.request.kind is Kind.PAGE:
                for data in response.records:
                    self._machine.page_record(effect.id, data, self._wall())
                    await turn.give_way()
                return replace(response, records=())
            bad: list[bytes] = []
            for data in response.records:
                (ready if self._machine.prepare(data, effect.peer) else bad).append(data)
                await turn.give_way()
            # One that is bad is enough to know what to think of who told it.
            return replace(response, records=(*ready, *bad[:1]))

        try:
            with scope:
                # One that waits for more has no part in the bound: those are as many as there are lookups.
                await ask(self._host, effect, prepared, answered, self._asking)
        finally:
            self._asks.pop(effect.id, None)
            forget()

    async def _connect(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        try:
            with anyio.fail_after(DIAL_SECONDS):
                await self._host.connect(peer, addresses)
        except (StackError, TimeoutError):
            self._machine.dial_failed(peer)
            self.pump()

    async def _fetch_keys(self, effect: FetchKeys) -> None:
        data = None
        try:
            if self._lists is not None:
                with anyio.move_on_after(LIST_SECONDS):
                    data = await self._lists.get(effect.cid, effect.record.author, effect.record.addresses)
        except StackError as error:
            _log.debug("cannot fetch keys of %s: %s", effect.record.author, error)
        finally:
            self._machine.keys_fetched(effect.record, data)
            self.pump()

    async def _keep_keys(self, effect: KeepKeys | ListsNamed) -> None:
        if self._lists is None:
            return
        try:
            # One after the other: what is named last stays.
            async with self._keeping:
                if isinstance(effect, KeepKeys):
                    await self._lists.put(effect.cid, effect.data)
                else:
                    await self._lists.retain(effect.cids)
        except StackError as error:
            _log.warning("cannot keep a list of announced keys: %s", error)

    def _tell(self, effect: Found | RoundEnded) -> None:
        finding = self._findings.get(effect.lookup)
        if finding is None:
            self._machine.stop(effect.lookup)
        elif isinstance(effect, Found):
            finding.put(effect)
        else:
            finding.round_ended(effect.answers)

    # Gossip

    async def _stay_in(self, topic: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with anyio.create_task_group() as group:
                tasks = Supervisor(group, self._host.trace)
                tasks.keep(self._take_part, topic, scope, owner="a topic of announcements")

    async def _take_part(self, topic: str, scope: anyio.CancelScope) -> None:
        self._pubsub.set_rules(topic, TOPIC_RULES)
        self._pubsub.set_validator(topic, self._judge)
        try:
            async with self._pubsub.subscribe(topic) as messages:
                # All was said when they were judged.
                async for _ in messages:
                    pass
        finally:
            if self._topics.get(topic) in (None, scope):
                self._pubsub.set_validator(topic, None)

    def _judge(self, peer: PeerId, message: Message) -> Verdict:
        judgement = self._machine.receive_gossip(message.topic, message.data or b"", peer, *self.now())
        self.pump()
        return _VERDICTS[judgement]

    async def _run_publisher(self) -> None:
        while True:
            while not self._publishing:
                self._publish = anyio.Event()
                await self._publish.wait()
            effect = self._publishing.popleft()
            await self._pubsub.publish(effect.topic, effect.data)

    # Time

    async def _run_timer(self) -> None:
        while True:
            self._changed = anyio.Event()
            with anyio.CancelScope(deadline=self._machine.next_timeout()):
                await self._changed.wait()
                continue
            self._machine.handle_timeout(*self.now())
            self.pump()

    async def _watch_addresses(self) -> None:
        while True:
            self.look_at_addresses()
            self.pump()
            await anyio.sleep(ADDRESSES_SECONDS)

    # Over a restart

    async def _run_saver(self) -> None:
        while True:
            await self._save.wait()
            self._save = anyio.Event()
            await self.save_now()
            if self._unsaved:
                await anyio.sleep(SAVE_AGAIN_SECONDS)
                self._save.set()

    async def save_now(self) -> None:
        """Keep our announcements, if they have changed."""
        if self._store is None or not self._unsaved:
            return
        self._unsaved = False
        try:
            await anyio.to_thread.run_sync(self._store.save, self._machine.saved())
        except Exception as error:  # noqa: BLE001 - a disk that is full, or no thread to be had: it is still to be kept
            self._unsaved = True
            if str(error) != self._save_fault:
                _log.warning("cannot keep our announcements for a restart, which is tried again: %s", error)
            self._save_fault = str(error)
        except BaseException:
            self._unsaved = True
            raise
        else:
            self._save_fault = ""
