"""Received blocks are hashed and handed over here, in one worker call for many of them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from stack.bitswap.messages import Payload
from stack.bitswap.wants import Claim, WaiterId, WantedBlocks
from stack.errors import DecodeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one received block."""

    multihash: bytes | None
    """Of the bytes that came; None when they cannot be hashed as their prefix says."""
    size: int
    claim: Claim
    """Who waited for it; empty when nobody did, or another copy came first."""
    data: bytes | None
    """A copy, when somebody wants it in the store."""
    failures: tuple[tuple[WaiterId, Exception], ...]
    """Sinks that raised."""


def verify(blocks: Iterable[Payload], wanted: WantedBlocks) -> list[Verdict]:
    """Hash each block, find who waits for it, call the sinks. For worker threads."""
    return [_verify(block, wanted) for block in blocks]


def _verify(block: Payload, wanted: WantedBlocks) -> Verdict:
    size = len(block.data)
    try:
        multihash = block.prefix.multihash_of(block.data)
    except DecodeError:
        return Verdict(multihash=None, size=size, claim=(), data=None, failures=())
    claim = wanted.claim(multihash)
    data = None
    failures: list[tuple[WaiterId, Exception]] = []
    for waiter, cid, sink in claim:
        if sink is None:
            data = data if data is not None else bytes(block.data)
            continue
        try:
            sink(cid, block.data)
        except Exception as error:  # noqa: BLE001 - a sink is the caller's; what it raises fails the caller's session only
            failures.append((waiter, error))
    return Verdict(multihash=multihash, size=size, claim=claim, data=data, failures=tuple(failures))
