"""The transport and perf contracts of libp2p/unified-testing, newer and older: our program and go-libp2p's in both roles."""

import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from interop.build import command, why_not

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60
KEY = "a5b50d51"

LONG = pytest.mark.skipif(not os.environ.get("STACK_INTEROP_ALL"), reason="NOT TESTED: part of the long form")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not("go") is not None, reason=str(why_not("go"))),
]


class Lists(socketserver.ThreadingTCPServer):
    """As much of Redis as the contracts need: RPUSH, BLPOP, DEL."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.lists: dict[bytes, deque[bytes]] = defaultdict(deque)
        self.changed = threading.Condition()

    def answer(self, words: list[bytes]) -> bytes:
        with self.changed:
            if words[0] == b"DEL":
                return b":%d\r\n" % (self.lists.pop(words[1], None) is not None)
            if words[0] == b"RPUSH":
                self.lists[words[1]].append(words[2])
                self.changed.notify_all()
                return b":1\r\n"
            assert words[0] == b"BLPOP", words
            if not self.changed.wait_for(lambda: self.lists[words[1]], SECONDS):
                return b"*-1\r\n"
            found = self.lists[words[1]].popleft()
            return b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (words[1], found))


class Answer(socketserver.StreamRequestHandler):
    """One client."""

    server: Lists

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            self.wfile.write(self.server.answer(words))


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """Where the lists are."""
    with Lists() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def contract(older: bool, redis: str, transport: str, security: str, dials: bool) -> dict[str, str]:
    """The variables of a role."""
    role = "true" if dials else "false"
    if older:
        names = {"is_dialer": role, "redis_addr": redis, "transport": transport}
        names |= {"security": security, "muxer": "yamux"} if security else {}  # QUIC has its own
        return names | {"ip": "127.0.0.1", "test_timeout_seconds": str(SECONDS)}
    names = {
        "IS_DIALER": role,
        "REDIS_ADDR": redis,
        "TRANSPORT": transport,
    }
    names |= {"SECURE_CHANNEL": security, "MUXER": "yamux"} if security else {}
    return names | {"LISTENER_IP": "127.0.0.1", "TEST_KEY": KEY, "TEST_TIMEOUT_SECS": str(SECONDS)}


def program(kind: str) -> list[str]:
    """How that of an implementation is started."""
    return [sys.executable, "-m", "interop.ours.unified"] if kind == "ours" else list(command(kind))


def measured(
    listener: str, dialler: str, redis: str, *, older: bool, transport: str, security: str = "noise", **more: str
) -> str:
    """What the dialler says of a run in which it has not failed."""

    def environment(dials: bool) -> Mapping[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)} | contract(older, redis, transport, security, dials) | more

    with subprocess.Popen(program(listener), cwd=ROOT, env=environment(False)) as waiting:
        try:
            done = subprocess.run(
                program(dialler), cwd=ROOT, env=environment(True), stdout=subprocess.PIPE, timeout=SECONDS, text=True
            )
            assert waiting.poll() is None
        finally:
            waiting.terminate()
    assert done.returncode == 0
    return done.stdout


def yaml(text: str) -> dict[str, dict[str, str]]:
    """As much of it as the contracts use: two levels."""
    read: dict[str, dict[str, str]] = {}
    section = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if line.startswith("  "):
            read[section][name.strip()] = value.strip()
        else:
            section = name
            read[section] = {}
    return read


@pytest.mark.parametrize("older", [False, True], ids=["unified-testing", "test-plans"])
@pytest.mark.parametrize(
    ("transport", "security"),
    [("tcp", "noise"), ("ws", "noise"), ("tcp", "tls"), pytest.param("ws", "tls", marks=LONG), ("quic-v1", "")],
)
@pytest.mark.parametrize(("listener", "dialler"), [("go", "ours"), ("ours", "go")])
def test_a_dialler_finds_a_listener_and_says_how_long_it_took(
    listener: str, dialler: str, transport: str, security: str, older: bool, redis: str
) -> None:
    began = time.monotonic()
    said = measured(listener, dialler, redis, older=older, transport=transport, security=security)
    if older:
        figures = json.loads(said)
        handshake, rtt = figures["handshakePlusOneRTTMillis"], figures["pingRTTMilllis"]
    else:
        figures = yaml(said)["latency"]
        handshake, rtt = float(figures["handshake_plus_one_rtt"]), float(figures["ping_rtt"])
        assert figures["unit"] == "ms"
    assert 0 < rtt < (time.monotonic() - began) * 1000
    assert 0 < handshake < (time.monotonic() - began) * 1000


@pytest.mark.parametrize(
    ("transport", "security"),
    [("tcp", "noise"), pytest.param("tcp", "tls", marks=LONG), pytest.param("quic-v1", "", marks=LONG)],
)
def test_our_figures_of_perf_with_go(transport: str, security: str) -> None:
    """In the form that its contract asks for."""
    with Lists() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sizes = {"UPLOAD_BYTES": str(1 << 22), "DOWNLOAD_BYTES": str(1 << 22)}
        counts = {f"{what}_ITERATIONS": "5" for what in ("UPLOAD", "DOWNLOAD", "LATENCY")}
        address = f"127.0.0.1:{server.server_address[1]}"
        text = measured("go", "ours", address, older=False, transport=transport, security=security, **sizes, **counts)
        server.shutdown()
    print(f"\n{transport} {security}\n{text}")
    said = yaml(text)
    for name, unit in (("upload", "Gbps"), ("download", "Gbps"), ("latency", "ms")):
        assert (said[name]["iterations"], said[name]["unit"]) == ("5", unit)
        assert 0 < float(said[name]["min"]) <= float(said[name]["median"]) <= float(said[name]["max"])
        assert len(json.loads(said[name]["samples"])) == 5
