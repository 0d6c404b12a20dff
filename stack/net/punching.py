"""Peers that dial us and are to answer nevertheless, because both sides dial at the same moment. Pure."""

from collections.abc import Sequence

from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import IpAddress, ip_of

EXPECTED_MAX = 256
"""IP addresses that are remembered."""


class Expected:
    """From where peers come who will answer though they have dialled: what one side dials may reach the other's listener, when routers
    do not use the ports that were told. Commands: `add`. Getter: `is_expected`. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._until: dict[IpAddress, float] = {}

    def add(self, addresses: Sequence[Multiaddr], seconds: float, now: float) -> None:
        """For so long we dial these as the one who asks."""
        self._until = {ip: until for ip, until in self._until.items() if until > now}
        for ip in map(ip_of, addresses):
            if ip is not None and len(self._until) < EXPECTED_MAX:
                self._until[ip] = now + seconds

    def is_expected(self, address: Multiaddr, now: float) -> bool:
        """Whether who comes from there now is one of them."""
        ip = ip_of(address)
        return ip is not None and self._until.get(ip, now) > now
