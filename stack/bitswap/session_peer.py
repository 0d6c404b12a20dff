"""One peer as one session sees it: how fast, how trustworthy, what it has, what it owes. Pure."""

from stack.bitswap.interfaces import PeerReport
from stack.bitswap.session_parameters import SessionParameters
from stack.bitswap.session_want import PeerState, SessionWant
from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.identity.peer_id import PeerId
from stack.protocols.providers.ranges import LeafRanges

SPARING_PART = 0.5
"""Of a full peer's rate; what peers with parts must bring together so that it is spared."""

SAMPLE_BYTES = 64 * 1024
"""Who has brought less in all may be much faster than that looks."""

SAMPLE_SECONDS = 0.2
"""A rate is measured over this long: blocks come in lumps of a message."""


class SessionPeer:
    """What a session knows of a peer, and what it has asked."""

    __slots__ = (
        "_ample_at",
        "_brought_at",
        "_came",
        "_measured",
        "_pace",
        "_sample_bytes",
        "_sample_start",
        "arriving",
        "blocks",
        "broken",
        "bytes",
        "creeps",
        "delay",
        "denials",
        "dropped",
        "duplicate_bytes",
        "full",
        "heard",
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
        self.heard = False
        """Others say so: leaves that are not in `ranges` it may have all the same."""
        self.outstanding: dict[SessionWant, tuple[float, int]] = {}
        """What it owes, oldest first: since when, and the size reckoned with."""
        self.outstanding_bytes = 0
        self.window = parameters.window_min
        self.rate: float | None = None
        self.delay: float | None = None
        self.progress_at = 0.0
        self.misses = 0
        self.denials = 0
        self.broken = 0
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
        """Bytes of blocks that are not whole yet."""
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
        self._came = 0
        """Bytes that were seen to come since it brought a block, also those that were of none in the end."""
        self._brought_at = 0.0
        """When bytes last came; answers bring nothing nearer."""
        self._ample_at = 0.0
        """Until then less had come than it is reckoned to owe."""
        self._pace: float | None = None
        """Bytes a second while a block is on its way; of a slow peer known long before the block is here."""

    def __repr__(self) -> str:
        return f"<SessionPeer {self.peer} {self.state.value}, owes {len(self.outstanding)}>"

    @property
    def poor(self) -> bool:
        """Stalled, or refused or broke off too often: asked for one want at a time, with rests, after all others."""
        parameters = self.parameters
        return self.stalled or self.misses >= parameters.misses or self.broken >= parameters.breaks

    @property
    def useless(self) -> bool:
        """It has been tried, and has brought nothing."""
        return self.rest > 0 and not self.blocks

    @property
    def hopeful(self) -> bool:
        """It may still turn out to have something: not everything it was tried for has failed."""
        return self.state is not PeerState.DROPPED and not self.rest and (self.blocks > 0 or not self.misses)

    @property
    def awaited(self) -> bool:
        """It is being connected, for the first time or because it was lost: what it has will be known. Who was dialled in vain before
        is not waited for."""
        fresh = not self.rest or (self.blocks > 0 and self.rest <= self.parameters.rest_min)
        return self.state is PeerState.DIALLING and fresh

    def may_have(self, want: SessionWant) -> bool:
        """Whether it is worth asking."""
        if self in want.lacks:
            return False
        if self.ranges is not None and want.leaf is not None:
            return want.leaf in self.ranges or self in want.holders
        return self.full or self in want.holders

    def named(self, *, full: bool) -> None:
        """Somebody has named it, as having everything when `full`: more than others who say of which parts it has."""
        if full and self.heard:
            self.ranges, self.heard = None, False
        self.full |= full

    def take_ranges(self, ranges: LeafRanges | None, *, hearsay: bool) -> bool:
        """It says, or by `hearsay` another does, which leaves it has; None: all. Whether that counts: an honest provider is not
        silenced by others, so of one that is said to have everything, or has told itself, nothing is heard."""
        if hearsay and (self.full or (self.ranges is not None and not self.heard)):
            return False
        self.full = ranges is None or ranges.complete
        self.ranges = None if self.full else ranges
        self.heard = hearsay and not self.full
        return True

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
            self.progress_at = self._brought_at = self._ample_at = now
            self.arriving = self._came = 0
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

    def connection_lost(self, now: float) -> None:
        """The connection is gone, and with it what it was asked and what was on its way."""
        self.state = PeerState.KNOWN
        self.broken += self.arriving > 0
        self.take_rest(now)
        self._forget_probes()

    def _forget_probes(self) -> None:
        for want in self.probes:
            want.told.pop(self, None)
        self.probes.clear()
        self.probed = -1
        self.arriving = 0

    def progress(self, now: float, arrived: int = 0) -> None:
        """Something came of what it owes, `arrived` bytes of it part of a block that is not whole yet. What is more than it can owe is
        nothing."""
        if arrived and (arrived := min(arrived, self._may_come - self._came)) <= 0:
            return
        if self._came < self.outstanding_bytes:
            self._ample_at = now
        self._came += arrived
        self._brought_at = now
        self._lives(now)
        self.arriving += arrived
        elapsed = now - self._sample_start
        if arrived and elapsed >= SAMPLE_SECONDS:
            self._pace = (self._sample_bytes + self.arriving) / elapsed

    def _lives(self, now: float) -> None:
        self.progress_at = now
        self.stalled = False

    @property
    def _may_come(self) -> int:
        """Bytes of what it owes, if its blocks are as large as they can be."""
        most = len(self.outstanding) * BLOCK_SIZE_MAX
        return min(most, self.outstanding_bytes + self.parameters.surplus) if most else 0

    def no_block(self, size: int, *, broken: bool) -> None:
        """So much of what was arriving is no block that it owes: its message is over, or (`broken`) has broken off. The third time in a row
        that is as if it had said nothing since it was asked."""
        taken = min(size, self.arriving)
        self.arriving -= taken
        if not self.arriving:
            self._pace = None
        if broken and taken:
            self.broken += 1
            if self.broken >= self.parameters.breaks and self.outstanding:
                self.progress_at = next(iter(self.outstanding.values()))[0]

    def answered(self, want: SessionWant, now: float, *, have: bool) -> None:
        """HAVE or DONT_HAVE: a sign of life if it was owed, or is said of this want for the first time. To who owes a block HAVE is no
        answer."""
        owed = want in self.outstanding
        news = self not in want.holders and self not in want.denied
        if not have if owed else news:
            self._lives(now)

    def probe(self, wants: list[SessionWant]) -> None:
        """It is being asked whether it has these."""
        self.probes.update(wants)
        for want in wants:
            want.told[self] = None

    @property
    def probe_room(self) -> int:
        """For how many it may be asked so now: in batches."""
        room = self.parameters.probes - len(self.probes)
        return room if 2 * room >= self.parameters.probes else 0

    def overtaken(self, now: float) -> None:
        """Another, asked after it, has brought what it owes: until it brings something itself it is asked for one want at a time.

        Of one that has brought blocks it may have been a hiccup: its rest does not grow, however much it owed."""
        self.misses = max(self.misses, self.parameters.misses)
        if self.blocks:
            self.rest_until = now + self.parameters.rest_min
        elif now >= self.rest_until:
            self.take_rest(now)

    def take_rest(self, now: float) -> None:
        """Leave it alone for a while, twice as long as the last time; of who was sending not for long."""
        sends = self.arriving or self.broken
        most = self.parameters.rest_sending if sends else self.parameters.rest_max
        self.rest = min(max(2 * self.rest, self.parameters.rest_min), most)
        self.rest_until = now + self.rest

    def count_block(self, size: int, asked_at: float | None, now: float) -> None:
        """A block that was wanted came; adapt rate, delay and window."""
        self.blocks += 1
        self.bytes += size
        self.misses = self.denials = self.broken = 0
        self.rest = self.rest_until = 0.0
        self.count_arrived(size)
        self._came = self.arriving
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

    def count_copy(self, size: int, now: float, *, owed: bool) -> None:
        """A block came that is wanted no longer, or was never; a sign of life if it `owed` it still."""
        self.duplicate_bytes += size
        self.count_arrived(size)
        if owed:
            self._came = max(self._came - size, self.arriving)
            self.progress(now)

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
        # A block can be larger than it was reckoned with: what has come of it shows.
        queue = 3 * max(self.outstanding_bytes, self.arriving) / speed if speed else 0.0
        return asked_at + min(max(queue, self.parameters.overdue_min), most)

    def time_for(self, extra: int) -> float:
        """Seconds until it has sent all it owes and `extra` bytes more; a guess while its rate is unknown, or tells of round trips only."""
        if not self.rate or 0 < self.bytes < SAMPLE_BYTES:
            return self.parameters.time_guess
        return (self.delay or 0.0) + (self.outstanding_bytes + extra) / self.rate

    def time_left(self, want: SessionWant, now: float) -> float:
        """Seconds until it sends a want it owes; one that has been silent for long, or has sent as much as it owes
        and not been done for long, is expected to be so as long again."""
        ample = self._came >= self.outstanding_bytes
        late = now - max(self._ample_at if ample else self._brought_at, self.outstanding[want][0])
        speed = self.speed
        return max(late, (self.outstanding_bytes - self.arriving) / speed if speed and not ample else 0.0)

    def report(self) -> PeerReport:
        """For progress lines."""
        return PeerReport(
            peer=self.peer,
            blocks=self.blocks,
            bytes=self.bytes,
            arriving=self.arriving,
            duplicate_bytes=self.duplicate_bytes,
            misses=self.misses,
            denials=self.denials,
            broken=self.broken,
            wrong_blocks=self.wrong_blocks,
            rate=self.rate or 0.0,
            stalled=self.stalled,
            dropped=self.dropped,
            awaited=self.awaited,
        )
