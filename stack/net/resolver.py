"""DNS names in addresses: `/dns4/example.com/tcp/4001` becomes one address per IP address; `/dnsaddr/...` is looked up in TXT
records, within bounds. Source: multiformats/multiaddr, protocols/DNSADDR.md."""

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio
import anyio.to_thread

from stack.errors import DecodeError, TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import DNS_NAMES, unique

LOOKUPS_MAX = 32
"""DNS questions for one call of `resolve` (A08)."""
ADDRESSES_MAX = 100
"""Addresses that one call of `resolve` gives (A08)."""
LOOKUP_SECONDS = 5.0
"""One question; the system's resolver tries several servers in that time."""
THREADS_MAX = 16
"""Lookups under way in this process: each holds a thread until the system gives up, whatever we do."""

HostLookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""IP addresses of a host name; the family is 4, 6, or 0 for both. Raises OSError."""
TextLookup = Callable[[str], Awaitable[Sequence[str]]]
"""TXT records of a domain name. Raises OSError."""

_FAMILIES = {0: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION = {"dns": 0, "dns4": 4, "dns6": 6}


async def system_lookup(host: str, version: int) -> list[str]:
    """Ask the system's resolver, in a thread that is abandoned when this is cancelled."""

    def ask() -> list[str]:
        found = socket.getaddrinfo(host, None, family=_FAMILIES[version], type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))

    return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=_threads())


class Resolver:
    """Resolves names in addresses. `lookup_text` is needed for `/dnsaddr`; without it those do not resolve."""

    def __init__(self, lookup_host: HostLookup = system_lookup, lookup_text: TextLookup | None = None) -> None:
        self._lookup_host = lookup_host
        self._lookup_text = lookup_text

    async def resolve(self, addresses: Iterable[Multiaddr]) -> tuple[list[Multiaddr], list[tuple[Multiaddr, str]]]:
        """Addresses without names, in the order of those they come from, and what could not be resolved, with why."""
        resolved: list[Multiaddr] = []
        failed: list[tuple[Multiaddr, str]] = []
        waiting = unique(addresses)[::-1]
        seen = set(waiting)
        lookups = 0
        while waiting:
            address = waiting.pop()
            if len(resolved) >= ADDRESSES_MAX:
                break
            if not is_named(address):
                resolved.append(address)
            elif lookups >= LOOKUPS_MAX:
                failed.append((address, f"more than {LOOKUPS_MAX} names to look up"))
            else:
                lookups += 1
                try:
                    with anyio.fail_after(LOOKUP_SECONDS):
                        found = await self._look_up(address)
                except TimeoutError:
                    failed.append((address, f"no answer from DNS within {LOOKUP_SECONDS:g} s"))
                    continue
                except TransportError as error:
                    failed.append((address, str(error)))
                    continue
                fresh = [a for a in unique(found[:ADDRESSES_MAX]) if a not in seen]
                seen.update(fresh)
                waiting += fresh[::-1]
        return resolved, failed

    async def _look_up(self, address: Multiaddr) -> list[Multiaddr]:
        name, host = next(iter(address))
        try:
            if name == "dnsaddr":
                if self._lookup_text is None:
                    raise TransportError("dnsaddr names are not looked up here")
                return _from_texts(address, await self._lookup_text(f"_dnsaddr.{host}"))
            return [_with_ip(address, ip) for ip in await self._lookup_host(host, _VERSION[name])]
        except (OSError, UnicodeError, DecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TransportError(f"the name {host} cannot be looked up: {reason}") from error


def is_named(address: Multiaddr) -> bool:
    """True when `address` begins with a DNS name."""
    return address.protocols[:1] != () and address.protocols[0] in DNS_NAMES


def _with_ip(address: Multiaddr, ip: str) -> Multiaddr:
    parts = list(address)
    host = parts[0][1]
    text = f"/ip{6 if ':' in ip else 4}/{ip}"
    names = address.protocols
    for name, value in parts[1:]:
        # A certificate is for the name: keep it where TLS begins.
        if name == "wss" and "sni" not in names:
            text += f"/tls/sni/{host}/ws"
        elif name == "tls" and "sni" not in names:
            text += f"/tls/sni/{host}"
        else:
            text += f"/{name}/{value}" if value else f"/{name}"
    return Multiaddr.parse(text)


def _from_texts(address: Multiaddr, texts: Sequence[str]) -> list[Multiaddr]:
    """The addresses in TXT records that end as `address` ends behind its name: a `/p2p/` there picks one peer."""
    suffix = "".join(f"/{name}/{value}" if value else f"/{name}" for name, value in list(address)[1:])
    found = []
    for text in texts[:ADDRESSES_MAX]:
        if text.startswith("dnsaddr="):
            try:
                candidate = Multiaddr.parse(text.removeprefix("dnsaddr="))
            except DecodeError:
                continue
            if str(candidate).endswith(suffix):
                found.append(candidate)
    return found


_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("stack_dns_threads")


def _threads() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS_MAX)
        _limiter.set(limiter)
        return limiter
