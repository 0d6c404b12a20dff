"""Data like people's data: blocks that repeat, equal files, runs of zeros, a node that is also somebody's leaf, empty files."""

import hashlib
import random
from pathlib import Path

PIECE = 256 * 1024


def fill(place: Path, chance: random.Random, most: int) -> None:
    """Make a file or a folder at `place`, of at most about `most` bytes."""
    kind = chance.choice(("random", "repeated", "zeros", "mixed", "tree", "tree", "small", "empty"))
    if kind == "tree":
        _tree(place, chance, most)
        return
    place.write_bytes(_bytes(kind, chance, chance.randrange(1, most)))


def _bytes(kind: str, chance: random.Random, size: int) -> bytes:
    if kind == "empty":
        return b""
    if kind == "small":
        return chance.randbytes(chance.randrange(1, 2000))
    if kind == "zeros":
        return bytes(size)
    pieces = [chance.randbytes(PIECE) for _ in range(2)] + [bytes(PIECE)]
    if kind == "random":
        return chance.randbytes(size)
    out = bytearray()
    while len(out) < size:
        out += chance.choice(pieces) if kind == "repeated" or chance.random() < 0.5 else chance.randbytes(PIECE)
    return bytes(out[:size]) if kind == "mixed" else bytes(out[: max(PIECE, size // PIECE * PIECE)])


def _tree(place: Path, chance: random.Random, most: int) -> None:
    place.mkdir()
    count = chance.choice((1, 5, 40))
    made: list[bytes] = []
    for number in range(count):
        below = place / chance.choice(("a", "b/c", "."))
        below.mkdir(parents=True, exist_ok=True)
        if made and chance.random() < 0.3:
            data = chance.choice(made)
        else:
            kinds = ("small", "empty") if count > 5 else ("random", "repeated", "zeros", "small", "empty")
            data = _bytes(chance.choice(kinds), chance, max(1, most // count))
        made.append(data)
        (below / f"file {number}").write_bytes(data)


def snapshot(place: Path) -> dict[str, str]:
    """Relative name and hash of each file below `place` (or of itself)."""
    if place.is_file():
        return {"": hashlib.sha256(place.read_bytes()).hexdigest()}
    return {
        file.relative_to(place).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }
