"""Where a file is cut into leaves: fixed sizes, rabin and buzhash, byte-exact with Kubo.

Formats: ipfs/boxo chunker/parse.go, rabin.go, buzhash.go; whyrusleeping/chunker chunker.go (how rabin hashes).

Both content-defined chunkers cut where a hash of the last few bytes ends in zero bits, and each hash is the XOR of one
table entry a byte. So one XOR of two integers, thousands of bytes long, hashes at as many places at once: more than ten
times as fast as a loop over the bytes (row `chunkers` of `tests/bench`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, Protocol

from stack.errors import ConfigError
from stack.sansio.interfaces import Buffer

CHUNK_SIZE_MAX: Final = 2 * 1024 * 1024 - 256
"""Longest chunk, as in boxo: a bitswap block of 2 MiB less room for the frame of a dag-pb leaf."""

_DEFAULT_SIZE = 256 * 1024

_SCAN_SIZE = 16 * 1024
"""Bytes hashed at once: long enough that calls cost nothing, short enough that little is hashed behind a cut."""


class Chunker(Protocol):
    """Cuts one file: feed it all bytes in order, in pieces of any size, then finish. Another file needs another one."""

    @property
    def fixed_size(self) -> int | None:
        """The size of every chunk but the last, None where cuts depend on the content.

        With a fixed size files may be cut by offset, without feeding anything.
        """
        ...

    def feed(self, data: Buffer) -> list[int]:
        """The lengths of the chunks that end within this data, in order."""
        ...

    def finish(self) -> list[int]:
        """The length of the chunk that the end of the file ends, if there is one."""
        ...


class SizeChunker:
    """Chunks of one size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._length = 0

    @property
    def fixed_size(self) -> int | None:
        return self._size

    def feed(self, data: Buffer) -> list[int]:
        count, self._length = divmod(self._length + memoryview(data).nbytes, self._size)
        return [self._size] * count

    def finish(self) -> list[int]:
        return [self._length] if self._length else []


class _ContentChunker:
    """What rabin and buzhash share: chunks of minimum to maximum bytes, cut where a hash of the last `window` says."""

    window: int

    def __init__(self, minimum: int, maximum: int) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._length = 0
        self._tail = b""

    @property
    def fixed_size(self) -> int | None:
        return None

    def feed(self, data: Buffer) -> list[int]:
        view = memoryview(data).cast("B")
        before = self.window - 1
        lengths: list[int] = []
        position = 0
        while True:
            # Nothing ends before `minimum`, so nothing up to there needs a hash.
            skipped = min(max(self._minimum - 1 - self._length, 0), len(view) - position)
            self._length += skipped
            position += skipped
            size = min(_SCAN_SIZE, self._maximum - self._length, len(view) - position)
            if not size:
                break
            window = bytes(view[max(position - before, 0) : position + size])
            if position < before:
                window = (self._tail + window)[-before - size :]
            cut = self._find(window, size)
            if cut is None:
                self._length += size
                position += size
                if self._length < self._maximum:
                    continue
            else:
                self._length += cut + 1
                position += cut + 1
            lengths.append(self._length)
            self._length = 0
        self._tail = (self._tail + bytes(view[-before:]))[-before:]
        return lengths

    def finish(self) -> list[int]:
        return [self._length] if self._length else []

    def _find(self, data: bytes, count: int) -> int | None:
        """The first of the `count` windows of this data, each one byte further, behind which a chunk may end."""
        raise NotImplementedError


class BuzhashChunker(_ContentChunker):
    """Kubo's `buzhash`: chunks of 128 to 512 KiB.

    The hash of a window is the XOR of a 32-bit number for each byte, rotated left by its distance from the end. Windows
    of 2m bytes come from two of m: `hash(a + b) = rotate(hash(a), m) ^ hash(b)`. Hashes are kept as four integers, one
    for each of their bytes, in which byte `i` belongs to the window that starts at `i`; rotating by 8 or 16 renames.
    """

    window = 32

    def __init__(self) -> None:
        super().__init__(128 * 1024, 512 * 1024)

    def _find(self, data: bytes, count: int) -> int | None:
        planes = [int.from_bytes(data.translate(table), "little") for table in _buzhash_tables()]
        for size in (1, 2, 4):
            high, low = _masks(size)
            planes = [
                ((planes[i] << size) & high | (planes[i - 1] >> (8 - size)) & low) ^ (planes[i] >> 8 * size)
                for i in range(4)
            ]
        planes = [planes[i - 1] ^ (planes[i] >> 64) for i in range(4)]
        planes = [planes[i - 2] ^ (planes[i] >> 128) for i in range(3)]
        # The 17 low bits of the hash must be zero.
        bits = planes[0] | planes[1] | planes[2] & _masks(1)[1]
        found = bits.to_bytes(len(data), "little").find(0, 0, count)
        return found if found >= 0 else None


class RabinChunker(_ContentChunker):
    """Kubo's `rabin`: the remainder of the last 16 bytes by a polynomial of degree 53.

    Only its lowest byte is computed everywhere; one place in 256 passes and is looked at in full.
    """

    window = 16

    def __init__(self, minimum: int, average: int, maximum: int) -> None:
        super().__init__(minimum, maximum)
        self._mask = (1 << (average.bit_length() - 1)) - 1
        lowest = [bytes(value & self._mask & 0xFF for value in table) for table in _rabin_tables()]
        self._lowest = [(offset, table) for offset, table in enumerate(lowest) if any(table)]

    def _find(self, data: bytes, count: int) -> int | None:
        bits = 0
        for offset, lowest in self._lowest:
            bits ^= int.from_bytes(data[offset : offset + count].translate(lowest), "little")
        passed = bits.to_bytes(count, "little")
        tables = _rabin_tables()
        found = passed.find(0)
        while found >= 0:
            remainder = 0
            for table, byte in zip(tables, data[found : found + self.window], strict=True):
                remainder ^= table[byte]
            if not remainder & self._mask:
                return found
            found = passed.find(0, found + 1)
        return None


def parse_chunker(text: str) -> Chunker:
    """A new chunker: `size-N`, `rabin`, `rabin-AVERAGE`, `rabin-MIN-AVERAGE-MAX` or `buzhash`. Raises ConfigError."""
    name, *arguments = text.split("-")
    make = CHUNKERS.get(name)
    if make is None:
        raise ConfigError(f"there is no chunker {text[:60]!r}; there are {', '.join(CHUNKERS)}")
    for argument in arguments:
        if not (argument.isascii() and argument.isdecimal() and len(argument) < 10):
            raise ConfigError(f"chunker {text[:60]!r}: {argument[:60]!r} is no size in bytes")
    return make([int(argument) for argument in arguments])


def _size(arguments: Sequence[int]) -> Chunker:
    if len(arguments) != 1 or not 1 <= arguments[0] <= CHUNK_SIZE_MAX:
        raise ConfigError(f"the chunker is size-N with N from 1 to {CHUNK_SIZE_MAX}")
    return SizeChunker(arguments[0])


def _rabin(arguments: Sequence[int]) -> Chunker:
    if len(arguments) == 3:
        minimum, average, maximum = arguments
    elif len(arguments) < 2:
        average = arguments[0] if arguments else _DEFAULT_SIZE
        minimum, maximum = average // 3, average + average // 2
    else:
        raise ConfigError("the chunker is rabin, rabin-AVERAGE or rabin-MIN-AVERAGE-MAX")
    if not RabinChunker.window <= minimum < average < maximum <= CHUNK_SIZE_MAX:
        raise ConfigError(
            f"rabin needs {RabinChunker.window} <= MIN < AVERAGE < MAX <= {CHUNK_SIZE_MAX},"
            f" not {minimum}, {average}, {maximum}"
        )
    return RabinChunker(minimum, average, maximum)


def _buzhash(arguments: Sequence[int]) -> Chunker:
    if arguments:
        raise ConfigError("the chunker buzhash has no arguments")
    return BuzhashChunker()


CHUNKERS: Final[Mapping[str, Callable[[Sequence[int]], Chunker]]] = {
    "size": _size,
    "rabin": _rabin,
    "buzhash": _buzhash,
}
"""What makes a chunker from the numbers behind its name."""

_RABIN_POLYNOMIAL = 17437180132763653
"""Irreducible, of degree 53: `IpfsRabinPoly` of boxo."""


@cache
def _rabin_tables() -> list[list[int]]:
    """For each place in the window, first byte first: what a byte there adds to the remainder."""
    tables = []
    power = 1
    for _ in range(RabinChunker.window):
        bits = []
        for _ in range(8):
            bits.append(power)
            power <<= 1
            if power >> 53:
                power ^= _RABIN_POLYNOMIAL
        table = [0]
        for bit in bits:
            table += [value ^ bit for value in table]
        tables.append(table)
    return tables[::-1]


@cache
def _buzhash_tables() -> list[bytes]:
    """Byte `p` of the number of each byte value, for p = 0 to 3."""
    numbers = bytes.fromhex("".join(_BUZHASH_NUMBERS))
    return [numbers[3 - plane :: 4] for plane in range(4)]


@cache
def _masks(size: int) -> tuple[int, int]:
    """In every byte of a scan: all bits but the `size` lowest, and those."""
    low = (1 << size) - 1
    count = _SCAN_SIZE + BuzhashChunker.window
    return int.from_bytes(bytes((0xFF ^ low,)) * count, "little"), int.from_bytes(bytes((low,)) * count, "little")


_BUZHASH_NUMBERS = (
    "6236e7d510279b0b72818182dc5265142fd41e3d777ef8c883ee52852c8f36372f049c1a57df97919207151f9b54481874eef6582028ca60"
    "0271d91a27ae587eecf9fa5f236e71cdf43a8a2e0bb133809e57912c89a26cdb9fcf3d71a86da6f19c49f376346aecc7f094a9eeea99e9cb"
    "b01713c6088acffb2960a0fb344a626c7ff22a466d7a1aa56a71491641d454ca8325b8300b65f563447feccaf9d0ea5ec1d9d3d4cb5ec574"
    "55aae90286edc0e70d3a9e33e70dc1e1e3c5f6399b43140ac6490ac55e4030fb8e976dd5a87468eaf830ef6fcc1ed5a5611f4e78ddd11905"
    "f2613904566c67b9905a5ccc7b37b3a44b53898a6b8fd29daad81575511be4143cfac1e78029a179d40efeda07380e02dc9beffd2d049082"
    "99bc7831ff5002a821ce764601cd049b0f43994fc3c6c5a5bbda5f500ec15ec79adb19b60c1e80b9b9b52968ae1624192542b40591a42e9d"
    "6be0f6686ed7a6b9bc2777b4e162ce564266aad560fdb70466f832a59595f6cafee83ced55228d9912bf0e28668964590789afda0282baa8"
    "2367a343591491b02ff1a4b1410739b69b7055a02e0eb22924fc82523327d3dfb07826691c62e0697f503101f50593aed9eb275de00eb678"
    "5917ccde97b9660add06202ded229e22a9c735bfd6316fe66fc72e4c0206dfa2d6b15c5a69d87b4909c9774513445d6135a975aa859aa9b9"
    "65380013d1fb6391c29255fd784a3b91b9e74c2663ce4d40c07cbe9ee6e4529e0fb3632f9438d9c9682f94a8f8fd4611257ec1ed475ce3d6"
    "60ee2db12afab0022b9e487886b340de1482fdcafe41b3bfd4a412b0e09db98cc1af5d537e55e25fd3346b38b7a12cbd9c6827ba71f78bee"
    "8c3a0f52150491b0f26de912233e3a4ed309ebbaa0a9e0ffca2b5921eeb9893c33829e889870cc2a23c4b9d0eba32ea3bdac4d223bc8c44c"
    "1e8d0397f9327735783b009f0eb837422621dc71ed017d035c760aa15a69814b96e3047fa93c9cde615c86f5b4322aa54225534d0d2e2de3"
    "ccfccc4b0bac2a57f0a06d04bc78d737f2d1f766f5a7953cbcdfda855213b7d5bce8a328d38f5f18db094244fe571253317fa7ee4a324f43"
    "3ffc39d951b3fa8e7a4bee9f78bbc6829f5c035002fe286c245ab686ed6bf7d70ac4988a3fe010fac65fe369a45749cb2b84e537de9ff363"
    "20540f9aaa8c9b345bc476b31d574bd7929100ad4721de4d27df1b0558b18546b7e76764df904e5897af57a1bd4dc433a6256dfdf63998f3"
    "f1e05833e20acf26f57fd9d690300b4d89df429068d01cbccf893ee3cc42a046778e181b67265c76e981a4c482991da1708f7294e6e2ae62"
    "fc44187095e1b0b60445f8255a93b47f5e9cf4be84da71e79d9582b09bf835ef591f61e2433259855d2de32e8d8fbf0f95b30f3807ad5b6e"
    "4e934edf3cd4990e9053e2595c41857d"
)
"""`bytehash` of boxo chunker/buzhash.go: 32 bits for each value of a byte, drawn at random once."""
