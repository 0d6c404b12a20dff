"""Two homes behind two routers, and a relay that both reach: what `stack get TICKET` does for each pair of routers, and after how long.

    python -m tests.lab.nat [KIND KIND] [--table]      # root; without kinds every pair

Network namespaces; the routers are nft's address translation. Kinds, as far as that can show them: `open` (no router), `full-cone` (one
outside port for one inside, for whoever comes), `address` (only from IP addresses that were spoken to), `port` (only from where was
spoken to: what Linux does by itself), `symmetric` (another outside port for each connection). None maps a port when asked to, or answers
what it does not know.
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

KINDS = ("open", "full-cone", "address", "port", "symmetric")
RELAY = "45.79.1.2"
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
CONE = """
table ip nat {
  map cone { type inet_service : ipv4_addr; flags dynamic; size 1024; }
  set spoken { type ipv4_addr; flags dynamic; size 1024; }
  chain out {
    type nat hook postrouting priority 100
    oifname "wan" meta l4proto tcp update @spoken { ip daddr } update @cone { tcp sport : ip saddr } masquerade
    oifname "wan" masquerade
  }
  chain in {
    type nat hook prerouting priority -100
    iifname "wan" %s meta l4proto tcp dnat to tcp dport map @cone
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
}


def missing() -> str | None:
    """Why this cannot be run here, or None."""
    if (reason := namespaces.missing()) is not None:
        return reason
    return None if shutil.which("nft") else "needs the program `nft` (nftables)"


class Homes(Namespaces):
    """The relay, and a home behind a router of each of these kinds; in the middle a switch for what is outside."""

    def __init__(self, kinds: tuple[str, str]) -> None:
        super().__init__("mid", "relay", "r0", "r1", "h0", "h1")
        self._kinds = kinds
        self._switch, self.relay, *rest = self.names
        self._routers, self.homes = rest[:2], rest[2:]

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
            self._attach(router, f"p{number}", self.outside(number))
            self.join(home, "lan", router, "lan")
            self.give(home, "lan", f"192.168.{number}.2")
            self.give(router, "lan", f"192.168.{number}.1")
            self.inside(home, "ip", "route", "add", "default", "via", f"192.168.{number}.1")
            rules = f"echo 1 > /proc/sys/net/ipv4/ip_forward; nft -f - <<'END'\n{FILTER}{RULES[kind]}\nEND"
            self.inside(router, "sh", "-c", rules)

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


@contextmanager
def two_homes(place: Path, kinds: tuple[str, str]) -> Iterator[tuple[Machine, Machine]]:
    """Both homes, with a friend's relay that carries the first one's files."""
    with Homes(kinds) as net, ExitStack() as stack:
        machines = [
            Machine(place / name, listen=f"/ip4/0.0.0.0/tcp/{PORT}", prefix=net.prefix(namespace))
            for name, namespace in zip(("relay", "sharer", "getter"), (net.relay, *net.homes), strict=True)
        ]
        relay, sharer, getter = machines
        friend = good(sharer.run("id", "--json")).json["peer_id"]
        stack.enter_context(relay.daemon("--relay", "--relay-allow", friend))
        yield sharer, getter


def fetch(sharer: Machine, getter: Machine, *flags: str, size: int = 8 * MIB, settle: float = SETTLE_SECONDS) -> Result:
    """Share here, get there, nothing else typed; then see how the two are connected."""
    source = make_file(sharer.folder / "film", size)
    with sharer.sharing(source, "--relay-via", f"{RELAY}:{PORT}") as (_, shared):
        begun = time.monotonic()
        with getter.start("get", shared["ticket"], "--seed", "--jsonl", "--timeout", "30s", *flags) as process:
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
    kinds = parser.parse_args().kinds
    pairs = [tuple(kinds)] if kinds else list(itertools.product(KINDS, KINDS))
    print("| shares | gets | went | file there after | direct after |\n|---|---|---|---|---|")
    for first, second in pairs:
        with tempfile.TemporaryDirectory() as place, two_homes(Path(place), (first, second)) as homes:
            result = fetch(*homes)
        direct = "-" if result.direct_after is None else f"{result.direct_after:.1f} s"
        print(f"| {first} | {second} | {result.way} | {result.seconds:.1f} s | {direct} |", flush=True)


if __name__ == "__main__":
    main()
