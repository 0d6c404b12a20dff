"""Text forms of bytes: one character that names the base, then the digits. Source: multiformats/multibase.

Reading is strict where two texts would mean the same bytes: padding exactly as the base says, unused bits zero. Letters
of bases that have one case are read in either (multibase, tests/case_insensitivity.csv).
"""

import base64
import binascii

from stack.errors import DecodeError

BIG_NUMBER_BYTES_MAX = 1024
"""Longest input of the bases that are one big number (10, 36, 58): their cost grows with the square of it."""

_BIG_NUMBER_TEXT_MAX = 2500
"""More digits than `BIG_NUMBER_BYTES_MAX` bytes have in base 10."""

_BASE58BTC = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58FLICKR = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_BASE32HEX = _DIGITS[:32]
_BASE32Z = "ybndrfg8ejkmcpqxot1uwisza345h769"
_BASE256EMOJI = (
    "🚀🪐☄🛰🌌🌑🌒🌓🌔🌕🌖🌗🌘🌍🌏🌎🐉☀💻🖥💾💿😂❤😍🤣😊🙏💕😭😘👍😅👏😁🔥🥰💔💖💙😢🤔😆🙄💪😉☺👌🤗💜😔😎😇🌹🤦🎉💞✌✨🤷😱😌🌸🙌"
    "😋💗💚😏💛🙂💓🤩😄😀🖤😃💯🙈👇🎶😒🤭❣😜💋👀😪😑💥🙋😞😩😡🤪👊🥳😥🤤👉💃😳✋😚😝😴🌟😬🙃🍀🌷😻😓⭐✅🥺🌈😈🤘💦✔😣🏃💐☹🎊💘😠☝"
    "😕🌺🎂🌻😐🖕💝🙊😹🗣💫💀👑🎵🤞😛🔴😤🌼😫⚽🤙☕🏆🤫👈😮🙆🍻🍃🐶💁😲🌿🧡🎁⚡🌞🎈❌✊👋😰🤨😶🤝🚶💰🍓💢🤟🙁🚨💨🤬✈🎀🍺🤓😙💟🌱😖👶"
    "🥴▶➡❓💎💸⬇😨🌚🦋😷🕺⚠🙅😟😵👎🤲🤠🤧📌🔵💅🧐🐾🍒😗🤑🌊🤯🐷☎💧😯💆👆🎤🙇🍑❄🌴💣🐸💌📍🥀🤢👅💡💩👐📸👻🤐🤮🎼🥵🚩🍎🍊👼💍📣🥂"
)
_TO_BASE32Z = str.maketrans(_BASE32, _BASE32Z)
_FROM_BASE32Z = str.maketrans(_BASE32Z, _BASE32)

_PREFIXES = {
    "base2": "0",
    "base8": "7",
    "base10": "9",
    "base16": "f",
    "base16upper": "F",
    "base32hex": "v",
    "base32hexupper": "V",
    "base32hexpad": "t",
    "base32hexpadupper": "T",
    "base32": "b",
    "base32upper": "B",
    "base32pad": "c",
    "base32padupper": "C",
    "base32z": "h",
    "base36": "k",
    "base36upper": "K",
    "base58btc": "z",
    "base58flickr": "Z",
    "base64": "m",
    "base64pad": "M",
    "base64url": "u",
    "base64urlpad": "U",
    "base256emoji": "🚀",
}
_BASES = {prefix: base for base, prefix in _PREFIXES.items()}

BASES = tuple(_PREFIXES)
"""The names of the bases that can be read and written."""


def encode(base: str, data: bytes) -> str:
    """Text of `data` in a base, with its prefix. Raises ValueError for an unknown base, and for data too long for it."""
    prefix = _PREFIXES.get(base)
    if prefix is None:
        raise ValueError(f"there is no base {base!r}")
    return prefix + _encode(base, data)


def decode(text: str) -> tuple[str, bytes]:
    """The base's name and the bytes. Raises DecodeError."""
    base = _BASES.get(text[:1])
    if base is None:
        raise DecodeError(f"no base begins with {text[:1]!r}" if text else "empty text")
    digits = text[1:]
    try:
        if base in ("base58btc", "base58flickr", "base10") or base.startswith("base36"):
            return base, _decode_number(base, digits)
        data = _decode_bits(base, digits)
    except (ValueError, OverflowError):
        raise DecodeError(f"this is not {base}") from None
    written = _encode(base, data)
    if digits != written and not (
        base.startswith(("base16", "base32")) and base != "base32z" and digits.lower() == written.lower()
    ):
        raise DecodeError(f"this is not {base} as it is written: padding or unused bits")
    return base, data


def encode_base58(data: bytes) -> str:
    """base58btc without a prefix: peer ids and CIDv0. Raises ValueError above `BIG_NUMBER_BYTES_MAX`."""
    return _encode_number(_BASE58BTC, data)


def decode_base58(text: str) -> bytes:
    """base58btc without a prefix. Raises DecodeError."""
    return _decode_number("base58btc", text)


def _encode(base: str, data: bytes) -> str:
    match base:
        case "base32":
            return base64.b32encode(data).decode().rstrip("=").lower()
        case "base58btc":
            return _encode_number(_BASE58BTC, data)
        case "base64url":
            return base64.urlsafe_b64encode(data).decode().rstrip("=")
        case "base16":
            return data.hex()
        case "base36":
            return _encode_number(_DIGITS, data)
        case "base2":
            return f"{int.from_bytes(data):0{8 * len(data)}b}" if data else ""
        case "base8":
            width = (8 * len(data) + 2) // 3
            return f"{int.from_bytes(data) << (3 * width - 8 * len(data)):0{width}o}" if data else ""
        case "base10":
            return _encode_number(_DIGITS[:10], data)
        case "base32hex":
            return base64.b32hexencode(data).decode().rstrip("=").lower()
        case "base32hexpad":
            return base64.b32hexencode(data).decode().lower()
        case "base32pad":
            return base64.b32encode(data).decode().lower()
        case "base32z":
            return _encode("base32", data).translate(_TO_BASE32Z)
        case "base58flickr":
            return _encode_number(_BASE58FLICKR, data)
        case "base64":
            return base64.b64encode(data).decode().rstrip("=")
        case "base64pad":
            return base64.b64encode(data).decode()
        case "base64urlpad":
            return base64.urlsafe_b64encode(data).decode()
        case "base256emoji":
            return "".join([_BASE256EMOJI[byte] for byte in data])
        case _:
            return _encode(base.removesuffix("upper"), data).upper()


def _decode_bits(base: str, digits: str) -> bytes:
    """Bases whose digits are groups of bits; what this lets pass is compared with what would be written."""
    match base.removesuffix("upper"):
        case "base32" | "base32pad":
            return base64.b32decode(_padded(digits, 8).upper())
        case "base64url" | "base64urlpad":
            return base64.b64decode(_padded(digits, 4), altchars=b"-_", validate=True)
        case "base16":
            return binascii.unhexlify(digits)
        case "base2":
            return int(digits, 2).to_bytes(len(digits) // 8) if digits else b""
        case "base8":
            return (int(digits, 8) >> 3 * len(digits) % 8).to_bytes(3 * len(digits) // 8) if digits else b""
        case "base32hex" | "base32hexpad":
            return base64.b32hexdecode(_padded(digits, 8).upper())
        case "base32z":
            return _decode_bits("base32", digits.translate(_FROM_BASE32Z))
        case "base64" | "base64pad":
            return base64.b64decode(_padded(digits, 4), validate=True)
        case _:
            return bytes([_BASE256EMOJI.index(digit) for digit in digits])


def _padded(digits: str, group: int) -> str:
    return digits + "=" * (-len(digits) % group)


def _encode_number(alphabet: str, data: bytes) -> str:
    if len(data) > BIG_NUMBER_BYTES_MAX:
        raise ValueError(f"{len(data)} bytes, at most {BIG_NUMBER_BYTES_MAX} in a base that is one big number")
    base = len(alphabet)
    group = base**10
    number = int.from_bytes(data)
    digits: list[str] = []
    while number:
        number, ten = divmod(number, group)
        for _ in range(10):
            ten, digit = divmod(ten, base)
            digits.append(alphabet[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return alphabet[0] * zeros + "".join(reversed(digits)).lstrip(alphabet[0])


_NUMBER_ALPHABETS = {
    "base10": _DIGITS[:10],
    "base36": _DIGITS,
    "base36upper": _DIGITS,
    "base58btc": _BASE58BTC,
    "base58flickr": _BASE58FLICKR,
}
_VALUES = {base: {digit: value for value, digit in enumerate(alphabet)} for base, alphabet in _NUMBER_ALPHABETS.items()}


def _decode_number(base: str, digits: str) -> bytes:
    if len(digits) > _BIG_NUMBER_TEXT_MAX:
        raise DecodeError(f"{len(digits)} digits of {base}, at most {_BIG_NUMBER_TEXT_MAX} are read")
    values = _VALUES[base]
    radix = len(values)
    if radix == 36 and digits.isascii():
        digits = digits.lower()
    number = 0
    try:
        for digit in digits:
            number = number * radix + values[digit]
    except KeyError as error:
        raise DecodeError(f"{error.args[0]!r} is no digit of {base}") from None
    zero = _NUMBER_ALPHABETS[base][0]
    zeros = len(digits) - len(digits.lstrip(zero))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
