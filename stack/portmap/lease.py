"""One port that a router keeps open for us: asked for, renewed, given up. Pure."""

from ipaddress import IPv4Address, IPv6Address

from stack.errors import DecodeError
from stack.portmap.messages import (
    NONCE_SIZE,
    PCP_VERSION,
    PMP_VERSION,
    UNSUPPORTED,
    Answer,
    Transport,
    decode,
    pcp_request,
    pmp_address_request,
    pmp_request,
)
from stack.sansio.interfaces import Randomness
from stack.values import dataclass

LEASE_SECONDS = 600
"""Asked for: a port whose owner was killed is shut after ten minutes. The specifications advise two hours, for less traffic: this is
a packet each five minutes. No more is counted on where more is granted: a router that begins anew forgets it."""
LEASE_SECONDS_MIN = 60
"""A router that grants less is asked once a minute all the same."""
WAITS = (0.2, 0.4, 0.8)
"""After each try of one protocol; both specifications begin with about so much."""
AGAIN_SECONDS = 600.0
"""Until a router that did not want to is asked again."""
LOST = "it does not answer by NAT-PMP or PCP"
DEAF = "it speaks neither NAT-PMP nor PCP"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Others reach us there."""

    address: IPv4Address | IPv6Address
    port: int
    protocol: str
    """`PCP`, `NAT-PMP` or `UPnP`."""


class Lease:
    """Facts: `receive`, `refused`, `slept`. Outputs: `packets`, `next_timeout`, `last_words`. Getters: `mapping`, `fault`, `is_pending`,
    `is_slow`.

    PCP is tried first; who does not know it says so, or nothing at all, and is asked by NAT-PMP.
    """

    def __init__(
        self, transport: Transport, port: int, ours: IPv4Address | IPv6Address, random: Randomness, now: float
    ) -> None:
        """For `port` of this computer, whose address on the way to the router is `ours`."""
        self._transport = transport
        self._port = port
        self._ours = ours
        self._random = random
        self._nonce = random.randbytes(NONCE_SIZE)
        self._version = PCP_VERSION
        self._tries = 0
        self._due = now
        self._ends = 0.0
        """When the router shuts the port."""
        self._granted = 0
        self._address: IPv4Address | IPv6Address | None = None
        self._external = port
        self.fault = ""
        """Why there is none, in words that follow "the router: "."""

    def mapping(self, now: float) -> Mapping | None:
        """Where others reach us; None while that is not so."""
        if now >= self._ends or self._address is None:
            return None
        return Mapping(self._address, self._external, "PCP" if self._version == PCP_VERSION else "NAT-PMP")

    def is_pending(self, now: float) -> bool:
        """The router has not yet said yes or no."""
        return not self.fault and self.mapping(now) is None

    @property
    def is_slow(self) -> bool:
        """The router has said no, or nothing for a while: another way may be tried too."""
        return bool(self.fault) or self._tries >= 2

    def packets(self, now: float) -> list[bytes]:
        """What is to be sent now."""
        if now < self._due:
            return []
        if self._tries == len(WAITS):
            if self._version == PCP_VERSION and now >= self._ends:
                self._begin(PMP_VERSION)
            else:
                self._give_up(LOST, now)
                return []
        self._due = now + WAITS[self._tries]
        self._tries += 1
        return self._request(LEASE_SECONDS)

    def next_timeout(self) -> float:
        """When `packets` has some."""
        return self._due

    def receive(self, data: bytes, now: float) -> None:
        """A packet of the router; what makes no sense is ignored."""
        try:
            answer = decode(data, self._transport, self._port, self._nonce)
        except DecodeError:
            return
        if not self._tries:
            return  # nothing was asked: an answer that came twice, or of somebody else
        if answer.result == UNSUPPORTED and self._version == PCP_VERSION:
            self._begin(PMP_VERSION)
            self._due = now
        elif answer.version != self._version:
            return
        elif answer.result:
            self._ends = 0.0
            self._give_up(answer.reason, now)
        else:
            self._granted_by(answer, now)

    def refused(self, now: float) -> None:
        """The router says that nobody listens there for such packets."""
        if now >= self._ends:
            self._give_up(DEAF, now)

    def slept(self, seconds: float, now: float) -> None:
        """This computer slept for so long, or its clock was set: the router's went on, and it may have shut the port."""
        if self._ends > now:
            self._ends -= max(seconds, 0.0)
            self._tries, self._due = 0, now

    def last_words(self, now: float) -> list[bytes]:
        """Have the port shut: to be sent at the end."""
        return self._request(0) if now < self._ends else []

    def _begin(self, version: int) -> None:
        self._version, self._tries = version, 0

    def _give_up(self, fault: str, now: float) -> None:
        """Until the next time. What stands is renewed until it ends: the router may be busy."""
        stands = now < self._ends
        self.fault = "" if stands else fault
        if not stands:
            self._version = PCP_VERSION
        self._tries = 0
        self._due = min(now + LEASE_SECONDS_MIN, self._ends) if stands else now + AGAIN_SECONDS

    def _granted_by(self, answer: Answer, now: float) -> None:
        if answer.address is not None:
            self._address = answer.address
        if answer.port:
            self._external = answer.port
            self._granted = min(max(answer.seconds, LEASE_SECONDS_MIN), LEASE_SECONDS)
            self._ends = now + self._granted
        if now < self._ends and self._address is not None:
            # At half of the time, and not with everybody who lost power at the same moment.
            self._tries, self.fault = 0, ""
            self._due = now + self._granted * (0.45 + 0.1 * self._random.random())

    def _request(self, seconds: int) -> list[bytes]:
        external = self._external if seconds else 0
        if self._version == PCP_VERSION:
            return [pcp_request(self._transport, self._port, external, seconds, self._ours, self._nonce)]
        mapping = pmp_request(self._transport, self._port, external, seconds)
        return [pmp_address_request(), mapping] if seconds else [mapping]
