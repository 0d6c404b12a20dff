"""What can be set. Times are seconds, sizes bytes; the figures are those of docs/announce.md."""

from stack.announce.records import TTL_MAX, TTL_MIN
from stack.errors import ConfigError
from stack.values import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnounceParams:
    """Parameters of the machine."""

    ttl_first: int = 2 * 3600
    """Of the first record. Each refresh doubles it: most nodes that go away soon have not been there for long (the dead would
    else be most of every table)."""
    ttl: int = 24 * 3600
    """Of the records of an author that has been there for a day."""
    refresh_jitter: float = 0.2
    """A record is refreshed after half its ttl, less up to this part of it."""
    update_interval: float = 30.0
    """Between two sets of records of ours, when what we announce changes: the first change goes out at once."""

    split_bytes: int = 1024 * KIB
    """Load of a shard above which it is split: what a newcomer fetches, and what each of its members is sent each ttl. Shards
    that are few can all be connected (`standing`), and 1,000 nodes with 100 files each make 16."""
    merge_bytes: int = 192 * KIB
    """Load below which two halves become one again: a fifth, so that a split is not undone by a few leaving."""
    members_min: int = 32
    """A half keeps so many members, or the shard is not split. Two of five may be dead without being forgotten yet."""
    members_few: int = 6
    """Members below which a shard is given up."""
    level_interval: float = 60.0
    """Between two looks at the load; a change needs two looks that agree."""
    level_jitter: float = 0.5
    """So much longer or shorter, as a part of it: not all split in one moment."""
    overlap: float = 180.0
    """For so long a node that has changed its shard stays in the topic of the old one."""

    degree: int = 6
    """Connections to members of our own shard that we see to."""
    standing: int = 15
    """Where there are no more other shards than this, we see to a connection in each of them: a lookup takes one round trip then,
    and three when it has to dial first."""
    connect_interval: float = 5.0
    sync_interval: float = 300.0
    """Between two comparisons of our table with that of another member."""
    lonely: float = 5.0
    """Without anybody to ask for so long, we believe to be the first."""

    copies: int = 2
    """Members that a record of ours is handed to."""
    asks: int = 2
    """Members whose answer to a lookup is waited for, in different address groups where there are any."""
    asked_max: int = 12
    """Members asked in one round, at most."""
    hedge: float = 0.75
    """After so long without an answer another member is asked as well."""
    ask_timeout: float = 40.0
    """Whoever opens the streams says before that nothing has come: after 10 s, unless the line is busy with something else."""
    jobs: int = 8
    """Records handed in at a time."""
    retry_first: float = 2.0
    retry_max: float = 300.0
    """A record that nobody could be found for is handed in again after a while, that doubles from the first to the second."""
    lookup_retry_first: float = 2.0
    lookup_retry_max: float = 60.0
    """The same of a lookup that goes on."""

    answers: int = 20
    """Records in an answer to a lookup."""
    closer: int = 6
    """Members told to whoever asks for what is not ours."""
    interest: float = 60.0
    """An interest is kept for so long."""
    interests: int = 1024
    interests_per_peer: int = 16
    requests_rate: float = 50.0
    requests_burst: float = 400.0
    """Requests of one peer: a node that comes with 100 files hands in as many records."""
    neighbour_rate: float = 16 * KIB
    neighbour_burst: float = 1024 * KIB
    """Bytes of new records from one neighbour: sixteen times what all of them send in a network of 10,000."""
    group_rate: float = 4 * KIB
    group_burst: float = 256 * KIB
    """Bytes of new records of authors in one IPv4 /24 or IPv6 /48. Not of those that name only loopback."""

    def __post_init__(self) -> None:
        if not TTL_MIN <= self.ttl_first <= self.ttl <= TTL_MAX:
            raise ConfigError(f"{TTL_MIN} <= ttl_first <= ttl <= {TTL_MAX}")
        if not 0 < 2 * self.merge_bytes < self.split_bytes:
            raise ConfigError("merge_bytes is less than half of split_bytes")
        if not 0 < self.members_few < self.members_min:
            raise ConfigError("0 < members_few < members_min")
        if not (0 <= self.refresh_jitter < 1 and 0 <= self.level_jitter < 1):
            raise ConfigError("jitter is from 0 to 1")
        if not 0 < self.copies <= self.asked_max or not 0 < self.asks <= self.asked_max:
            raise ConfigError("copies and asks are from 1 to asked_max")
