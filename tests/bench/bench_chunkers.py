"""How fast content-defined chunkers cut, beside a plain loop over the same bytes.

python -m tests.bench.bench_chunkers
"""

import hashlib
import time
from collections.abc import Callable

from stack.dag.unixfs.chunkers import parse_chunker
from tests.dag.unixfs.test_chunkers import buzhash_by_loop

SIZE = 20_000_000


def rate(work: Callable[[], object], size: int) -> float:
    """MB/s."""
    start = time.perf_counter()
    work()
    return size / (time.perf_counter() - start) / 1e6


def main() -> None:
    data = hashlib.shake_256(b"bench").digest(SIZE)
    for name in "buzhash", "rabin", "rabin-262144-524288-1048576":
        parse_chunker(name).feed(data)
        print(f"{name}: {rate(lambda name=name: parse_chunker(name).feed(data), SIZE):.0f} MB/s")
    part = data[: SIZE // 10]
    print(f"buzhash, a loop over the bytes: {rate(lambda: buzhash_by_loop(part), len(part)):.1f} MB/s")


if __name__ == "__main__":
    main()
