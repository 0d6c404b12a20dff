"""Clocks that are wrong, are set, or go on while the machine sleeps (finding 17): one machine on two clocks, and a network."""

import pytest

from stack.announce.clocks import OPINIONS_MAX, Clocks
from stack.announce.events import ClockJumped, ClockWrong, RecordRefused, RefusedBecause
from stack.announce.messages import Kind, Request, Response, Status
from stack.announce.own import Announcement
from stack.announce.records import SKEW_SECONDS, Record
from stack.announce.table import Table
from tests.announce.build import HOUR, NOW, budget, record_bytes
from tests.announce.network import peer_of, root_of
from tests.announce.test_machine import KEY, ROOT, Lab
from tests.announce.test_network import grown

DAY = 24 * HOUR
YEAR = 365 * DAY
WITHIN = 6.0
"""Seconds of the monotonic clock after which what is due has to be out."""


class Clocked(Lab):
    """A machine whose wall clock may be set."""

    def __init__(self, ahead: float = 0.0) -> None:
        super().__init__()
        self.ahead = ahead
        self.events: list[object] = []
        self.machine._state.trace = self.events.append
        self.machine.announce(Announcement(root=ROOT, name="a film"), 0.0)
        self.pass_time(30.0)

    @property
    def wall(self) -> float:
        return NOW + self.now + self.ahead

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.machine.next_timeout()) <= until:
            self.now = max(due, self.now)
            self.machine.handle_timeout(self.now, self.wall)
            self.drain()
        self.now = until

    def told(self) -> list[Record]:
        """What it tells of itself, by the table it keeps."""
        return list(self.machine.table.records_of(bytes(peer_of(0))))

    def set_clock(self, by: float) -> None:
        self.ahead += by
        self.pass_time(WITHIN)


def good(record: Record, wall: float) -> bool:
    """A member whose clock is right takes it, and keeps it for a while."""
    return record.issued <= wall + SKEW_SECONDS and record.expires > wall + 600


@pytest.mark.parametrize("hours", [1, 14, 24 * 7])
def test_finding_17_who_has_slept_is_announced_again_some_seconds_after_waking(hours: int) -> None:
    lab = Clocked()
    assert len(lab.told()) == 2 and all(good(record, lab.wall) for record in lab.told())
    lab.set_clock(hours * HOUR)
    assert len(lab.told()) == 2 and all(good(record, lab.wall) for record in lab.told())
    assert [event.seconds for event in lab.events if isinstance(event, ClockJumped)] == [hours * HOUR]


@pytest.mark.parametrize("by", [-10 * YEAR, -DAY, -HOUR, HOUR, DAY, 10 * YEAR])
def test_finding_17_a_clock_that_is_set_after_the_start_has_everything_written_anew(by: float) -> None:
    lab = Clocked(ahead=-by)
    before = lab.told()
    lab.set_clock(by)
    after = lab.told()
    assert len(after) == 2 and all(good(record, lab.wall) for record in after)
    assert min(record.sequence for record in after) > max(record.sequence for record in before) or by > 0
    # And it goes on from there.
    lab.pass_time(3 * HOUR)
    assert all(good(record, lab.wall) for record in lab.told())


def test_finding_17_a_clock_that_is_set_back_a_little_does_not_hide_the_next_change() -> None:
    """Who has a record of ten seconds ago takes none that is older, so the next is dated behind the last."""
    lab = Clocked(ahead=200)
    other = Table(1, budget(1 << 20))
    for record in lab.told():
        other.insert(record, NOW + lab.now)
    lab.set_clock(-200)
    lab.machine.announce(Announcement(root=root_of("more")), lab.now)
    lab.pass_time(40.0)
    [fresh] = [record for record in lab.told() if record.keys]
    assert len(fresh.keys) == 32
    assert other.insert(fresh, lab.wall).name == "NEW"


def test_what_was_withdrawn_before_the_clock_was_set_back_ten_years_is_taken_back_for_a_day_at_most() -> None:
    lab = Clocked(ahead=10 * YEAR)
    lab.machine.withdraw(ROOT, lab.now)
    lab.pass_time(40.0)
    lab.set_clock(-10 * YEAR)
    lab.pass_time(2 * DAY)
    assert all(issued.expires < lab.wall + DAY + HOUR for issued in lab.machine._own._issued.values())


def test_a_table_whose_clock_is_set_back_forgets_what_would_keep_out_the_present() -> None:
    lab = Clocked(ahead=DAY)
    theirs = record_bytes(5, keys=[KEY], issued=int(lab.wall), sequence=1)
    assert (
        lab.machine.receive_request(peer_of(5), Request(kind=Kind.PUT, record=theirs), lab.now, lab.wall)[0].status
        is Status.OK
    )
    lab.set_clock(-DAY)
    again = record_bytes(5, keys=[KEY], issued=int(lab.wall), sequence=2)
    response, _ = lab.machine.receive_request(peer_of(5), Request(kind=Kind.PUT, record=again), lab.now, lab.wall)
    assert response.status is Status.OK and response.time == int(lab.wall)


def test_who_hands_in_a_record_of_the_future_is_told_the_time() -> None:
    lab = Clocked()
    ahead = record_bytes(5, keys=[KEY], issued=int(lab.wall) + HOUR)
    response, _ = lab.machine.receive_request(peer_of(5), Request(kind=Kind.PUT, record=ahead), lab.now, lab.wall)
    assert response.status is Status.REFUSED and response.time == int(lab.wall)
    assert RecordRefused(peer=peer_of(5), reason=RefusedBecause.FUTURE) in lab.events


def test_nobody_is_blamed_for_records_of_the_future_that_it_names() -> None:
    """Perhaps it is our clock that stands in the past."""
    lab = Clocked(ahead=-DAY)
    peer = lab.connect(1)
    lookup = lab.machine.find(KEY, lab.now, lab.wall)
    [ask] = lab.asks(Kind.FIND)
    answer = Response(shard=lab.machine.shard, records=(record_bytes(7, keys=[KEY], issued=NOW),))
    lab.machine.answered(ask.id, peer, answer, lab.now, lab.wall)
    assert lab.machine.reputation.score(peer) == 0
    lab.machine.stop(lookup)


def test_many_voices_of_one_network_are_one_and_liars_have_to_be_the_majority() -> None:
    clocks = Clocks()
    assert clocks.opinion is None
    for number in range(3):
        clocks.told(peer_of(number), f"1.1.{number}.0/24", 1000.0, 1000.0 + HOUR)
    for number in range(10, 100):
        clocks.told(peer_of(number), "6.6.6.0/24", 0.0, 1000.0 + HOUR)
    clocks.told(peer_of(101), "7.7.7.0/24", 5e9, 1000.0 + HOUR)
    opinion = clocks.opinion
    assert opinion is not None and (opinion.ahead, opinion.peers, opinion.is_wrong) == (HOUR, 5, True)
    assert str(opinion) == "this computer's clock is 60 minutes ahead of those of its 5 peers (their median)"
    for number in range(200):
        clocks.told(peer_of(number), None, 1000.0 + 5 * DAY, 1000.0)
    assert clocks.opinion is not None and clocks.opinion.peers == OPINIONS_MAX
    assert str(clocks.opinion).startswith("this computer's clock is 5 days behind those of its 64 peers")
    assert clocks.look(1.0, 1000.0) == 0 and clocks.look(2.0, 1001.0) == 0
    assert clocks.look(3.0, 5000.0) == 3998.0 and clocks.opinion is None


def test_a_wrong_clock_is_told_once_and_again_when_it_has_been_right() -> None:
    lab = Clocked(ahead=HOUR)
    lab.connect(1)
    told = []
    for ahead in (HOUR, HOUR, HOUR + 1, 0, HOUR):
        lab.machine.find(KEY, lab.now, lab.wall)
        [ask] = lab.asks(Kind.FIND)
        answer = Response(shard=lab.machine.shard, time=int(lab.wall) - ahead)
        lab.machine.answered(ask.id, ask.peer, answer, lab.now, lab.wall)
        told.append(sum(isinstance(effect, ClockWrong) for effect in lab.drain()))
    assert told == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("ahead", [HOUR, -DAY])
def test_in_a_network_one_node_whose_clock_is_off_learns_it_and_is_found_as_soon_as_it_is_set(ahead: float) -> None:
    network = grown(12)
    wrong, others = network.add()[0], [node for node in network.nodes.values() if node.number < 12]
    wrong.ahead = ahead
    for other in (0, 3, 7):
        network.connect(wrong.number, other)
    wrong.announce(root_of("theirs"))
    others[2].announce(root_of("ours"))
    network.run(40)
    lookups = [(node, node.find(root_of("theirs"))) for node in others[:6]]
    right = others[5].find(root_of("ours"))
    network.run(10)
    assert all(not node.authors(lookup) for node, lookup in lookups)
    assert others[5].authors(right) == {2}
    opinion = wrong.machine.clock
    assert opinion is not None and opinion.is_wrong and abs(opinion.ahead - ahead) < 2
    assert not any(
        node.machine.clock.is_wrong
        for node in others
        if node.machine.clock is not None and node.number not in (0, 3, 7)
    )
    wrong.ahead = 0.0
    network.run(20)
    lookup = others[9].find(root_of("theirs"))
    network.run(5)
    assert others[9].authors(lookup) == {wrong.number}
