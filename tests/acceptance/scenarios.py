"""What may happen while a file moves: kills, stops, restarts, a new address. Short in the tests, long in `long.py`."""

import random
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from stack.cli.output import size as shown
from tests.acceptance.kit import MIB, Json, Machine, Outcome, Running, good, make_file, sha256
from tests.acceptance.namespaces import Wire
from tests.acceptance.relay import Relay

CHECKPOINT_BYTES = 64 * MIB
CHECKPOINT_SECONDS = 2.0
"""A kill costs at most this many bytes, or what came in this time, whichever is less (the data path's promise)."""
ON_THE_WAY = 12 * MIB
"""Sent, by the sharer's counter, and never received: windows of both ends and socket buffers when the receiver dies."""
DAG_PART = 1 / 1000
"""Nodes above the leaves, as a part of the file."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One end of a receiver by SIGKILL."""

    after: float
    """Seconds since it moved."""
    sent: int
    """By the sharer since the kill before."""
    kept: int
    """Gained on record, as told by the next run."""

    @property
    def lost(self) -> int:
        """Bytes to be fetched again."""
        return self.sent - self.kept


@dataclass(frozen=True, slots=True)
class KillReport:
    """What kills cost."""

    size: int
    rate: float
    kills: tuple[Kill, ...]
    sent: int
    """In all, by the sharer's counter."""

    @property
    def allowed(self) -> int:
        """Bytes that one kill may cost."""
        return int(min(CHECKPOINT_BYTES, CHECKPOINT_SECONDS * self.rate)) + ON_THE_WAY

    def __str__(self) -> str:
        costs = ", ".join(f"{kill.lost / MIB:.0f}" for kill in self.kills)
        again = self.sent - self.size
        return (
            f"{shown(self.size)} at {shown(self.rate)}/s, {len(self.kills)} kills: sent {shown(self.sent)}, "
            f"{shown(max(0, again))} again; each kill cost {costs} MiB, allowed {self.allowed / MIB:.0f}"
        )


def free_port() -> int:
    """A port that is free now; asked of the system, so that a node can come back to it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def port_of(shared: Json) -> int:
    """The TCP port of the first address of a share."""
    return int(str(shared["addresses"][0]).split("/")[4])


def killed_and_resumed(place: Path, *, size: int, kills: int, rate: float, seed: int) -> KillReport:
    """`stack get` ended by SIGKILL at random moments and started again each time, until it is complete.

    After each kill the store must pass `stack repo verify`. Fewer kills are reported when the fetch was faster than chance.
    """
    chance = random.Random(seed)
    sharer, receiver = Machine(place / "a"), Machine(place / "b")
    source = make_file(sharer.folder / "file.bin", size, seed)
    moments: list[float] = []
    sent: list[int] = []
    present: list[int] = []
    with sharer.sharing(source, "--open") as (_, shared), Relay(port_of(shared), rate) as relay:
        address = relay.address(shared["peer_id"])
        for number in range(kills + 1):
            moment = chance.uniform(0.0, 2.0 * size / rate / (kills + 1))
            with receiver.start("get", shared["cid"], "--from", address, "-o", "got.bin", "--jsonl") as process:
                present.append(_on_record(process))
                if number == kills or not process.goes_on_for(moment):
                    good(process.wait(60 + 3 * size / rate))
                    break
                process.kill()
            moments.append(moment)
            sent.append(sharer.bytes_sent())
            receiver.verified()
        total = sharer.bytes_sent()
    assert sha256(receiver.folder / "got.bin") == sha256(source)
    done = [
        Kill(moment, sent[index] - (sent[index - 1] if index else 0), present[index + 1] - present[index])
        for index, moment in enumerate(moments)
    ]
    return KillReport(size, rate, tuple(done), total)


def _on_record(process: Running) -> int:
    """Wait until a fetch moves: how much it had from before, as it says itself."""
    present = 0
    while True:
        event = process.next_json()
        if event["event"] == "FetchResumed":
            present = event["bytes_present"]
        # Progress of nothing may be told before what is on record has been read.
        if event["event"] == "FetchFinished" or (event["event"] == "FetchProgress" and event["bytes_done"]):
            return present


def _started(receiver: Machine, shared: Json, relay: Relay, size: int) -> Running:
    """A fetch through the relay that has a quarter of the file; entered by the caller."""
    address = relay.address(shared["peer_id"])
    process = receiver.start("get", shared["cid"], "--from", address, "-o", "got.bin", "--jsonl")
    try:
        process.next_progress(size // 4)
    except BaseException:
        process.kill()
        raise
    return process


def sharer_restarted(place: Path, *, size: int, rate: float) -> Outcome:
    """The sharer is killed in the middle of a fetch and comes back with its identity and port: the fetch goes on."""
    port = free_port()
    sharer = Machine(place / "a", listen=f"/ip4/127.0.0.1/tcp/{port}")
    receiver = Machine(place / "b")
    source = make_file(sharer.folder / "file.bin", size)
    with Relay(port, rate) as relay:
        with sharer.sharing(source, "--open") as (first, shared):
            fetch = _started(receiver, shared, relay, size)
            first.kill()
        with fetch, sharer.sharing(source, "--open") as (_, again):
            assert (again["peer_id"], again["cid"], port_of(again)) == (shared["peer_id"], shared["cid"], port)
            outcome = good(fetch.wait(120 + size / rate))
    assert sha256(receiver.folder / "got.bin") == sha256(source)
    return outcome


def one_stopped(place: Path, *, size: int, rate: float, seconds: float, who: str) -> Outcome:
    """The sharer or the receiver stands still (SIGSTOP), as in a suspended laptop, and wakes: the fetch goes on."""
    sharer, receiver = Machine(place / "a"), Machine(place / "b")
    source = make_file(sharer.folder / "file.bin", size)
    with (
        sharer.sharing(source, "--open") as (serving, shared),
        Relay(port_of(shared), rate) as relay,
        _started(receiver, shared, relay, size) as fetch,
    ):
        stopped = serving if who == "sharer" else fetch
        stopped.send(signal.SIGSTOP)
        assert fetch.goes_on_for(seconds), "it ended while the other end stood still"
        stopped.send(signal.SIGCONT)
        outcome = good(fetch.wait(120 + size / rate))
    assert sha256(receiver.folder / "got.bin") == sha256(source)
    return outcome


def address_changed(place: Path, *, size: int, mbit: int) -> Outcome:
    """The receiver gets another IP address in the middle of a fetch: it dials again and goes on. Needs root."""
    with Wire(mbit) as wire:
        sharer = Machine(place / "a", listen="/ip4/0.0.0.0/tcp/0", prefix=wire.prefix(wire.left))
        receiver = Machine(place / "b", listen="/ip4/0.0.0.0/tcp/0", prefix=wire.prefix(wire.right))
        source = make_file(sharer.folder / "file.bin", size)
        with (
            sharer.sharing(source, "--open") as (_, shared),
            receiver.start("get", shared["ticket"], "-o", "got.bin", "--jsonl") as fetch,
        ):
            fetch.next_progress(size // 4)
            wire.move(wire.right, wire.RIGHT, "10.77.0.3")
            outcome = good(fetch.wait(120 + 8 * size / (mbit * 1e6)))
        assert sha256(receiver.folder / "got.bin") == sha256(source)
        return outcome


def demo(place: Path, *, size: int, peers: int) -> Json:
    """`stack demo`: what its last round showed."""
    machine = Machine(place / "demo", settings={"TMPDIR": str(place)})
    outcome = good(machine.run("demo", "--size", str(size), "--peers", str(peers), "--json", timeout=900))
    last: Json = outcome.json["items"][-1]
    assert last["receivers"] == peers
    assert last["hashes_match"] is True
    return last
