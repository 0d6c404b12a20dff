"""Recorded inputs, changed at random, into every parser of foreign bytes and every machine that reads a stream.

    python -m tests.fuzz.engine --inputs 10000000 [NAME...]

feeds each target so many inputs; input `n` of a target is always the same, and what goes wrong is told with its number and bytes.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stack.errors import StackError

INPUT_BYTES_MAX = 4096
SLOW_SECONDS = 0.25
"""CPU time of one input: a few KiB cost milliseconds; much more is an attack."""
PIECES = (b"\xff" * 9, b"\x80" * 4, b"\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\x0a\x00", b"\x80\x80\x04")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads what strangers wrote."""

    name: str
    seeds: Sequence[bytes]
    read: Callable[[bytes], object]
    """Raises nothing but StackError."""
    slow: float = SLOW_SECONDS
    """CPU seconds that are too many for one input."""


def mutated(source: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One seed with a few bytes changed, cut out, doubled, or replaced by a part of another."""
    data = bytearray(source.choice(seeds)[:INPUT_BYTES_MAX])
    for _ in range(source.randrange(1, 5)):
        start = source.randrange(len(data) + 1)
        stop = min(len(data), start + source.randrange(1, 9))
        match source.randrange(6):
            case 0:
                data[start:stop] = source.randbytes(stop - start)
            case 1:
                del data[start:stop]
            case 2:
                data[start:start] = data[start:stop] * source.choice((1, 1, 1, 50))
            case 3:
                data[start:stop] = source.choice(seeds)[start : start + 64]
            case 4:
                data[start:stop] = source.choice(PIECES)
            case 5:
                if start < stop:
                    data[start] ^= 1 << source.randrange(8)
    return bytes(data[: 2 * INPUT_BYTES_MAX])


class Found(AssertionError):
    """An input that was neither read nor refused."""


def try_one(target: Target, number: int) -> None:
    """Input `number` of a target. Raises Found."""
    data = mutated(random.Random(number), target.seeds)
    begun = time.thread_time()
    try:
        target.read(data)
    except StackError:
        pass
    except Exception as error:  # whatever it is: said with the bytes that caused it
        raise Found(f"{target.name}, input {number}: {error!r}: {data.hex()}") from error
    if time.thread_time() - begun > target.slow:
        raise Found(f"{target.name}, input {number}: {time.thread_time() - begun:.2f} s: {data.hex()}")


def run(target: Target, *, inputs: int | None = None, seconds: float | None = None, first: int = 0) -> int:
    """Inputs from `first` on, so many or for so long; returns how many. Raises Found."""
    until = time.monotonic() + seconds if seconds is not None else None
    number = first
    while (inputs is None or number - first < inputs) and (until is None or time.monotonic() < until):
        for _ in range(16):
            try_one(target, number)
            number += 1
    return number - first


def main(arguments: Sequence[str] | None = None) -> int:
    """Run targets; 1 when something was found."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    options = parser.parse_args(arguments)
    bad = 0
    for target in TARGETS:
        if options.names and target.name not in options.names:
            continue
        begun = time.monotonic()
        try:
            count = run(target, inputs=options.inputs, seconds=options.seconds, first=options.first)
            print(f"{target.name}: {count} inputs in {time.monotonic() - begun:.0f} s", flush=True)
        except Found as found:
            bad += 1
            print(found, flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
