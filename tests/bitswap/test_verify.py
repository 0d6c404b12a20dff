"""Hashing received blocks and handing them over."""

from stack.bitswap.messages import BlockPrefix, Payload
from stack.bitswap.verify import verify
from stack.bitswap.wants import Taker, WantedBlocks
from stack.errors import NoSpace
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import RAW
from tests.bitswap.test_wants import Waiting

PREFIX = BlockPrefix(1, RAW, 0x12, 32)


def payload(data: bytes, prefix: BlockPrefix = PREFIX) -> Payload:
    return Payload(prefix, memoryview(data))


def test_blocks_go_to_those_who_wait_for_them_and_the_book_is_left_as_it_was() -> None:
    wanted = WantedBlocks()
    call, other = Waiting(), Waiting()
    cids = [Cid.of(data) for data in (b"one", b"two")]
    for cid in cids:
        wanted.add(call, cid)
    wanted.add(other, cids[1])
    verdicts = verify([payload(b"one"), payload(b"two"), payload(b"three")], wanted)
    assert call.got == [(cids[0], b"one"), (cids[1], b"two")]
    assert other.got == [(cids[1], b"two")]
    assert [verdict.served for verdict in verdicts] == [
        (Taker(call, cids[0]),),
        (Taker(call, cids[1]), Taker(other, cids[1])),
        (),
    ]
    assert [verdict.multihash for verdict in verdicts] == [*(cid.multihash for cid in cids), Cid.of(b"three").multihash]
    assert [verdict.size for verdict in verdicts] == [3, 3, 5]
    assert not any(verdict.failures for verdict in verdicts)
    assert len(wanted) == 2


def test_what_a_sink_raises_is_reported_and_harms_no_other() -> None:
    wanted = WantedBlocks()
    cid = Cid.of(b"data")
    error = NoSpace("full")
    full, other = Waiting(error=error), Waiting()
    wanted.add(full, cid)
    wanted.add(other, cid)
    verdict = verify([payload(b"data")], wanted)[0]
    assert verdict.failures == ((full, error),)
    assert verdict.served == (Taker(full, cid), Taker(other, cid))
    assert other.got == [(cid, b"data")]


def test_a_digest_longer_than_the_function_gives_matches_nothing() -> None:
    verdict = verify([payload(b"data", BlockPrefix(1, RAW, 0x12, 64))], WantedBlocks())[0]
    assert (verdict.multihash, verdict.served, verdict.size) == (None, (), 4)
