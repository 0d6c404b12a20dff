"""A peer that obeys the lines of ../lines.md, as far as Kubo has commands for them: a daemon of its own, driven by its RPC."""

import argparse
import base64
import json
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from interop.kubo.daemon import Kubo

LOOK_SECONDS = 0.05
"""Between two looks at who is connected: its RPC tells nobody of it."""
UNKNOWN = "?"
"""What its RPC does not tell."""

_lock = threading.Lock()


def say(*words: object) -> None:
    """A line to whoever drives us."""
    with _lock:
        print(*words, flush=True)


def multibase(data: bytes) -> str:
    """As its RPC takes topics."""
    return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_multibase(text: str) -> bytes:
    """As its RPC gives topics and data."""
    return base64.urlsafe_b64decode(text[1:] + "=" * (-(len(text) - 1) % 4))


class Peer:
    """Commands are methods; a line of words is a call."""

    def __init__(self, kubo: Kubo) -> None:
        self._kubo = kubo
        self._ended: dict[str, threading.Event] = {}

    def watch(self) -> None:
        """Tell of connections, until the daemon has ended."""
        known: set[str] = set()
        while True:
            try:
                rows = self._kubo.ask("swarm/peers")["Peers"] or []
            except OSError:
                return
            now = {row["Peer"] for row in rows}  # type: ignore[attr-defined]
            for peer in now - known:
                say("connected", peer)
            for peer in known - now:
                say("disconnected", peer)
            known = now
            time.sleep(LOOK_SECONDS)

    def connect(self, address: str) -> None:
        self._kubo.run("swarm", "connect", address)

    def disconnect(self, peer: str) -> None:
        self._kubo.run("swarm", "disconnect", f"/p2p/{peer}")

    def agent(self) -> None:
        say("agent", self._kubo.ask("id")["AgentVersion"])

    def identify(self, peer: str) -> None:
        told = self._kubo.ask("id", arg=peer)
        protocols = told["Protocols"]
        if not protocols:
            say("unidentified", peer)
            return
        say("identified", peer, told["AgentVersion"], UNKNOWN, UNKNOWN, ",".join(map(str, protocols)))  # type: ignore[call-overload]

    def ping(self, peer: str) -> None:
        pongs = self._kubo.run("ping", "-n", "1", peer).decode()
        say(*("pong", peer, UNKNOWN) if "Pong received" in pongs else ("error", pongs))

    def serve(self, path: str, version: str, chunk: str) -> None:
        raw = f"--raw-leaves={'true' if version == '1' else 'false'}"
        root = self._kubo.run("add", "-Q", "-r", "--cid-version", version, raw, f"--chunker=size-{chunk}", path)
        say("serving", root.decode().strip())

    def fetch(self, peer: str, root: str, path: str) -> None:
        self._kubo.run("get", "-o", path, root)
        say("fetched", root)

    def subscribe(self, topic: str) -> None:
        begun, self._ended[topic] = threading.Event(), threading.Event()
        threading.Thread(target=self._read, args=(topic, begun), daemon=True).start()
        begun.wait()
        say("subscribed", topic)

    def unsubscribe(self, topic: str) -> None:
        self._ended.pop(topic).set()
        say("unsubscribed", topic)

    def publish(self, topic: str, data: str) -> None:
        path = Path(self._kubo.repository) / "message"
        path.write_bytes(bytes.fromhex(data))
        self._kubo.run("pubsub", "pub", topic, str(path))
        say("published", topic)

    def peers(self, topic: str) -> None:
        found = self._kubo.ask("pubsub/peers", arg=multibase(topic.encode()))["Strings"] or []
        say("peers", topic, ",".join(found))  # type: ignore[arg-type]

    def _read(self, topic: str, begun: threading.Event) -> None:
        ended = self._ended[topic]
        query = urllib.parse.urlencode({"arg": multibase(topic.encode())})
        request = urllib.request.Request(f"{self._kubo.api()}/pubsub/sub?{query}", method="POST")
        with urllib.request.urlopen(request) as lines:
            begun.set()
            for line in lines:
                if ended.is_set():
                    return
                message = json.loads(line)
                say("message", topic, message["from"], from_multibase(message["data"]).hex())


def relaying(role: str) -> dict[str, object]:
    """Settings for a role: a service that also tries for others whether they are reached, a client, or who has a place at a relay."""
    if role == "no":
        return {}
    if role == "service":
        public = {"Internal.Libp2pForceReachability": "public", "AutoNAT.ServiceMode": "enabled"}
        return {"Swarm.RelayService.Enabled": True, **public}
    relays: list[str] = [] if role == "client" else [role]
    private = {"Internal.Libp2pForceReachability": "private", "Swarm.EnableHolePunching": True}
    return {**private, "Swarm.RelayClient": {"Enabled": True, "StaticRelays": relays}}


def main() -> None:
    """Obey until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--security", default="noise")
    parser.add_argument("--muxer", default="yamux")
    parser.add_argument("--secret")
    parser.add_argument("--certificates")
    parser.add_argument("--relay", default="no")
    given = parser.parse_args()
    settings: dict[str, object] = {
        # It takes a certificate from nobody but AutoTLS, and only dials then.
        "Addresses.Swarm": [given.listen.removesuffix("/tls/ws")],
        "Pubsub.Enabled": True,
        **relaying(given.relay),
    }
    if given.security != "none":  # of QUIC, which has its own
        settings["Swarm.Transports.Security"] = {
            name: 100 if name.lower() == given.security else False for name in ("TLS", "Noise")
        }
    with (
        tempfile.TemporaryDirectory(prefix="stack-kubo-") as folder,
        Kubo(Path(folder), settings=settings).running() as kubo,
    ):
        peer = Peer(kubo)
        threading.Thread(target=peer.watch, daemon=True).start()
        address, *_ = kubo.ask("id")["Addresses"]  # type: ignore[misc]
        say("ready", kubo.ask("id")["ID"], address)
        for line in sys.stdin:
            name, *words = line.split()
            if name == "quit":
                break
            command: Callable[..., None] = getattr(peer, name)
            try:
                command(*words)
            except (RuntimeError, OSError) as error:
                say("error", repr(error))


if __name__ == "__main__":
    main()
