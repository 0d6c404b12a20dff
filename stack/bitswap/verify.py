"""Received blocks are hashed and handed over here, in the worker thread. Pure."""

from collections.abc import Iterable

from stack.bitswap.messages import Payload
from stack.bitswap.wants import Call, Takers, WantedBlocks
from stack.errors import DecodeError
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one received block."""

    multihash: bytes | None
    """Of the bytes that came; None when they cannot be hashed as their prefix says."""
    size: int
    served: Takers
    """Who waited for it when it was handed over; empty when nobody did."""
    failures: tuple[tuple[Call, Exception], ...]
    """Calls whose sink raised."""


def verify(blocks: Iterable[Payload], wanted: WantedBlocks) -> list[Verdict]:
    """Hash each block and hand it to those who wait for it. Nothing in `wanted` changes."""
    return [_verify(block, wanted) for block in blocks]


def _verify(block: Payload, wanted: WantedBlocks) -> Verdict:
    size = len(block.data)
    try:
        multihash = block.prefix.multihash_of(block.data)
    except DecodeError:
        return Verdict(multihash=None, size=size, served=(), failures=())
    served = wanted.takers(multihash)
    failures: list[tuple[Call, Exception]] = []
    for call, cid in served:
        try:
            call.take(cid, block.data)
        except Exception as error:  # noqa: BLE001 - a sink is the caller's; what it raises fails the caller's session only
            failures.append((call, error))
    return Verdict(multihash=multihash, size=size, served=served, failures=tuple(failures))
