"""One stream over TCP, Noise or TLS, and yamux between two processes on loopback: rate, CPU time of both ends, copies a byte.

    python tests/bench/bench_streams.py [--backend asyncio|trio] [--security noise|tls] [--mib 1024] [--chunk 262144]

`up` is the dialler sending, `down` receiving; go-libp2p 0.51 gives 402 and 418 MiB/s and 3.6 CPU-seconds a GiB.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stack.identity.keys import PrivateKey, generate
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.shell import YamuxConnection, YamuxMuxer
from stack.sansio.budget import Scope
from stack.security.interfaces import Security
from stack.security.noise.shell import NoiseSecurity
from stack.security.tls.shell import TlsSecurity
from stack.streams.interfaces import MuxedStream
from stack.streams.socket import SocketStream

MIB = 1 << 20
HERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
ROUNDS = 300
SECURITY: dict[str, Callable[[PrivateKey], Security]] = {"noise": NoiseSecurity, "tls": TlsSecurity}


async def connected(raw: socket.socket, secured_by: str, *, outbound: bool) -> YamuxConnection:
    """The connection on a connected socket; not running yet."""
    stream = SocketStream(raw, local_address=HERE, remote_address=HERE)
    security = SECURITY[secured_by](generate())
    channel = await security.upgrade(stream, outbound=outbound, expected=None, muxers=["/yamux/1.0.0"])
    return YamuxMuxer().connection(channel, outbound=outbound, scope=Scope("bench", {}))


async def give(stream: MuxedStream, size: int, chunk: int) -> None:
    data = bytes(chunk)
    while size:
        size -= chunk
        await stream.send(data)


async def take(stream: MuxedStream, size: int, chunk: int) -> None:
    buffer = memoryview(bytearray(chunk))
    while size:
        size -= await stream.receive_into(buffer[: min(chunk, size)])


async def ready(stream: MuxedStream) -> None:
    await take(stream, 1, 1)


async def session(connection: YamuxConnection, *, outbound: bool, size: int, chunk: int) -> dict[str, float]:
    """Both directions, one after the other, then round trips and new streams; CPU-seconds of this end for each."""
    results: dict[str, float] = {}
    began: list[float] = []

    async def measure(name: str, work: Callable[[], Awaitable[None]]) -> None:
        if outbound:
            await stream.send(b"?")
            await ready(stream)
        else:
            await ready(stream)
            await stream.send(b"!")
        wall, cpu = time.perf_counter(), time.process_time()
        await work()
        results[name + "_seconds"] = time.perf_counter() - wall
        if began:
            results[name + "_median"] = median(later - sooner for sooner, later in pairwise(began))
            began.clear()
        results[name + "_cpu"] = time.process_time() - cpu

    async def up() -> None:
        if outbound:
            await give(stream, size, chunk)
            await ready(stream)
        else:
            await take(stream, size, chunk)
            await stream.send(b".")

    async def down() -> None:
        if outbound:
            await take(stream, size, chunk)
            await stream.send(b".")
        else:
            await give(stream, size, chunk)
            await ready(stream)

    async def round_trips() -> None:
        for _ in range(ROUNDS):
            began.append(time.perf_counter())
            if outbound:
                await stream.send(bytes(32))
                await take(stream, 32, 32)
            else:
                await take(stream, 32, 32)
                await stream.send(bytes(32))

    async def new_streams() -> None:
        for _ in range(ROUNDS):
            began.append(time.perf_counter())
            fresh = await (connection.open_stream() if outbound else connection.accept_stream())
            if outbound:
                await fresh.send(b"1")
                await ready(fresh)
            else:
                await ready(fresh)
                await fresh.send(b"1")
            await fresh.aclose()

    stream = await (connection.open_stream() if outbound else connection.accept_stream())
    await measure("up", up)
    await measure("down", down)
    await measure("round_trips", round_trips)
    await measure("new_streams", new_streams)
    counters = connection.machine.counters
    results["copies_in"] = counters.copied_in / counters.received
    results["copies_out"] = counters.copied_out / counters.sent
    await stream.send(b"#") if outbound else await ready(stream)
    return results


async def one_end(descriptor: int, secured_by: str, outbound: bool, size: int, chunk: int) -> dict[str, float]:
    connection = await connected(socket.socket(fileno=descriptor), secured_by, outbound=outbound)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connection.run)
        results = await session(connection, outbound=outbound, size=size, chunk=chunk)
        if outbound:
            await anyio.sleep(0.05)
        await connection.aclose()
    return results


def sockets() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        second, _ = server.accept()
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--security", default="noise", choices=SECURITY)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=262144)
    parser.add_argument("--child", type=int)
    parser.add_argument("--profile")
    options = parser.parse_args()
    size = options.mib * MIB
    if options.child is not None:
        end = options.child, options.security, True, size, options.chunk
        print(json.dumps(anyio.run(one_end, *end, backend=options.backend)))
        return
    first, second = sockets()
    command = [sys.executable, __file__, "--child", str(first.fileno()), "--backend", options.backend]
    command += ["--security", options.security, "--mib", str(options.mib), "--chunk", str(options.chunk)]
    child = subprocess.Popen(command, pass_fds=[first.fileno()], stdout=subprocess.PIPE, env=dict(os.environ))
    first.close()
    if options.profile:
        import cProfile

        profile = cProfile.Profile()
        profile.enable()
    accepting = anyio.run(
        one_end, second.detach(), options.security, False, size, options.chunk, backend=options.backend
    )
    if options.profile:
        profile.disable()
        profile.dump_stats(options.profile)
    dialling = json.loads(child.communicate()[0])
    gib = size / 2**30
    print(f"{options.backend}, {options.security}, chunks of {options.chunk}")
    for name, sender, receiver in (("up", dialling, accepting), ("down", accepting, dialling)):
        rate = options.mib / max(sender[name + "_seconds"], receiver[name + "_seconds"])
        cpu = [end[name + "_cpu"] / gib for end in (sender, receiver)]
        print(f"  {name:5} {rate:7.0f} MiB/s   CPU-seconds a GiB: sender {cpu[0]:.2f}, receiver {cpu[1]:.2f}")
    print(f"  copies a byte: out {dialling['copies_out']:.2f}, in {accepting['copies_in']:.2f}")
    for name, words in (("round_trips", "round trip"), ("new_streams", "new stream with echo")):
        cpu = (dialling[name + "_cpu"] + accepting[name + "_cpu"]) / ROUNDS
        print(f"  {words}: median {dialling[name + '_median'] * 1e6:.0f} us, CPU of both ends {cpu * 1e6:.0f} us")


if __name__ == "__main__":
    main()
