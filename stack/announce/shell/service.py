"""The announcement layer on a host: tell what we have, find who has what. See docs/announce.md."""

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import anyio
import anyio.to_thread

from stack.announce.clocks import ClockOpinion
from stack.announce.events import Found, LookupId
from stack.announce.interfaces import AnnouncementStore, FoundName, KeyLists, KnownProvider
from stack.announce.keyspace import announce_key, ticket_key, word_keys_of
from stack.announce.machine import AnnounceMachine
from stack.announce.messages import PROTOCOL
from stack.announce.own import Announcement
from stack.announce.params import AnnounceParams
from stack.announce.records import RecordReader
from stack.announce.shell.driver import STREAMS_PER_PEER_MAX, Driver
from stack.announce.shell.questions import Finding
from stack.bitswap.interfaces import Provider
from stack.gossipsub.shell.service import PubSub
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.net.interfaces import Host
from stack.sansio.budget import Scope
from stack.sansio.interfaces import Randomness
from stack.streams.supervision import supervised
from stack.trace import Trace

T = TypeVar("T")

SAVE_SECONDS = 5.0
"""For the last write when closing."""


class Announcements:
    """Made by `Announcements.open`, a context that owns all its tasks; a `ProviderSource` of bitswap. All calls are of the event
    loop's thread."""

    def __init__(self, machine: AnnounceMachine, driver: Driver, wall_clock: Callable[[], float]) -> None:
        self._machine = machine
        self._driver = driver
        self._wall = wall_clock

    def __repr__(self) -> str:
        return f"<Announcements {self._machine!r}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        host: Host,
        pubsub: PubSub,
        key: PrivateKey,
        *,
        scope: Scope | None = None,
        rng: Randomness | None = None,
        params: AnnounceParams | None = None,
        store: AnnouncementStore | None = None,
        lists: KeyLists | None = None,
        is_member: bool = True,
        trace: Trace | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> AsyncIterator["Announcements"]:
        """Take part until the context is left. What `store` has kept is announced again.

        `is_member` False: keep nothing for others, as for a command that is soon over. `scope` bounds the table, the
        host's budget without it. Raises DecodeError when what was kept makes no sense, and what `store.load` raises.
        """
        machine = AnnounceMachine(
            key,
            random=rng if rng is not None else random.SystemRandom(),
            now=anyio.current_time(),
            budget=scope if scope is not None else host.budget,
            params=params,
            reader=RecordReader(),
            is_member=is_member,
            trace=trace if trace is not None else host.trace,
        )
        saved = await anyio.to_thread.run_sync(store.load) if store is not None else None
        if saved is not None:
            machine.load(saved, anyio.current_time())
        async with supervised(host.trace) as tasks:
            driver = Driver(host, pubsub, machine, tasks, wall_clock, store, lists)
            driver.start()
            if is_member:
                host.handle(PROTOCOL, driver.serve, streams=STREAMS_PER_PEER_MAX)
            stop_listening = host.listen_to_peers(driver)
            stop_waking = host.on_wake(driver.woken)
            try:
                yield cls(machine, driver, wall_clock)
            finally:
                stop_listening()
                stop_waking()
                if is_member:
                    host.unhandle(PROTOCOL)
                tasks.cancel()
                machine.close()
                with anyio.move_on_after(SAVE_SECONDS, shield=True):
                    await driver.save_now()

    # What we have

    def announce(self, root: Cid, *, public_name: str | None = None, size: int = 0) -> None:
        """Tell who knows `root` that we have it; with a name, let anybody find it by its words. Survives a restart.

        Raises LocalProtocolError on a name of no word or over 255 bytes.
        """
        self._driver.look_at_addresses()
        self._machine.announce(Announcement(root=root, name=public_name, size=size), anyio.current_time())
        self._driver.pump()

    def withdraw(self, root: Cid) -> bool:
        """Take it back; False when it was not announced."""
        withdrawn = self._machine.withdraw(root, anyio.current_time())
        self._driver.pump()
        return withdrawn

    def set_directory(self, root: Cid | None) -> None:
        """The UnixFS directory of all our public names, for who wants to browse it."""
        self._machine.set_directory(root, anyio.current_time())
        self._driver.pump()

    def keep(self, keys: Iterable[bytes]) -> None:
        """Tell these keys too, in place of those of the last call, until the context is left: of what is here for who has its ticket."""
        self._driver.look_at_addresses()
        self._machine.set_kept(keys, anyio.current_time())
        self._driver.pump()

    def mine(self) -> tuple[Announcement, ...]:
        """What we announce."""
        return self._machine.items

    @property
    def directory(self) -> Cid | None:
        """The UnixFS directory of all our public names."""
        return self._machine.directory

    @property
    def waiting(self) -> int:
        """Records of ours that nobody has taken yet: 0 means that we can be found."""
        return self._machine.waiting

    @property
    def clock(self) -> ClockOpinion | None:
        """What others make of our clock; None: nobody has told the time."""
        return self._machine.clock

    # What others have

    def find_providers(self, root: Cid, secret: bytes = b"") -> Finding[Provider]:
        """See ProviderSource: goes on until it is closed or dropped."""
        open = self._machine.find(announce_key(root.multihash), *self._driver.now())
        closed = self._machine.find(ticket_key(secret, root.multihash), *self._driver.now()) if secret else None

        def provider(found: Found) -> list[Provider]:
            source = "announced" if found.lookup == open else "ticket holder"
            return [Provider(found.record.author, found.record.addresses, source)]

        return self._look([open] if closed is None else [closed, open], provider, goes_on=True)

    def known_providers(self, root: Cid) -> Finding[KnownProvider]:
        """Who says that it has it, by whom we know that, and since when; ends when those have answered who keep the key. As
        long as nobody has, it goes on trying."""

        def known(found: Found) -> list[KnownProvider]:
            record = found.record
            age = max(self._wall() - record.issued, 0.0)
            return [KnownProvider(peer=record.author, addresses=record.addresses, told_by=found.source, age=age)]

        return self._look([self._machine.find(announce_key(root.multihash), *self._driver.now())], known, goes_on=False)

    def search(self, words: str) -> Finding[FoundName]:
        """What has all these words in its public name; ends as `known_providers` does. Raises LocalProtocolError on no word."""
        wanted = word_keys_of(words)

        def names(found: Found) -> list[FoundName]:
            record = found.record
            age = max(self._wall() - record.issued, 0.0)
            return [
                FoundName(
                    name=name.name,
                    size=name.size,
                    cid=name.cid,
                    author=record.author,
                    addresses=record.addresses,
                    age=age,
                    directory=record.directory,
                )
                for name, keys in zip(record.names, record.words, strict=True)
                if wanted <= keys
            ]

        return self._look([self._machine.search(words, *self._driver.now())], names, goes_on=False)

    def delivered(self, peer: PeerId) -> None:
        """A provider had what it announced: it is named before strangers from now on."""
        self._machine.delivered(peer)

    def failed(self, peer: PeerId) -> None:
        """A provider could not be reached, or had not what it announced."""
        self._machine.failed(peer)

    @property
    def is_loaded(self) -> bool:
        """We know what there is to know of our part of the keys."""
        return self._machine.loaded

    def _look(self, ids: Sequence[LookupId], convert: Callable[[Found], list[T]], *, goes_on: bool) -> Finding[T]:
        def close() -> None:
            for id in ids:
                self._machine.stop(id)
            self._driver.pump()

        finding = Finding(convert, close, goes_on=goes_on)
        for id in ids:
            self._driver.follow(id, cast(Finding[object], finding))
        self._driver.pump()
        return finding
