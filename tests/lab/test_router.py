"""A home behind a real router (miniupnpd): its door is opened by each protocol, kept open, shut at the end, and after kill -9 when its
time is over.

Needs root, nft and miniupnpd (Debian: miniupnpd-nftables).
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance import namespaces
from tests.acceptance.kit import temporary_place, until

PROTOCOLS = {"PCP": 4001, "NAT-PMP": 4002, "UPnP": 4003}
"""And the port of who speaks nothing else: the router knows all of them."""
LEASE_SECONDS = 3
"""In place of ten minutes, so that the test ends. The router is told to grant no less than 2, its own bound is two minutes."""
HOLD = f"""
import sys, anyio
from stack.identity.keys import generate
from stack.multiformats.multiaddr import Multiaddr
from stack.net.host import Host
from stack.portmap import lease
from stack.portmap.shell import mapper
backend, protocol, port = sys.argv[1:]
lease.LEASE_SECONDS = mapper.LEASE_SECONDS = {LEASE_SECONDS}
lease.LEASE_SECONDS_MIN = 1
class Lease(lease.Lease):
    def __init__(self, *rest):
        super().__init__(*rest)
        if protocol == "NAT-PMP":
            self._begin(lease.PMP_VERSION)
        if protocol == "UPnP":
            self._give_up(lease.DEAF, rest[-1])
mapper.Lease = Lease
async def main():
    async with Host(generate()) as host:
        await host.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/" + port))
        async with mapper.PortMapper.open(host) as ports:
            await ports.settle()
            print(ports.facts()[0].mapping, host.addresses()[0], flush=True)
            with anyio.open_signal_receiver(2) as signals:
                async for _ in signals:
                    return
anyio.run(main, backend=backend)
"""
RULES = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; oifname "out" masquerade; }
}
"""
SETTINGS = """
ext_ifname=out
listening_ip=in
enable_natpmp=yes
enable_upnp=yes
min_lifetime=2
uuid=6b0d9a8e-0000-4000-8000-000000000001
upnp_table_name=filter
upnp_nat_table_name=filter
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def why_not() -> str | None:
    for tool in ("miniupnpd", "nft"):
        if shutil.which(tool) is None:
            return f"needs the program `{tool}`"
    return namespaces.missing()


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"NOT TESTED: a real router; {WHY_NOT}")


class Home(namespaces.Namespaces):
    """A computer at 192.168.77.2 behind a router whose outer address is public."""

    def __init__(self) -> None:
        super().__init__("home", "router", "world")

    def _build(self) -> None:
        home, router, world = self.names
        self.join(home, "wire", router, "in")
        self.join(router, "out", world, "wire")
        for name, device, address in (
            (home, "wire", "192.168.77.2"),
            (router, "in", "192.168.77.1"),
            (router, "out", "9.77.0.1"),
            (world, "wire", "9.77.0.2"),
        ):
            self.give(name, device, address)
        self.inside(home, "ip", "route", "add", "default", "via", "192.168.77.1")
        subprocess.run([*namespaces.prefix(router), "nft", "-f", "-"], input=RULES, text=True, check=True)


@pytest.fixture
def home() -> Iterator[Home]:
    """A home with its router."""
    with temporary_place() as place, Home() as built:
        settings = place / "miniupnpd.conf"
        settings.write_text(SETTINGS)
        command = [*built.prefix(1), "miniupnpd", "-d", "-f", str(settings), "-P", str(place / "pid")]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as router:
            try:
                until((place / "pid").exists, 10, "the router")
                yield built
            finally:
                router.terminate()


def doors(home: Home) -> int:
    """How many ports the router has open."""
    command = [*home.prefix(1), "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.count("dnat")


@contextmanager
def holding(home: Home, backend: str) -> "Iterator[list[subprocess.Popen[str]]]":
    """A host for each protocol, each of which holds its port open until it gets SIGINT, with what they tell of it."""
    tree = str(Path(__file__).parents[2])
    with ExitStack() as stack:
        hosts = []
        for protocol, port in PROTOCOLS.items():
            command = [*home.prefix(0), sys.executable, "-c", HOLD, backend, protocol, str(port)]
            environment = {**os.environ, "PYTHONPATH": tree}
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
            stack.callback(process.kill)
            hosts.append(process)
        for process, (protocol, port) in zip(hosts, PROTOCOLS.items(), strict=True):
            assert process.stdout is not None
            told = process.stdout.readline()
            assert f"protocol='{protocol}'" in told and f"/ip4/9.77.0.1/tcp/{port}" in told
        yield hosts


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_door_is_open_while_the_node_runs_and_shut_after_it(home: Home, backend: str) -> None:
    with holding(home, backend) as hosts:
        assert doors(home) == len(hosts)
        for process in hosts:
            process.send_signal(signal.SIGINT)
        assert [process.wait(10) for process in hosts] == [0] * len(hosts)
    assert doors(home) == 0


def test_the_door_is_renewed_and_falls_shut_after_kill_9(home: Home) -> None:
    with holding(home, "asyncio") as hosts:
        began = time.monotonic()
        while time.monotonic() - began < 1.2 * LEASE_SECONDS:
            # This router renews by shutting and opening: for a few ms one is missing.
            until(lambda: doors(home) == len(hosts), LEASE_SECONDS / 10, "every door is open")
            time.sleep(LEASE_SECONDS / 10)
        for process in hosts:
            process.kill()
            process.wait(10)
    assert doors(home) == len(hosts)
    until(lambda: doors(home) == 0, 3 * LEASE_SECONDS, "the door falls shut")
