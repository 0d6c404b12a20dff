"""Who is on this link: asks for peers, answers those who ask. Pure.

Source: libp2p/specs, discovery/mdns.md (what is asked and told); RFC 6762 (when). What other implementations expect beyond
that: go-libp2p takes a peer only from one packet with PTR, TXT, SRV and A or AAAA records, and of several TXT records only
the last; js-libp2p takes only a packet whose last PTR answer is that of the service.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import field
from ipaddress import IPv4Address

from stack.discovery.dns import (
    AAAA,
    ANY,
    PTR,
    SRV,
    TXT,
    TXT_STRING_BYTES_MAX,
    A,
    Message,
    Name,
    Question,
    Record,
    Service,
    decode,
    dnsaddr_texts,
    encode,
)
from stack.discovery.mdns.links import Link, to_believe, to_tell
from stack.errors import DecodeError
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import ip_of
from stack.net.limits import TokenBucket
from stack.sansio.interfaces import Randomness
from stack.values import dataclass

PORT = 5353
SERVICE: Name = (b"_p2p", b"_udp", b"local")
META: Name = (b"_services", b"_dns-sd", b"_udp", b"local")
"""RFC 6763, section 9: by it a network's administrator sees which services there are."""
HOST_DOMAIN: Name = (b"p2p", b"local")

TTL_SECONDS = 120
"""RFC 6762, section 10: for records that hold an address; js-libp2p's figure too."""
LEGACY_TTL_SECONDS = 10
"""RFC 6762, section 6.7: for a resolver that knows nothing of multicast and will not hear of changes."""
PEER_NAME_BYTES = (32, 64)
"""The specification wants at least 32 characters, DNS at most 63; the length is drawn at random as go-libp2p does."""

FIRST_DELAY_SECONDS = (0.02, 0.12)
"""RFC 6762, sections 5.2 and 6: a random wait, so that machines that start or answer together do not collide."""
QUERY_FIRST_SECONDS = 1.0
QUERY_LAST_SECONDS = 60.0
"""Between two questions: doubled from the first to the last. go-libp2p ends at 60 s too."""
REPEAT_SECONDS = 1.0
"""RFC 6762, sections 6 and 8.3: no record oftener than once a second on a link; an announcement is repeated after it."""

SEND_BYTES_MAX = 1400
"""One packet of ours fits into one frame of any usual link: IPv6 over Ethernet leaves 1,452."""
TXT_BYTES_MAX = 900
HOST_ADDRESSES_MAX = 8
"""What these leave of a packet is enough for the names, the longest of which are 64 bytes."""
PEER_ADDRESSES_MAX = 16
"""Addresses of one peer that are taken from a packet."""
PACKET_PEERS_MAX = 4
"""Peers in one packet: everybody speaks for itself, a reflector between two links may join some."""
PACKET_TEXTS_MAX = 2 * PEER_ADDRESSES_MAX
"""Addresses that are looked at in one packet, 1 ms of work: half of a neighbour's may be of no use on this link."""
PACKET_QUESTIONS_MAX = 16
"""Questions about us that are looked at in one packet: there are fewer different ones."""
SOURCES_MAX = 256
"""Senders whose rate is remembered; the one not seen for longest goes first."""
SOURCE_RATE, SOURCE_BURST = 20.0, 100
"""Packets a second from one address: several programs of a machine share it, and Kubo answers each question once an interface."""
TOTAL_RATE, TOTAL_BURST = 200.0, 400
"""Packets a second in all that are read; senders on a link can be made up. 200 cost about 2 % of a processor."""
PIECE_BYTES = 256
"""For each so many more a packet counts as one more: what a packet costs to read is bounded by its bytes, 0.3 ms for so many."""
UNICAST_RATE, UNICAST_BURST = 20.0, 40
"""Answers a second to one asker alone, in all: a made-up sender must not make us flood its namesake."""

_ALPHABET = b"abcdefghijklmnopqrstuvwxyz0123456789"


def private_service(fingerprint: bytes) -> Name:
    """The service of a private network: its members and those of the public one do not see each other."""
    return (b"_p2p-" + fingerprint.hex().encode(), *SERVICE[1:])


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send it on this link: to everybody, or to one address and port."""

    link: Link
    data: bytes
    target: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A neighbour has told where it can be reached; not yet proved. `addresses` come without `/p2p`, at least one."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    link: Link


@dataclass(slots=True)
class _State:
    """Of one link."""

    query_at: float
    interval: float = QUERY_FIRST_SECONDS
    due: dict[Question, float] = field(default_factory=dict)
    """What is to be answered to all, and when."""
    told: dict[Question, float] = field(default_factory=dict)
    """When it was answered to all last."""


class MdnsMachine:
    """Facts: `links_changed`, `addresses_changed`, `woken`, `receive_packet`, `handle_timeout`. Command: `goodbye`.
    Outputs: `next_effect`, `next_timeout`. Getters: `packets`, `refused`."""

    def __init__(self, peer: PeerId, random: Randomness, *, service: Name = SERVICE) -> None:
        self._peer = peer
        self._random = random
        self._service = service
        name = bytes(_ALPHABET[random.randrange(0, len(_ALPHABET))] for _ in range(random.randrange(*PEER_NAME_BYTES)))
        self._instance: Name = (name, *service)
        self._host: Name = (name, *HOST_DOMAIN)
        self._addresses: tuple[Multiaddr, ...] = ()
        self._links: dict[Link, _State] = {}
        self._effects: deque[SendPacket | PeerFound] = deque()
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()
        self._total = TokenBucket(TOTAL_RATE, TOTAL_BURST, 0.0)
        self._unicast = TokenBucket(UNICAST_RATE, UNICAST_BURST, 0.0)
        self.packets = 0
        """Packets read."""
        self.refused = 0
        """Packets dropped: too many, or damaged."""

    def __repr__(self) -> str:
        return f"<MdnsMachine {self._peer} on {len(self._links)} links>"

    # --- facts

    def links_changed(self, links: Iterable[Link], now: float) -> None:
        """These are spoken on from now on; new ones are asked and told at once."""
        before = self._links
        self._links = {link: before[link] if link in before else _State(now + self._delay()) for link in links}
        for link in self._links.keys() - before.keys():
            self._announce(link, now)

    def addresses_changed(self, addresses: Sequence[Multiaddr], now: float) -> None:
        """Where we can be dialled, without `/p2p`; told when it differs from what was told before."""
        if tuple(addresses) == self._addresses:
            return
        if self._addresses:
            self.goodbye()  # go-libp2p looks at a name again only when that has been withdrawn, or after its ttl
        self._addresses = tuple(addresses)
        for link in self._links:
            self._announce(link, now)

    def woken(self, now: float) -> None:
        """The machine has slept: ask and tell at once, as at the start."""
        for link in self._links:
            self._announce(link, now)

    def receive_packet(self, link: Link, data: bytes, source: tuple[str, int], now: float) -> None:
        """A packet came in on `link` from this address and port. Damaged ones are counted and dropped."""
        if not self._allowed(source[0], 1 + len(data) // PIECE_BYTES, now) or link not in self._links:
            self.refused += 1
            return
        try:
            message = decode(data)
        except DecodeError:
            self.refused += 1
            return
        self.packets += 1
        if not message.response:
            self._asked(link, message, source, now)
        elif source[1] == PORT:
            # RFC 6762, section 6: answers from any other port must be ignored; they come from beyond the link
            self._told(link, message)

    def handle_timeout(self, now: float) -> None:
        """Ask and answer what is due."""
        for link, state in self._links.items():
            if state.query_at <= now:
                question = Question(self._service, PTR)
                self._effects.append(SendPacket(link, encode(Message(questions=(question,)))))
                # "A peer must respond to its own query. This allows other peers to passively discover it" (the specification)
                self._answer_all(link, question, now)
                self._asked_by_somebody(state, now)
            for question in [question for question, due in state.due.items() if due <= now]:
                del state.due[question]
                state.told[question] = now
                self._multicast(link, question)

    def goodbye(self) -> None:
        """Tell everybody to forget us (RFC 6762, section 10.1)."""
        pointer = Record(self._service, PTR, 0, self._instance)
        for link in self._links:
            if to_tell(self._addresses, link):
                self._effects.append(SendPacket(link, encode(Message(response=True, answers=(pointer,)))))

    # --- outputs

    def next_effect(self) -> SendPacket | PeerFound | None:
        """What is to be done next."""
        return self._effects.popleft() if self._effects else None

    def next_timeout(self) -> float | None:
        """When something is due; None without a link."""
        return min((min((state.query_at, *state.due.values())) for state in self._links.values()), default=None)

    # --- asking

    def _asked_by_somebody(self, state: _State, now: float) -> None:
        """RFC 6762, section 7.3: a question that another has just put need not be put again, the answers come to all."""
        state.query_at = now + state.interval * (0.9 + 0.2 * self._random.random())
        state.interval = min(2 * state.interval, QUERY_LAST_SECONDS)

    def _told(self, link: Link, message: Message) -> None:
        """Somebody has said where it is."""
        strings: dict[Name, list[str]] = {}
        gone = {r.value for r in message.answers if r.kind == PTR and r.name == self._service and not r.ttl}
        for record in (*message.answers, *message.additionals):
            if record.kind == TXT and record.ttl and record.name[1:] == self._service and record.name not in gone:
                assert isinstance(record.value, tuple)  # the codec gives strings for TXT
                strings.setdefault(record.name, []).extend(dnsaddr_texts(record.value))
        strings.pop(self._instance, None)
        left = PACKET_TEXTS_MAX
        for texts in list(strings.values())[:PACKET_PEERS_MAX]:
            self._found(link, texts[:left])
            left -= len(texts[:left])

    def _found(self, link: Link, texts: Sequence[str]) -> None:
        """All addresses of a name are one peer's: the one that is named first."""
        peer: PeerId | None = None
        ours = ""
        addresses = []
        for text in texts:
            where, _, name = text.rpartition("/p2p/")
            if not where or (peer is not None and name != ours):
                continue
            try:
                if peer is None:
                    peer, ours = PeerId.parse(name), name
                addresses.append(Multiaddr.parse(where))
            except DecodeError:
                continue
        believed = to_believe(addresses, link)[:PEER_ADDRESSES_MAX]
        if peer is not None and peer != self._peer and believed:
            self._effects.append(PeerFound(peer, tuple(believed), link))

    # --- answering

    def _asked(self, link: Link, message: Message, source: tuple[str, int], now: float) -> None:
        ours = (META, self._service, self._instance, self._host)
        asked = dict.fromkeys(each for each in message.questions if each.name in ours)
        known = {(record.name, record.kind, record.value): record.ttl for record in message.answers}
        for question in list(asked)[:PACKET_QUESTIONS_MAX]:
            if question.name == self._service and source[1] == PORT and not question.unicast:
                self._asked_by_somebody(self._links[link], now)
            answers = self._answers(link, question)
            if not answers:
                continue
            first = answers[0]
            # RFC 6762, section 7.1: the asker has the answer already, and for long enough.
            if 2 * known.get((first.name, first.kind, first.value), -1) >= first.ttl:
                continue
            if source[1] != PORT:
                self._reply(link, answers, source, now, legacy=(message.id, question))
            elif question.unicast:
                self._reply(link, answers, source, now)
            else:
                self._answer_all(link, Question(question.name, question.kind), now)

    def _reply(
        self,
        link: Link,
        answers: Sequence[Record],
        source: tuple[str, int],
        now: float,
        legacy: tuple[int, Question] | None = None,
    ) -> None:
        if not self._unicast.take(now):
            return
        if legacy is None:
            self._effects.append(SendPacket(link, self._packet(answers), source))
            return
        identifier, question = legacy
        short = [Record(r.name, r.kind, LEGACY_TTL_SECONDS, r.value) for r in answers]
        self._effects.append(SendPacket(link, self._packet(short, identifier, (question,)), source))

    def _answer_all(self, link: Link, question: Question, now: float) -> None:
        """Later, with others that ask the same, and not oftener than once a second."""
        state = self._links[link]
        earliest = state.told.get(question, now - REPEAT_SECONDS) + REPEAT_SECONDS
        state.due.setdefault(question, max(now + self._delay(), earliest))

    def _announce(self, link: Link, now: float) -> None:
        """RFC 6762, section 8.3: twice, a second apart; the second time comes with the first questions that are asked."""
        state = self._links[link]
        state.interval = QUERY_FIRST_SECONDS
        state.query_at = min(state.query_at, now + self._delay())

    def _multicast(self, link: Link, question: Question) -> None:
        answers = self._answers(link, question)
        if answers:
            self._effects.append(SendPacket(link, self._packet(answers)))

    def _answers(self, link: Link, question: Question) -> list[Record]:
        """The answer, and behind it what belongs with it; nothing when we have nothing to say on this link."""
        addresses = to_tell(self._addresses, link)
        if not addresses:
            return []
        name, kind = question.name, question.kind
        if name == META and kind in (PTR, ANY):
            return [Record(META, PTR, TTL_SECONDS, self._service)]
        port = addresses[0].get("tcp") or addresses[0].get("udp")
        service = Record(self._instance, SRV, TTL_SECONDS, Service(int(port or 0), self._host))
        ips = [ip for ip in dict.fromkeys(map(ip_of, addresses)) if ip is not None][:HOST_ADDRESSES_MAX]
        hosts = [Record(self._host, A if isinstance(ip, IPv4Address) else AAAA, TTL_SECONDS, ip) for ip in ips]
        if name == self._host:
            return [record for record in hosts if kind in (record.kind, ANY)]
        text = self._text(addresses)
        if name == self._service and kind in (PTR, ANY):
            return [Record(self._service, PTR, TTL_SECONDS, self._instance), text, service, *hosts]
        if name == self._instance and kind in (SRV, TXT, ANY):
            first, second = (text, service) if kind == TXT else (service, text)
            return [first, second, *hosts]
        return []

    def _text(self, addresses: Sequence[Multiaddr]) -> Record:
        """One record for all addresses that fit: go-libp2p looks at one only."""
        strings: list[bytes] = []
        for address in addresses:
            text = f"dnsaddr={address.with_peer(str(self._peer))}".encode()
            size = sum(len(each) + 1 for each in strings) + len(text) + 1
            if len(text) <= TXT_STRING_BYTES_MAX and size <= TXT_BYTES_MAX:
                strings.append(text)
        return Record(self._instance, TXT, TTL_SECONDS, tuple(strings))

    def _packet(self, records: Sequence[Record], identifier: int = 0, questions: tuple[Question, ...] = ()) -> bytes:
        """The first record is the answer, the others come with it."""
        return encode(
            Message(
                id=identifier,
                response=True,
                questions=questions,
                answers=tuple(records[:1]),
                additionals=tuple(records[1:]),
            )
        )

    # --- inside

    def _delay(self) -> float:
        shortest, longest = FIRST_DELAY_SECONDS
        return shortest + (longest - shortest) * self._random.random()

    def _allowed(self, source: str, count: int, now: float) -> bool:
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = self._sources[source] = TokenBucket(SOURCE_RATE, SOURCE_BURST, now)
            if len(self._sources) > SOURCES_MAX:
                self._sources.popitem(last=False)
        self._sources.move_to_end(source)
        return bucket.take(now, count) and self._total.take(now, count)
