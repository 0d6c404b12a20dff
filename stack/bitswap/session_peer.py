"""One peer as one session sees it: how fast, how trustworthy, what it has, what it owes. Pure."""

from enum import Enum

from stack.bitswap.interfaces import PeerReport
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.protocols.providers.ranges import LeafRanges
from stack.values import dataclass

MIB = 1024 * 1024

SPARING_PART = 0.5
"""Of a full peer's rate; what peers with parts must bring together so that it is spared."""

TOGETHER_SECONDS = 2.0
"""Of a limited download's rate: what is asked for ahead. More than any round trip, less than anybody's patience."""

SAMPLE_SECONDS = 0.2
"""A rate is measured over this long: blocks come in lumps of a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParameters:
    """Figures of a session. Times in seconds, sizes in bytes."""

    window_min: int = 4 * MIB
    """Least a peer is asked for ahead: 16 blocks of 256 KiB hide 40 ms at 100 MiB/s."""
    window_first: int = 512 * 1024
    """Most a peer is asked for before its first block has come: what one that never sends keeps from the others."""
    window_together: int = 16 * MIB
    """Least that all peers together are asked for ahead. Measured on two cores with one provider: 4 MiB gives 160 MiB/s, 16 MiB
    210, 32 MiB no more; event loops and disks stop for longer than any round trip."""
    window_max: int = 32 * MIB
    """Most: 1 Gbit/s over 250 ms. What arrives is bounded by receive buffers, not by this."""
    together_max: int = 64 * 32 * MIB
    """Most that all peers together are asked for ahead; a limited download asks for little, so that what it asks for comes
    before its senders give up. At least one want is asked for."""
    wants_max: int = 512
    """Most wants at one peer: half of what a server keeps, so that two sessions fit (A46)."""
    size_guess: int = 256 * 1024
    """Size of a block before any has been seen: Kubo's default leaf."""
    probes: int = 64
    """Wants for which a peer with unknown parts is asked for HAVE at a time."""
    look_ahead: int = 1024
    """Wants among which the order is free. More spreads better between receivers, and leaves more holes in a file."""
    stall_min: float = 2.0
    stall_max: float = 4.5
    """A peer that owes blocks and sends nothing for this long (20 times its delay, between the two) has stalled: others
    take over. The bound to keep is 5 s a stalled provider."""
    queue_max: float = 10.0
    """Seconds of its own rate a peer is asked for ahead at most: a slow one may not sit on 4 MiB that others could bring."""
    queue_parts: float = 2.0
    """The same of a peer that has parts: it is asked for what others will have soon too, and then whoever is free brings it."""
    overdue_min: float = 10.0
    overdue_max: float = 30.0
    """A single want that a lively peer does not answer for 3 times what its queue should take, between the two, is moved."""
    overdue_slow: float = 300.0
    """The later one while a block is on its way from it: 1 MiB from one of eight receivers of 32 KiB/s takes so long."""
    rest_min: float = 0.25
    rest_max: float = 30.0
    """A peer that is of no use is tried again with one want after a rest that doubles between these."""
    retry: float = 5.0
    """How often wants that every peer refused are offered to all again."""
    misses: int = 8
    """So many DONT_HAVE in a row, with no block between them, and a peer loses its rank."""
    endgame_step: float = 0.1
    """How often duplicates are considered once nothing is left to ask for."""
    endgame_least: float = 0.2
    """A want is asked for a second time only when its peer will take this long or longer."""
    time_guess: float = 0.25
    """How long a peer of unknown speed is reckoned to take for a block."""
    peers_max: int = 64
    """Providers that are connected at a time; the swarm protocol names 20 at a time. Who was of no use does not count."""
    dials: int = 8
    dials_starved: int = 32
    dial_patience: float = 1.0
    """Connection attempts at a time, and of peers not tried yet while nobody brings anything. Who takes longer than the last to
    answer no longer counts: where nobody answers, 5 s of TCP are then 160 attempts of the 256 that a host makes at a time."""
    broadcast_peers: int = 32
    broadcast_wants: int = 4
    """To whom, and for how many wants, WANT_HAVE is sent while no provider is known."""

    @classmethod
    def limited(cls, rate: int) -> "SessionParameters":
        """For a download of at most `rate` bytes a second."""
        return cls(together_max=max(int(rate * TOGETHER_SECONDS), 1))


class PeerState(Enum):
    """`KNOWN`: not connected. `DIALLING`: being connected. `READY`: can be asked. `DROPPED`: never asked again."""

    KNOWN = "known"
    DIALLING = "dialling"
    READY = "ready"
    DROPPED = "dropped"


class SessionWant:
    """A block the session still needs."""

    __slots__ = (
        "askers",
        "cid",
        "denied",
        "done",
        "failures",
        "holders",
        "lacks",
        "leaf",
        "multihash",
        "open",
        "rank",
        "rarity",
        "told",
    )

    def __init__(self, cid: Cid, leaf: int | None, rank: float) -> None:
        self.cid = cid
        self.multihash = cid.multihash
        self.leaf = leaf
        """Its number among the leaves of the root, where the caller knows it."""
        self.rank = rank
        """Lower is asked for earlier."""
        self.rarity = 0
        self.open = False
        """In the pool: nobody is being asked."""
        self.done = False
        self.askers: set[SessionPeer] = set()
        """Peers that owe it."""
        self.told: dict[SessionPeer, None] = {}
        """Peers on whose wantlist it stands, also those that said DONT_HAVE or stalled."""
        self.lacks: set[SessionPeer] = set()
        self.failures = 0
        """How many times somebody who owed it has not brought it."""
        self.holders: set[SessionPeer] = set()
        self.denied: frozenset[SessionPeer] = frozenset()
        """Peers that said DONT_HAVE, and nothing else since."""


class SessionPeer:
    """What a session knows of a peer, and what it has asked."""

    __slots__ = (
        "_measured",
        "_pace",
        "_sample_bytes",
        "_sample_start",
        "arriving",
        "blocks",
        "bytes",
        "creeps",
        "delay",
        "dropped",
        "duplicate_bytes",
        "full",
        "misses",
        "outstanding",
        "outstanding_bytes",
        "parameters",
        "peer",
        "probed",
        "probes",
        "progress_at",
        "ranges",
        "rate",
        "rest",
        "rest_until",
        "searched",
        "stalled",
        "state",
        "window",
        "wrong_blocks",
    )

    def __init__(self, peer: PeerId, parameters: SessionParameters, *, full: bool) -> None:
        self.peer = peer
        self.parameters = parameters
        self.state = PeerState.KNOWN
        self.full = full
        """Presumed to have everything until it says otherwise."""
        self.ranges: LeafRanges | None = None
        self.outstanding: dict[SessionWant, tuple[float, int]] = {}
        """What it owes, oldest first: since when, and the size reckoned with."""
        self.outstanding_bytes = 0
        self.window = parameters.window_min
        self.rate: float | None = None
        self.delay: float | None = None
        self.progress_at = 0.0
        self.misses = 0
        self.stalled = False
        self.rest = 0.0
        self.rest_until = 0.0
        """Left alone until then; of one that is being dialled: until when it counts as such."""
        self.probes: set[SessionWant] = set()
        """Wants for which it has been asked for HAVE, whatever it has said."""
        self.probed = -1
        """Version of the pool in which nothing was left to probe."""
        self.searched = -1
        """Version of the pool in which nothing was found for this peer."""
        self.arriving = 0
        """Bytes of messages that are not whole yet."""
        self.creeps = False
        """Its last block came slowly, and was seen to come."""
        self.blocks = 0
        self.bytes = 0
        self.duplicate_bytes = 0
        self.wrong_blocks = 0
        self.dropped: str | None = None
        self._sample_bytes = 0
        self._sample_start = 0.0
        self._measured = False
        self._pace: float | None = None
        """Bytes a second while a block is on its way; of a slow peer known long before the block is here."""

    def __repr__(self) -> str:
        return f"<SessionPeer {self.peer} {self.state.value}, owes {len(self.outstanding)}>"

    @property
    def poor(self) -> bool:
        """Stalled, or refused too often: asked for one want at a time, with rests, after all others."""
        return self.stalled or self.misses >= self.parameters.misses

    @property
    def useless(self) -> bool:
        """It has been tried, and has brought nothing."""
        return self.rest > 0 and not self.blocks

    @property
    def hopeful(self) -> bool:
        """It may still turn out to have something: not everything it was tried for has failed."""
        return self.state is not PeerState.DROPPED and not self.rest and (self.blocks > 0 or not self.misses)

    def may_have(self, want: SessionWant) -> bool:
        """Whether it is worth asking."""
        if self in want.lacks:
            return False
        if self.ranges is not None and want.leaf is not None:
            return want.leaf in self.ranges
        return self.full or self in want.holders

    def may_be_spared(self, parts_rate: float) -> bool:
        """Whether a peer that has everything need bring only what nobody else has: those who have parts are fast enough.

        So a sharer sends little more than one copy to a swarm that trades, and still brings what is rare.
        """
        return self.full and self.rate is not None and parts_rate >= SPARING_PART * self.rate

    def room(self, now: float, least: int = 0) -> tuple[int, int]:
        """(bytes, wants) that may be asked for now; (0, 0) until a quarter of the window is free, so that wants go in batches."""
        if self.poor:
            return (1, 1) if not self.outstanding and now >= self.rest_until else (0, 0)
        window = max(self.window, least)
        if not self.blocks:
            window = min(window, self.parameters.window_first)
        if self.rate:
            queue = self.parameters.queue_max if self.full else self.parameters.queue_parts
            window = min(window, max(int(self.rate * queue), 1))
        free = window - self.outstanding_bytes
        count = self.parameters.wants_max - len(self.outstanding)
        if self.outstanding and (4 * free < window or 4 * count < self.parameters.wants_max):
            return 0, 0
        return free, count

    def ask(self, want: SessionWant, size: int, now: float) -> None:
        """It owes this from now on."""
        if not self.outstanding:
            # Time in which it owed nothing does not count for its rate.
            self._sample_start += now - max(self.progress_at, self._sample_start)
            self.progress_at = now
            self.arriving = 0
        self.outstanding[want] = (now, size)
        self.outstanding_bytes += size
        want.askers.add(self)
        want.told[self] = None

    def release(self, want: SessionWant) -> float | None:
        """It owes this no more; returns since when it did, None if it did not."""
        entry = self.outstanding.pop(want, None)
        if entry is None:
            return None
        self.outstanding_bytes -= entry[1]
        want.askers.discard(self)
        return entry[0]

    def forget_probes(self) -> None:
        """The connection is gone, and with it what it was asked."""
        for want in self.probes:
            want.told.pop(self, None)
        self.probes.clear()
        self.probed = -1
        self.arriving = 0

    def progress(self, now: float, arrived: int = 0) -> None:
        """Something came from it, `arrived` bytes of it part of a message that is not whole yet."""
        self.progress_at = now
        self.stalled = False
        self.arriving += arrived
        elapsed = now - self._sample_start
        if arrived and elapsed >= SAMPLE_SECONDS:
            self._pace = (self._sample_bytes + self.arriving) / elapsed

    def overtaken(self, now: float) -> None:
        """Another, asked after it, has brought what it owes: until it brings something itself it is asked for one want at a time.

        Of one that has brought blocks it may have been a hiccup: its rest does not grow, however much it owed."""
        self.misses = max(self.misses, self.parameters.misses)
        if self.blocks:
            self.rest_until = now + self.parameters.rest_min
        elif now >= self.rest_until:
            self.take_rest(now)

    def take_rest(self, now: float) -> None:
        """Leave it alone for a while, twice as long as the last time."""
        self.rest = min(max(2 * self.rest, self.parameters.rest_min), self.parameters.rest_max)
        self.rest_until = now + self.rest

    def count_block(self, size: int, asked_at: float | None, now: float) -> None:
        """A block that was wanted came; adapt rate, delay and window."""
        self.blocks += 1
        self.bytes += size
        self.misses = 0
        self.rest = self.rest_until = 0.0
        self.count_arrived(size)
        self.progress(now)
        self._sample_bytes += size
        if asked_at is not None:
            delay = max(now - asked_at, 1e-4)
            # The least ever seen: what is above it is our own queue at the peer.
            self.delay = delay if self.delay is None else min(self.delay, delay)
        elapsed = max(now - self._sample_start, 1e-4)
        sample = self._sample_bytes / elapsed
        if elapsed < SAMPLE_SECONDS:
            if not self._measured:
                self.rate = sample
            return
        self.rate = 0.6 * self.rate + 0.4 * sample if self._measured and self.rate is not None else sample
        self._measured = True
        self._sample_bytes = 0
        self._sample_start = now
        # Twice bandwidth times delay: a window that was the limit doubles until it is none.
        wish = int(2 * max(self.rate, sample) * (self.delay or 0.0))
        self.window = min(max(wish, self.parameters.window_min), self.parameters.window_max)

    def count_arrived(self, size: int) -> None:
        """A whole block is here, wanted or not: it is no longer arriving."""
        self.creeps = self._pace is not None and size > self._pace * self.parameters.stall_min
        self.arriving = max(self.arriving - size, 0)
        self._pace = None

    @property
    def speed(self) -> float | None:
        """Bytes a second as far as is known: the rate of what came, or of what is coming where that is slower."""
        if self._pace is None:
            return self.rate
        return min(self.rate, self._pace) if self.rate else self._pace

    def stall_at(self) -> float:
        """When it will have stalled if nothing comes from it."""
        patience = 20 * self.delay if self.delay is not None else self.parameters.stall_max
        return self.progress_at + min(max(patience, self.parameters.stall_min), self.parameters.stall_max)

    def overdue_at(self, asked_at: float) -> float:
        """When a want asked then is to be moved although the peer is lively."""
        speed, most = self.speed, self.parameters.overdue_max
        if self.arriving or self.creeps:
            # Its next block is coming before our eyes, however slowly: asking another for it would bring it twice.
            most = self.parameters.overdue_slow
        queue = 3 * self.outstanding_bytes / speed if speed else 0.0
        return asked_at + min(max(queue, self.parameters.overdue_min), most)

    def time_for(self, extra: int) -> float:
        """Seconds until it has sent all it owes and `extra` bytes more; a guess while its rate is unknown."""
        if not self.rate:
            return self.parameters.time_guess
        return (self.delay or 0.0) + (self.outstanding_bytes + extra) / self.rate

    def time_left(self, want: SessionWant, now: float) -> float:
        """Seconds until it sends a want it owes; one that has been silent for long is expected to be so as long again."""
        silent = now - max(self.progress_at, self.outstanding[want][0])
        speed = self.speed
        return max(silent, max(self.outstanding_bytes - self.arriving, 0) / speed if speed else 0.0)

    def report(self) -> PeerReport:
        """For progress lines."""
        return PeerReport(
            peer=self.peer,
            blocks=self.blocks,
            bytes=self.bytes,
            arriving=self.arriving,
            duplicate_bytes=self.duplicate_bytes,
            misses=self.misses,
            wrong_blocks=self.wrong_blocks,
            rate=self.rate or 0.0,
            stalled=self.stalled,
            dropped=self.dropped,
        )
