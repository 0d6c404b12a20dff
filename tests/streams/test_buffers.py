"""The pool of buffers."""

from stack.streams.buffers import BUFFER_BYTES, FRAME_BYTES, KEPT_MAX, KEPT_MIN, BufferPool


def test_buffers_are_lent_counted_and_used_again() -> None:
    pool = BufferPool()
    first = pool.borrow()
    assert len(first) == BUFFER_BYTES == 5 * FRAME_BYTES == 327685
    assert pool.lent == 1
    pool.give_back(first)
    assert pool.lent == 0
    assert pool.borrow() is first


def test_beyond_the_budget_small_buffers_are_lent_and_forgotten() -> None:
    pool = BufferPool(2 * BUFFER_BYTES)
    large = [pool.borrow(), pool.borrow()]
    small = pool.borrow()
    assert [len(buffer) for buffer in large] == [BUFFER_BYTES] * 2
    assert len(small) == FRAME_BYTES
    assert pool.lent == 2
    pool.give_back(small)
    assert pool.lent == 2
    pool.give_back(large[0])
    assert pool.borrow() is large[0]


def test_buffers_are_scarce_from_half_of_the_budget_on() -> None:
    pool = BufferPool(4 * BUFFER_BYTES)
    pool.borrow()
    assert not pool.scarce
    pool.borrow()
    assert pool.scarce
    assert repr(pool) == "<BufferPool 2 of 4 lent, 0 free>"


def test_only_some_free_buffers_are_kept() -> None:
    pool = BufferPool()
    buffers = [pool.borrow() for _ in range(2 * KEPT_MAX)]
    for buffer in buffers[KEPT_MAX:]:
        pool.give_back(buffer)
    assert repr(pool) == f"<BufferPool {KEPT_MAX} of 204 lent, {KEPT_MAX} free>"
    for buffer in buffers[:KEPT_MAX]:
        pool.give_back(buffer)
    assert repr(pool) == f"<BufferPool 0 of 204 lent, {KEPT_MIN} free>"
    assert 204 * BUFFER_BYTES <= 64 << 20
