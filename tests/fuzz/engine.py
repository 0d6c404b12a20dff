"""Recorded inputs, changed at random, into every parser of foreign bytes and every machine that reads a stream.

    python -m tests.fuzz.engine --inputs 10000000 [NAME...]

feeds each target so many inputs; input `n` of a target is always the same, and what goes wrong is told with its number and bytes.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from stack.errors import StackError

INPUT_BYTES_MAX = 4096
SLOW_SECONDS = 0.25
"""CPU time of one input: a few KiB cost milliseconds; much more is an attack."""
GROUP = 64
"""Inputs of one random source."""
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
    below = source.random
    data = bytearray(seeds[int(below() * len(seeds))][:INPUT_BYTES_MAX])
    for _ in range(1 + int(below() * 4)):
        start = int(below() * (len(data) + 1))
        stop = min(len(data), start + 1 + int(below() * 8))
        match int(below() * 6):
            case 0:
                data[start:stop] = source.randbytes(stop - start)
            case 1:
                del data[start:stop]
            case 2:
                data[start:start] = data[start:stop] * (50 if below() < 0.25 else 1)
            case 3:
                data[start:stop] = seeds[int(below() * len(seeds))][start : start + 64]
            case 4:
                data[start:stop] = PIECES[int(below() * len(PIECES))]
            case 5:
                if start < stop:
                    data[start] ^= 1 << int(below() * 8)
    return bytes(data[: 2 * INPUT_BYTES_MAX])


def inputs(target: Target, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Inputs from `first` on with their numbers, without end. Some come of one source: to seed one costs as much as to read."""
    for group in count(first // GROUP):
        source = random.Random(group)
        for number in range(group * GROUP, (group + 1) * GROUP):
            data = mutated(source, target.seeds)
            if number >= first:
                yield number, data


class Found(AssertionError):
    """An input that was neither read nor refused."""


def try_one(target: Target, number: int, data: bytes) -> None:
    """Input `number` of a target. Raises Found."""
    begun = time.thread_time()
    try:
        target.read(data)
    except StackError:
        pass
    except Exception as error:  # whatever it is: said with the bytes that caused it
        raise Found(f"{target.name}, input {number}: {error!r}: {data.hex()}") from error
    if time.thread_time() - begun > target.slow:
        raise Found(f"{target.name}, input {number}: {time.thread_time() - begun:.2f} s: {data.hex()}")


def run(target: Target, *, most: int | None = None, seconds: float | None = None, first: int = 0) -> int:
    """Inputs from `first` on, so many or for so long; returns how many. Raises Found."""
    until = time.monotonic() + seconds if seconds is not None else None
    for number, data in inputs(target, first):
        done = number - first
        if done == most or (until is not None and done % 16 == 0 and time.monotonic() >= until):
            return done
        try_one(target, number, data)
    raise AssertionError("inputs have no end")


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
            tried = run(target, most=options.inputs, seconds=options.seconds, first=options.first)
            print(f"{target.name}: {tried} inputs in {time.monotonic() - begun:.0f} s", flush=True)
        except Found as found:
            bad += 1
            print(found, flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
