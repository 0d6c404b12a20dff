"""The program that libp2p/unified-testing asks of an implementation, by the newer contract and by the older one of test-plans.

Everything comes by environment variables; only the result goes to stdout. The listener leaves its address in a list of a Redis
server and waits to be ended; the dialler takes it from there, connects, pings, and says how long that took. With
`UPLOAD_BYTES` it is the perf test: so many uploads, downloads and round trips, and how fast they were.
"""

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio

from stack.identity.keys import generate
from stack.identity.peer_id import PeerId
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers import MUXERS
from stack.net.host import Host
from stack.protocols.identify.service import IdentifyService
from stack.protocols.perf.service import PerfService, run_perf
from stack.protocols.ping.service import Pinger, PingService
from stack.security import SECURITY

LISTENS = {"tcp": "/ip4/{}/tcp/0", "ws": "/ip4/{}/tcp/0/ws", "quic-v1": "/ip4/{}/udp/0/quic-v1"}
"""By the names of the contract. wss and the WebRTC ones are not spoken."""
TIMEOUT_SECONDS = 180.0
BITS = 8
GIGA = 1e9


@dataclass(frozen=True)
class Contract:
    """What is asked for; `older` is the contract of libp2p/test-plans."""

    older: bool
    dials: bool
    redis: str
    key: str
    listen: str
    security: str
    muxer: str
    seconds: float


def read(environment: Mapping[str, str]) -> Contract:
    """The contract in these variables. Raises KeyError for one that is missing, or names what we do not speak."""
    older = "is_dialer" in environment
    if older:
        names = {"IS_DIALER": "is_dialer", "REDIS_ADDR": "redis_addr", "TRANSPORT": "transport"}
        names |= {
            "SECURE_CHANNEL": "security",
            "MUXER": "muxer",
            "LISTENER_IP": "ip",
            "TEST_TIMEOUT_SECS": "test_timeout_seconds",
        }
        environment = {new: environment[old] for new, old in names.items() if old in environment}
    return Contract(
        older=older,
        dials=environment["IS_DIALER"] == "true",
        redis=environment.get("REDIS_ADDR", "redis:6379"),
        key="listenerAddr" if older else f"{environment['TEST_KEY']}_listener_multiaddr",
        listen=LISTENS[environment["TRANSPORT"]].format(environment.get("LISTENER_IP", "0.0.0.0")),
        security=environment.get("SECURE_CHANNEL", "noise"),
        muxer=environment.get("MUXER", "yamux"),
        seconds=float(environment.get("TEST_TIMEOUT_SECS", TIMEOUT_SECONDS)),
    )


async def redis(address: str, *words: str) -> list[str]:
    """One command of RESP, and the bulk strings of the answer."""
    host, _, port = address.rpartition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
        received = b""
        while True:
            received += await stream.receive()
            lines = received.decode().split("\r\n")
            kind, count = lines[0][:1], lines[0][1:]
            if kind == "-":
                raise OSError(count)
            if kind in (":", "+") and len(lines) > 1:
                return [count]
            if kind == "*" and len(lines) > 2 * int(count) + 1:
                return lines[2 : 2 * int(count) + 1 : 2]


def only(table: dict[str, str], name: str) -> None:
    """Leave the row whose protocol begins so. Raises KeyError when there is none."""
    rows = {protocol: row for protocol, row in table.items() if protocol.startswith(f"/{name}")}
    if not rows:
        raise KeyError(name)
    table.clear()
    table.update(rows)


async def listen(host: Host, contract: Contract) -> int:
    """Leave our address; the older contract wants a listener that ends by itself to have failed."""
    await host.listen(Multiaddr.parse(contract.listen))
    address = host.addresses()[0].with_peer(str(host.peer_id))
    if not contract.older:
        await redis(contract.redis, "DEL", contract.key)
    await redis(contract.redis, "RPUSH", contract.key, str(address))
    with anyio.move_on_after(contract.seconds if contract.older else math.inf):
        await anyio.sleep_forever()
    return 1


async def dial(host: Host, contract: Contract, environment: Mapping[str, str]) -> int:
    """Connect and measure."""
    _, text = await redis(contract.redis, "BLPOP", contract.key, str(round(contract.seconds)))
    address, name = Multiaddr.parse(text).split_peer()
    assert address is not None and name is not None
    peer = PeerId.parse(name)
    started = time.perf_counter()
    await host.connect(peer, [address])
    async with Pinger(host, peer) as pinger:
        await pinger.ping()
        handshake = (time.perf_counter() - started) * 1000
        rtt = await pinger.ping() * 1000
        if contract.older:
            print(json.dumps({"handshakePlusOneRTTMillis": handshake, "pingRTTMilllis": rtt}))  # sic
        elif "UPLOAD_BYTES" in environment:
            await perf(host, peer, pinger, environment)
        else:
            print(f"latency:\n  handshake_plus_one_rtt: {handshake:.3f}\n  ping_rtt: {rtt:.3f}\n  unit: ms")
    return 0


async def perf(host: Host, peer: PeerId, pinger: Pinger, environment: Mapping[str, str]) -> None:
    """What the perf contract wants to know."""

    async def upload() -> float:
        size = int(environment["UPLOAD_BYTES"])
        return size * BITS / GIGA / (await run_perf(host, peer, size, 0))[0]

    async def download() -> float:
        size = int(environment["DOWNLOAD_BYTES"])
        return size * BITS / GIGA / (await run_perf(host, peer, 0, size))[1]

    async def latency() -> float:
        return await pinger.ping() * 1000

    measures: dict[str, tuple[Callable[[], Awaitable[float]], str]] = {
        "upload": (upload, "Gbps"),
        "download": (download, "Gbps"),
        "latency": (latency, "ms"),
    }
    for name, (measure, unit) in measures.items():
        samples = [await measure() for _ in range(int(environment.get(f"{name.upper()}_ITERATIONS", "10")))]
        print(f"{name}:\n  iterations: {len(samples)}")
        for key, value in summary(samples).items():
            print(f"  {key}: {value}")
        print(f"  unit: {unit}")


def summary(samples: list[float]) -> dict[str, object]:
    """Quartiles of what lies within one and a half times their distance, and what does not."""
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else 3 * samples
    reach = 1.5 * (q3 - q1)
    inside = [one for one in samples if q1 - reach <= one <= q3 + reach]
    outside = [round(one, 3) for one in samples if one not in inside]
    figures = {"min": min(inside), "q1": q1, "median": median, "q3": q3, "max": max(inside)}
    return {key: round(value, 3) for key, value in figures.items()} | {
        "outliers": outside,
        "samples": [round(one, 3) for one in samples],
    }


async def main() -> int:
    """The exit code."""
    contract = read(os.environ)
    only(SECURITY, contract.security)
    only(MUXERS, contract.muxer)
    async with Host(generate()) as host:
        IdentifyService(host)
        PingService(host)
        PerfService(host)
        if not contract.dials:
            return await listen(host, contract)
        with anyio.fail_after(contract.seconds):
            return await dial(host, contract, os.environ)


if __name__ == "__main__":
    sys.exit(anyio.run(main, backend=os.environ.get("STACK_BACKEND", "asyncio")))
