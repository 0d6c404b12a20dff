"""Keccak with its first padding (0x01), as Ethereum uses it; hashlib has only the later SHA-3 padding.

Source: the Keccak reference, version 3.0 (keccak.team). Pure Python, so slow that no block may be named by it.
"""

from stack.multiformats.varint import Buffer

_MASK = (1 << 64) - 1
_STATE_BYTES = 200


def _round_constants() -> tuple[int, ...]:
    constants = []
    register = 1
    for _ in range(24):
        constant = 0
        for bit in range(7):
            if register & 1:
                constant |= 1 << ((1 << bit) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return tuple(constants)


def _rotations() -> tuple[tuple[int, int, int], ...]:
    """(from lane, to lane, left rotation) of the steps rho and pi; a lane is x + 5 * y."""
    moves = [(0, 0, 0)]
    x, y = 1, 0
    for step in range(24):
        target_x, target_y = y, (2 * x + 3 * y) % 5
        moves.append((x + 5 * y, target_x + 5 * target_y, (step + 1) * (step + 2) // 2 % 64))
        x, y = target_x, target_y
    return tuple(moves)


_ROUND_CONSTANTS = _round_constants()
_MOVES = _rotations()


def _permute(lanes: list[int]) -> list[int]:
    moved = [0] * 25
    for constant in _ROUND_CONSTANTS:
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        theta = [columns[x - 1] ^ ((columns[(x + 1) % 5] << 1 | columns[(x + 1) % 5] >> 63) & _MASK) for x in range(5)]
        for source, target, rotation in _MOVES:
            lane = lanes[source] ^ theta[source % 5]
            moved[target] = (lane << rotation | lane >> (64 - rotation)) & _MASK
        lanes = [
            moved[x + y] ^ (~moved[(x + 1) % 5 + y] & moved[(x + 2) % 5 + y]) for y in range(0, 25, 5) for x in range(5)
        ]
        lanes[0] ^= constant
    return lanes


def keccak(data: Buffer, size: int) -> bytes:
    """The Keccak digest of `size` bytes (28, 32, 48, 64); the rate is what 2 * `size` of capacity leaves."""
    rate = _STATE_BYTES - 2 * size
    padded = bytearray(data)
    padded += bytes(rate - len(padded) % rate)
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for offset in range(0, len(padded), rate):
        for lane in range(rate // 8):
            start = offset + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[start : start + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes)[:size]
