"""`stack` as a process that writes down everything it is told: `python -m tests.acceptance.overhearing FOLDER ARGUMENTS...`.

Connections are encrypted, so what a bystander learns is what it decrypts itself: each connection's plaintext, whatever the
protocol, goes into a file of its own.
"""

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import stack.cli
from stack.announce.keyspace import announce_key
from stack.multiformats.cid import Cid
from stack.security.noise.frames import NoiseSession
from tests.acceptance.kit import Machine
from tests.acceptance.process import Running

READY = "Daemon is ready"


@contextmanager
def overhearing(machine: Machine, *arguments: str) -> Iterator[Running]:
    """A daemon on this machine that writes down what it is told, ready."""
    with machine.module("tests.acceptance.overhearing", str(heard(machine)), "daemon", *arguments) as process:
        while process.next_line() != READY:
            pass
        yield process


def heard(machine: Machine) -> Path:
    """Where a machine writes down what it is told."""
    return machine.folder / "heard"


def learned(machines: list[Machine], cid: Cid, name: str, secret: bytes = b"") -> set[str]:
    """What of a share occurs in all that these machines were told: its `cid`, its `key`, its `name`, the `secret` of its ticket."""
    needles = {
        "cid": (cid.digest, str(cid).encode()),
        "key": (announce_key(cid.multihash),),
        "name": (name.encode(),),
        "secret": (secret,) if secret else (),
    }
    told = [path.read_bytes() for machine in machines for path in sorted(heard(machine).iterdir())]
    assert told, "nobody was told anything: this shows nothing"
    return {what for what, forms in needles.items() if any(form in data for form in forms for data in told)}


def main(folder: Path, arguments: list[str]) -> None:
    """Run `stack ARGUMENTS`."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count()
    files: dict[int, Path] = {}
    opened = NoiseSession.open

    def open_and_write(self: NoiseSession, data: memoryview) -> tuple[int, memoryview] | None:
        frame = opened(self, data)
        if frame is not None:
            if id(self) not in files:
                files[id(self)] = folder / str(next(numbers))
            with files[id(self)].open("ab") as file:
                file.write(frame[1])
        return frame

    NoiseSession.open = open_and_write  # type: ignore[method-assign] # this process is there to be looked into
    sys.argv = ["stack", *arguments]
    stack.cli.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
