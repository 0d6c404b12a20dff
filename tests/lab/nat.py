"""Two homes behind two routers, and a relay that both reach: what `stack get TICKET` does for each pair of routers, and after how long.

    python -m tests.lab.nat [KIND KIND] [--code] [--quic] [--only KIND]...      # root; without kinds every pair, or those with one of these
    python -m tests.lab.nat --picture      # docs/reach.svg from the tables of docs/reach.md

Network namespaces; the routers are nft's address translation. Kinds, as far as that can show them: `open` (no router), `full-cone` (one
outside port for one inside, for whoever comes), `address` (only from IP addresses that were spoken to), `port` (only from where was
spoken to: what Linux does by itself), `symmetric` (another outside port for each connection), `double` (a router as `port` behind
another such), `ipv6` (as `port`, and besides an IPv6 address of its own behind a firewall that lets in answers only). None maps a port
when asked to, or answers what it does not know.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import namespaces
from tests.acceptance.kit import MIB, Machine, Running, good, make_file, sha256
from tests.acceptance.namespaces import Namespaces
from tests.lab import nat_picture

KINDS = ("open", "full-cone", "address", "port", "symmetric", "double", "ipv6")
RELAY, RELAY6 = "45.79.1.2", "2a01:4f8:1::2"
PORT = 4001
SETTLE_SECONDS = 30.0
"""For a direct connection to come about after the file is there: three tries take less."""

FILTER = """
table ip filter {
  chain input {
    type filter hook input priority 0
    iifname "wan" ct state new drop
  }
  chain forward {
    type filter hook forward priority 0
    iifname "wan" ct state new ct status dnat accept
    iifname "wan" ct state new drop
  }
}
"""
FILTER6 = """
table ip6 filter {
  chain forward {
    type filter hook forward priority 0
    iifname "wan" ct state new meta l4proto != icmpv6 drop
  }
}
"""
CONE = """
table ip nat {
  map cone { type inet_service : ipv4_addr; flags dynamic; size 1024; }
  set spoken { type ipv4_addr; flags dynamic; size 1024; }
  chain out {
    type nat hook postrouting priority 100
    oifname "wan" meta l4proto { tcp, udp } update @spoken { ip daddr } update @cone { th sport : ip saddr } masquerade
    oifname "wan" masquerade
  }
  chain in {
    type nat hook prerouting priority -100
    iifname "wan" %s meta l4proto { tcp, udp } dnat to th dport map @cone
  }
}
"""
PLAIN = """
table ip nat {
  chain out {
    type nat hook postrouting priority 100
    oifname "wan" masquerade %s
  }
}
"""
RULES = {
    "full-cone": CONE % "",
    "address": CONE % "ip saddr @spoken",
    "port": PLAIN % "",
    "symmetric": PLAIN % "random,fully-random",
    "double": PLAIN % "",
    "ipv6": PLAIN % "" + FILTER6,
}


def missing() -> str | None:
    """Why this cannot be run here, or None."""
    if (reason := namespaces.missing()) is not None:
        return reason
    return None if shutil.which("nft") else "needs the program `nft` (nftables)"


class Homes(Namespaces):
    """The relay, and a home behind a router of each of these kinds; in the middle a switch for what is outside."""

    def __init__(self, kinds: tuple[str, str]) -> None:
        super().__init__("mid", "relay", "r0", "r1", "h0", "h1", "i0", "i1")
        self._kinds = kinds
        self._switch, self.relay, *rest = self.names
        self._routers, self.homes, self._providers = rest[:2], rest[2:4], rest[4:]

    def outside(self, number: int) -> str:
        """The public address of a home's router, or of a home without one."""
        return f"45.79.1.{10 + number}"

    def _build(self) -> None:
        self.inside(self._switch, "ip", "link", "add", "switch", "type", "bridge")
        self.inside(self._switch, "ip", "link", "set", "switch", "up")
        self._attach(self.relay, "relay", RELAY)
        for number, kind in enumerate(self._kinds):
            router, home = self._routers[number], self.homes[number]
            if kind == "open":
                self._attach(home, f"p{number}", self.outside(number))
                continue
            if kind == "double":
                provider = self._providers[number]
                self._attach(provider, f"p{number}", self.outside(number))
                self._behind(router, "wan", provider, f"100.64.{number}", kind)
            else:
                self._attach(router, f"p{number}", self.outside(number))
            self._behind(home, "lan", router, f"192.168.{number}", kind)
        if "ipv6" in self._kinds:
            self._add_ipv6()

    def _behind(self, name: str, port: str, router: str, network: str, kind: str) -> None:
        """A computer, or another router, behind a router of this kind."""
        self.join(name, port, router, "lan")
        self.give(name, port, f"{network}.2")
        self.give(router, "lan", f"{network}.1")
        self.inside(name, "ip", "route", "add", "default", "via", f"{network}.1")
        rules = f"echo 1 > /proc/sys/net/ipv4/ip_forward; nft -f - <<'END'\n{FILTER}{RULES[kind]}\nEND"
        self.inside(router, "sh", "-c", rules)

    def _add_ipv6(self) -> None:
        """At the relay, and at each home of that kind with a network of its own behind its router."""
        self._give6(self.relay, "wan", RELAY6)
        routers = {number: self._routers[number] for number, kind in enumerate(self._kinds) if kind == "ipv6"}
        for number, router in routers.items():
            network = f"2a01:4f8:{10 + number}::"
            self._give6(router, "wan", f"2a01:4f8:1::{10 + number}")
            self._give6(router, "lan", f"{network}1")
            self._give6(self.homes[number], "lan", f"{network}2")
            self.inside(self.homes[number], "ip", "-6", "route", "add", "default", "via", f"{network}1")
            self.inside(router, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
        for number, router in routers.items():
            way = f"ip -6 route add 2a01:4f8:{10 + number}::/64 via 2a01:4f8:1::{10 + number} dev wan".split()
            for other in {self.relay, *routers.values()} - {router}:
                self.inside(other, *way)

    def _give6(self, name: str, device: str, address: str) -> None:
        self.inside(name, *f"ip address add {address}/64 dev {device} nodad".split())

    def _attach(self, name: str, port: str, address: str) -> None:
        self.join(name, "wan", self._switch, port)
        self.give(name, "wan", address)
        self.inside(self._switch, "ip", "link", "set", port, "master", "switch", "up")


@dataclass(frozen=True, slots=True)
class Result:
    """Of one pair."""

    way: str
    """`direct` (no relay was needed), `punched`, `relayed` or `failed`."""
    seconds: float
    """Until the file was there."""
    direct_after: float | None
    """Until a connection without the relay stood."""


def address(quic: bool, host: str) -> str:
    """Of who listens there, by TCP or by QUIC alone."""
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/{f'udp/{PORT}/quic-v1' if quic else f'tcp/{PORT}'}"


@contextmanager
def two_homes(place: Path, kinds: tuple[str, str], *, quic: bool = False) -> Iterator[tuple[Machine, Machine]]:
    """Both homes, with a friend's relay that carries the first one's files."""
    listen = f"{address(quic, '0.0.0.0')} {address(quic, '::')}"
    with Homes(kinds) as net, ExitStack() as stack:
        machines = [
            Machine(place / name, listen=listen, prefix=net.prefix(namespace))
            for name, namespace in zip(("relay", "sharer", "getter"), (net.relay, *net.homes), strict=True)
        ]
        relay, sharer, getter = machines
        friend = good(sharer.run("id", "--json")).json["peer_id"]
        stack.enter_context(relay.daemon("--relay", "--relay-allow", friend))
        yield sharer, getter


def fetch(
    sharer: Machine,
    getter: Machine,
    *flags: str,
    size: int = 8 * MIB,
    settle: float = SETTLE_SECONDS,
    code: bool = False,
    quic: bool = False,
) -> Result:
    """Share here, get there by the ticket, or by a code that both use at the relay; nothing else typed; then see how the two are
    connected."""
    source, relay = make_file(sharer.folder / "film", size), address(quic, RELAY)
    with sharer.sharing(source, "--relay-via", relay, *(["--code"] if code else [])) as (_, shared):
        begun = time.monotonic()
        named = [shared["code"], "--via", relay] if code else [shared["ticket"]]
        with getter.start("get", *named, "--seed", "--jsonl", "--timeout", "30s", *flags) as process:
            finished = _finished(process)
            seconds = time.monotonic() - begun
            if not finished:
                return Result("failed", seconds, None)
            assert sha256(getter.folder / "film") == sha256(source)
            first = _connection(getter, shared["peer_id"])
            while first == "relayed" and time.monotonic() - begun < seconds + settle:
                if _connection(getter, shared["peer_id"]) != "relayed":
                    return Result("punched", seconds, time.monotonic() - begun)
            return Result(first, seconds, None if first == "relayed" else seconds)


def _finished(process: Running) -> bool:
    try:
        process.next_event("FetchFinished", 90)
    except AssertionError:
        return False
    return True


def _connection(machine: Machine, peer: str) -> str:
    rows = good(machine.run("peers", "--json")).json["items"]
    ways = {row["relayed"] for row in rows if row["peer_id"] == peer}
    if ways == {True, False}:  # the relayed one is closed after a while
        return "punched"
    return "relayed" if True in ways else "direct"


def main() -> None:
    """Run one pair, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND")
    parser.add_argument("--code", action="store_true", help="by a short code instead of the ticket")
    parser.add_argument("--quic", action="store_true", help="by QUIC alone, in place of TCP")
    parser.add_argument("--only", action="append", choices=KINDS, default=[], help="pairs with one of these")
    parser.add_argument("--picture", action="store_true", help="draw what docs/reach.md says; root is not needed")
    given = parser.parse_args()
    if given.picture:
        nat_picture.write()
        return
    pairs = [tuple(given.kinds)] if given.kinds else list(itertools.product(KINDS, KINDS))
    pairs = [pair for pair in pairs if not given.only or {*given.only} & {*pair}]
    print("| shares | gets | went | file there after | direct after |\n|---|---|---|---|---|")
    for first, second in pairs:
        with tempfile.TemporaryDirectory() as place, two_homes(Path(place), (first, second), quic=given.quic) as homes:
            result = fetch(*homes, code=given.code, quic=given.quic)
        direct = "-" if result.direct_after is None else f"{result.direct_after:.1f} s"
        print(f"| {first} | {second} | {result.way} | {result.seconds:.1f} s | {direct} |", flush=True)


if __name__ == "__main__":
    main()
