"""Hashing received blocks and handing them over."""

from stack.bitswap.messages import BlockPrefix, Payload
from stack.bitswap.verify import verify
from stack.bitswap.wants import WaiterId, WantedBlocks
from stack.errors import NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW

PREFIX = BlockPrefix(1, RAW, 0x12, 32)


def payload(data: bytes, prefix: BlockPrefix = PREFIX) -> Payload:
    return Payload(prefix, memoryview(data))


def test_blocks_go_to_the_sinks_that_wait_for_them() -> None:
    wanted = WantedBlocks()
    got: list[tuple[Cid, bytes]] = []
    cids = [Cid.of(data) for data in (b"one", b"two")]
    for cid in cids:
        wanted.add(WaiterId(1), cid, lambda cid, data: got.append((cid, bytes(data))))
    verdicts = verify([payload(b"one"), payload(b"two"), payload(b"one")], wanted)
    assert got == [(cids[0], b"one"), (cids[1], b"two")]
    assert [bool(verdict.claim) for verdict in verdicts] == [True, True, False]
    assert [verdict.multihash for verdict in verdicts] == [cids[0].multihash, cids[1].multihash, cids[0].multihash]
    assert [verdict.size for verdict in verdicts] == [3, 3, 3]
    assert all(verdict.data is None and not verdict.failures for verdict in verdicts)


def test_a_block_for_the_store_is_copied_once() -> None:
    wanted = WantedBlocks()
    cid = Cid.of(b"data")
    wanted.add(WaiterId(1), cid, None)
    wanted.add(WaiterId(2), cid, None)
    source = bytearray(b"data")
    verdict = verify([Payload(PREFIX, memoryview(source))], wanted)[0]
    source[0] = 0
    assert verdict.data == b"data"


def test_what_a_sink_raises_is_reported_and_harms_no_other() -> None:
    wanted = WantedBlocks()
    cid = Cid.of(b"data")
    error = NoSpace("full")
    got: list[bytes] = []

    def full(cid: Cid, data: memoryview) -> None:
        raise error

    wanted.add(WaiterId(1), cid, full)
    wanted.add(WaiterId(2), cid, lambda cid, data: got.append(bytes(data)))
    verdict = verify([payload(b"data")], wanted)[0]
    assert verdict.failures == ((WaiterId(1), error),)
    assert got == [b"data"]


def test_a_digest_longer_than_the_function_gives_matches_nothing() -> None:
    verdict = verify([payload(b"data", BlockPrefix(1, RAW, 0x12, 64))], WantedBlocks())[0]
    assert (verdict.multihash, verdict.claim, verdict.size) == (None, (), 4)
