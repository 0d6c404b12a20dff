"""Which bytes of a message that is not whole yet are of blocks."""

from stack.bitswap.counting import FIELDS_AT_ONCE, BlockBytes
from stack.bitswap.messages import PROTOCOL_1_0, PROTOCOL_1_2, OutgoingMessage, Presence, Want, encode_message
from stack.blocks.interfaces import BLOCK_SIZE_MAX
from stack.multiformats import varint
from tests.bitswap.exchanges import some_blocks
from tests.bitswap.simulation import cid_of


def body(message: OutgoingMessage, protocol: str = PROTOCOL_1_2) -> bytes:
    """As it goes over the wire, without its length."""
    data = b"".join(bytes(part) for part in encode_message(message, protocol=protocol))
    return data[varint.decode(data)[1] :]


def field(number: int, size: int) -> bytes:
    return varint.encode(number << 3 | 2) + varint.encode(size) + bytes(size)


def test_the_bytes_of_blocks_are_counted_as_they_come_whatever_comes_between_them() -> None:
    blocks = some_blocks(3, 800)
    message = OutgoingMessage(
        wants=[Want(cid_of(number)) for number in range(20)],
        blocks=blocks,
        presences=[Presence(cid_of(number), True) for number in range(20)],
        pending_bytes=1000,
    )
    for protocol in (PROTOCOL_1_2, PROTOCOL_1_0):
        data = body(message, protocol)
        for step in (1, 7, 1000, len(data)):
            counter = BlockBytes()
            counted = [counter.look(memoryview(data)[:end]) for end in (*range(0, len(data), step), len(data))]
            assert counted == sorted(counted)
            assert 2400 <= counted[-1] <= 2400 + 3 * 16
        begins = data.index(blocks[0][1])
        counter = BlockBytes()
        before = counter.look(memoryview(data)[: begins + 100])
        assert counter.look(memoryview(data)[: begins + 500]) - before == 400


def test_what_no_block_can_be_is_not_counted() -> None:
    for data in (
        field(15, 100_000),
        field(1, 100_000),
        field(4, 100_000),
        field(3, BLOCK_SIZE_MAX + 1000),
        b"\x28\x01" * 5000,
        b"\x29" + bytes(8) + b"\x2d" + bytes(4),
        b"\x1f" + field(3, 1000),
        b"\xff" * 1000,
    ):
        assert BlockBytes().look(memoryview(data)) == 0
    data = b"\x29" + bytes(8) + b"\x2d" + bytes(4) + b"\x28\x01" + field(15, 2000) + field(3, 1000)
    assert BlockBytes().look(memoryview(data)) == 1000


def test_of_many_small_fields_a_bounded_number_is_read_at_a_time() -> None:
    data = b"\x28\x01" * FIELDS_AT_ONCE + field(3, 1000)
    counter = BlockBytes()
    assert counter.look(memoryview(data)) == 0
    assert counter.look(memoryview(data)) == 1000
