"""Names out of foreign directories: which may become file names, and how any of them is shown. Pure text.

Attacks: CVE-2020-26279 (a name like `../x` leaves the target directory), CVE-2020-26283 (control characters in names
drive the terminal).
"""

import unicodedata
from typing import Final

from stack.errors import DecodeError

NAME_BYTES_MAX: Final = 255
"""Longest file name on all usual file systems (NAME_MAX of POSIX systems; NTFS and APFS count 255 units too)."""

_FORBIDDEN: Final = {"/": "a slash", "\\": "a backslash", "\0": "a NUL byte"}
"""Separators on one system or another, and what ends a name in C. A name with one means another path elsewhere."""


_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\U0001d159"
).union(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""What Unicode counts as letters, marks and symbols and nothing shows of: fillers, joiners, variation selectors, an empty Braille cell."""
_LOOK_OF_SYMBOL: Final = "\ufe0e\ufe0f"
"""Text or emoji: systems write it after symbols when an emoji is typed, and the symbol shows it. After anything else it is hidden."""


def safe_name(name: str) -> str:
    """The name, when it can be a file's in the directory meant for it, on any system. Raises DecodeError."""
    shown = printable(name[:60])
    if name in ("", ".", ".."):
        raise DecodeError(f"{shown!r} cannot be the name of a file")
    for character, what in _FORBIDDEN.items():
        if character in name:
            raise DecodeError(f"the name {shown} has {what} in it")
    if len(name) > 1 and name[1] == ":" and name[0].isascii() and name[0].isalpha():
        raise DecodeError(f"the name {shown} starts like a drive")
    try:
        size = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        raise DecodeError(f"the name {shown} is no text") from None
    if size > NAME_BYTES_MAX:
        raise DecodeError(f"the name {shown}... has {size} bytes, a file name has at most {NAME_BYTES_MAX}")
    return name


def collision_key(name: str) -> str:
    """Equal for names that are one file on a file system that ignores case or the form of accents (APFS, NTFS)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def printable(name: str) -> str:
    """The name with nothing in it that a terminal would obey: control, bidirectional and invisible characters escaped.

    What is escaped looks as in a Python string; so does a backslash, which keeps the text unambiguous.
    """
    return "".join(map(_printable, name, "\0" + name))


def is_visible(text: str) -> bool:
    """Whether nothing in it is to be escaped. Spaces of other widths are, for this."""
    return text.isprintable() and _INVISIBLE.isdisjoint(text)


def _printable(character: str, before: str) -> str:
    if character == "\\":
        return "\\\\"
    # Spaces of other widths (as in Japanese text) are harmless, though Python does not call them printable.
    if is_visible(character) or unicodedata.category(character) == "Zs":
        return character
    if character in _LOOK_OF_SYMBOL and unicodedata.category(before) in ("So", "Sm"):
        return character
    if "\udc80" <= character <= "\udcff":
        # A byte that is not UTF-8.
        return f"\\x{ord(character) - 0xDC00:02x}"
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


LEADS_OUT: Final = "a link that leads out of the tree"


def leads_out(target: str, depth: int) -> bool:
    """Whether a symbolic link may lead out of the tree that it lies in, so many directories deep.

    Only what goes up first and then down stays inside whatever other links of the tree its names are: `a/../..` may be anywhere, when
    `a` is a link itself.
    """
    names = [name for name in target.split("/") if name not in ("", ".")]
    ups = next((count for count, name in enumerate(names) if name != ".."), len(names))
    return target.startswith("/") or ups > depth or ".." in names[ups:]


def told(name: str) -> str:
    """A name of this system as it is told to others, and written down: text, whatever bytes it has."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
