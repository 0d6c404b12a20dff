"""What decides the CID of a file or a directory: profiles, and Kubo's options with the way they act on each other.

Sources: IPIP-499 (the two profiles), ipfs/kubo core/commands/add.go and core/coreiface/options/unixfs.go.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import Final

from stack.dag.unixfs.chunkers import parse_chunker
from stack.dag.unixfs.data import UnixTime
from stack.errors import ConfigError, DecodeError
from stack.multiformats import multihash
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from stack.sansio.interfaces import Buffer
from stack.values import dataclass

FANOUT_MAX: Final = 1024
"""unixfs.md, "HAMT Structure and Parameters": MUST, against nodes that make a reader allocate (CVE-2023-23625)."""

FANOUT_MIN: Final = 8
"""The same section: a multiple of 8, for the bit field."""

_SHA2_256 = "sha2-256"


class SizeEstimation(Enum):
    """How the size of a directory is measured when it is decided whether to shard it."""

    LINKS = "links"
    """The bytes of all names and CIDs."""
    BLOCK = "block"
    """The bytes of the block that it would be."""
    DISABLED = "disabled"
    """Not at all: only the number of entries counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How content becomes a DAG; made by `profile` or `import_options`. Raises ConfigError for what has no meaning."""

    cid_version: int = 1
    hash: str = _SHA2_256
    """A name of the multihash table."""
    raw_leaves: bool = True
    """Leaves are blocks of the raw codec, not dag-pb nodes."""
    chunker: str = "size-1048576"
    """As `parse_chunker` reads it."""
    max_file_links: int = 1024
    """Children of a node inside a file, at most."""
    max_directory_links: int = 0
    """A directory with more entries is sharded; 0 for no such limit."""
    max_hamt_fanout: int = 256
    """Children of a shard, at most; a power of two from 8 to 1024."""
    hamt_threshold: int = 256 * 1024
    """A directory of more bytes is sharded; 0 for never, whatever else is set."""
    hamt_estimation: SizeEstimation = SizeEstimation.BLOCK
    trickle: bool = False
    """The layout for reading from the start, in place of the balanced one."""
    inline: bool = False
    """Blocks of at most `inline_limit` bytes are put into their CID."""
    inline_limit: int = 32
    wrap: bool = False
    """What is added becomes an entry of a directory made for it."""
    hidden: bool = False
    """Names that start with a dot are taken too."""
    empty_directories: bool = True
    """Directories without entries are taken too."""
    mode: int | None = None
    """Permission bits for everything that is added."""
    mtime: UnixTime | None = None
    """Time of modification for everything that is added."""
    preserve_mode: bool = False
    """Take the permission bits of each file and directory."""
    preserve_mtime: bool = False
    """Take the time of modification of each file, directory and symbolic link."""
    keep_executable: bool = False
    """Take the permission bits of files that can be executed, and of no others: these are the same blocks as without."""
    keep_times: bool = False
    """Take the time of modification of each file, and not that of directories, which changes with whatever comes and goes in them.
    A file of one leaf is another block then; the leaves of larger ones are the same as without."""
    inline_root: bool = False
    """Where leaves are raw and of one size, a file of one leaf (or none) with mode or time is that same leaf, below a root that is in its
    own CID: the entry of a directory tells kind, size, mode and time, and no block is another one than without them. Not for what
    is found by its CID alone."""

    def __post_init__(self) -> None:
        if self.cid_version not in (0, 1):
            raise ConfigError(f"there is no CID version {self.cid_version}")
        if self.cid_version == 0 and self.hash != _SHA2_256:
            raise ConfigError(f"CID version 0 has only {_SHA2_256}, not {self.hash}")
        try:
            code = multihash.code_of(self.hash)
        except DecodeError as error:
            raise ConfigError(str(error)) from None
        if code not in multihash.ALLOWED or code == multihash.IDENTITY:
            raise ConfigError(f"{self.hash} is not allowed for blocks")
        if self.max_file_links < 2:
            raise ConfigError(f"a node of a file needs at least 2 links, not {self.max_file_links}")
        if self.max_directory_links < 0:
            raise ConfigError(f"a directory cannot have {self.max_directory_links} links")
        if not is_fanout(self.max_hamt_fanout):
            raise ConfigError(
                f"a fanout is a power of two from {FANOUT_MIN} to {FANOUT_MAX}, not {self.max_hamt_fanout}"
            )
        if self.hamt_threshold < 0:
            raise ConfigError(f"a directory cannot have {self.hamt_threshold} bytes")
        if self.inline and not 0 <= self.inline_limit <= multihash.IDENTITY_BYTES_MAX:
            raise ConfigError(f"a CID holds up to {multihash.IDENTITY_BYTES_MAX} bytes, not {self.inline_limit}")
        parse_chunker(self.chunker)

    def cid(self, codec: int, *parts: Buffer) -> Cid:
        """The CID of a block that is these parts one after the other; with SHA-256 they are never joined."""
        if self.inline and sum(len(part) for part in parts) <= self.inline_limit:
            return inline_cid(codec, b"".join(parts))
        if self.hash == _SHA2_256:
            hasher = hashlib.sha256(parts[0])
            for part in parts[1:]:
                hasher.update(part)
            digest = b"\x12\x20" + hasher.digest()
        else:
            digest = multihash.digest(self.hash, parts[0] if len(parts) == 1 else b"".join(parts))
        return self.cid_of(codec, digest)

    def cid_of(self, codec: int, multihash: bytes) -> Cid:
        """The CID of a block that has been hashed."""
        # Version 0 is always dag-pb, so raw leaves are version 1 in any DAG.
        return Cid.v0(multihash) if self.cid_version == 0 and codec == DAG_PB else Cid.v1(codec, multihash)

    def attributes(self, mode: int, mtime: UnixTime) -> tuple[int | None, UnixTime | None]:
        """Mode and time to record for a file or directory that has these: the ones set here, its own, or none."""
        return (
            mode & 0o7777 if self.preserve_mode else self.mode,
            mtime if self.preserve_mtime else self.mtime,
        )

    def of_file(self, mode: int, size: int) -> "ImportOptions":
        """The options for one file that has these permission bits and bytes."""
        executable = self.keep_executable and bool(mode & 0o111)
        if not (executable or self.keep_times):
            return self
        leaf_size = parse_chunker(self.chunker).fixed_size
        # A raw leaf that is all of a file has no place for mode and time: they need a root above it.
        rooted = leaf_size is not None and (self.inline_root or size > leaf_size) and not self.trickle
        raw_leaves = self.raw_leaves and rooted
        return _of_file(self, executable, raw_leaves)


@lru_cache(maxsize=16)
def _of_file(options: ImportOptions, executable: bool, raw_leaves: bool) -> ImportOptions:
    return replace(
        options,
        preserve_mode=options.preserve_mode or executable,
        preserve_mtime=options.preserve_mtime or options.keep_times,
        raw_leaves=raw_leaves,
    )


def inline_cid(codec: int, block: bytes) -> Cid:
    """The CID that holds this block, of at most `IDENTITY_BYTES_MAX` bytes."""
    return Cid.v1(codec, multihash.encode(multihash.IDENTITY, block))


def is_fanout(value: int) -> bool:
    """Whether a shard may have this many children."""
    return FANOUT_MIN <= value <= FANOUT_MAX and value & (value - 1) == 0


Argument = str | int | bool
"""What an option is given on a command line: text, or what a parser made of it."""

_V0_2015: Final[Mapping[str, Argument]] = {
    "cid-version": 0,
    "raw-leaves": False,
    "chunker": "size-262144",
    "hash": _SHA2_256,
    "max-file-links": 174,
    "hamt-estimation": "links",
}
_V1_2025: Final[Mapping[str, Argument]] = {
    "cid-version": 1,
    "raw-leaves": True,
    "chunker": "size-1048576",
    "hash": _SHA2_256,
    "max-file-links": 1024,
    "hamt-estimation": "block",
}
_KUBO: Final[Mapping[str, Argument]] = {
    key: value for key, value in _V0_2015.items() if key not in ("cid-version", "raw-leaves")
}

PROFILES: Final[Mapping[str, Mapping[str, Argument]]] = {
    "unixfs-v1-2025": _V1_2025,
    "unixfs-v0-2015": _V0_2015,
    "default": _KUBO,
}
"""What each profile sets, under the names of Kubo's options; `default` is Kubo's own, which leaves two things open."""

DEFAULT_PROFILE = "unixfs-v1-2025"

OPTIONS: Final = frozenset(
    {
        "cid-version",
        "raw-leaves",
        "chunker",
        "hash",
        "max-file-links",
        "max-directory-links",
        "max-hamt-fanout",
        "trickle",
        "inline",
        "inline-limit",
        "wrap-with-directory",
        "hidden",
        "empty-dirs",
        "mode",
        "mtime",
        "mtime-nsecs",
        "preserve-mode",
        "preserve-mtime",
    }
)
"""Names of the arguments that `import_options` takes, as `ipfs add` calls them."""


def profile(name: str = DEFAULT_PROFILE) -> ImportOptions:
    """The options of a profile. Raises ConfigError when there is none of that name."""
    return import_options(name, {})


def import_options(name: str, arguments: Mapping[str, Argument]) -> ImportOptions:
    """The options of a profile, changed by command-line arguments, as `ipfs add` would understand them.

    Arguments are named as Kubo's options are (`cid-version`, `raw-leaves`, `max-file-links`, ...). Text is read as Kubo
    reads it: a number that starts with a zero is octal. Raises ConfigError.
    """
    settings = PROFILES.get(name)
    if settings is None:
        raise ConfigError(f"there is no profile {name[:60]!r}; there are {', '.join(PROFILES)}")
    unknown = arguments.keys() - OPTIONS
    if unknown:
        raise ConfigError(f"there is no option {min(unknown)[:60]!r} for importing")
    given = {**settings, **arguments}

    seconds, nanoseconds = _number(given, "mtime", 0), _number(given, "mtime-nsecs", 0)
    if nanoseconds and not seconds:
        raise ConfigError("mtime-nsecs needs mtime")
    mode = _number(given, "mode", 0)
    if mode < 0:
        raise ConfigError(f"there is no mode {mode}")
    preserve_mode, preserve_mtime = _flag(given, "preserve-mode"), _flag(given, "preserve-mtime")
    if mode or seconds or preserve_mode or preserve_mtime:
        # A raw leaf may be a whole file, and has no place for mode and time. Only who asked for both is contradicted.
        if _flag(arguments, "raw-leaves"):
            raise ConfigError("mode and mtime cannot be recorded with raw-leaves; turn raw-leaves off")
        given["raw-leaves"] = False

    hash_name = _text(given, "hash").lower()
    # Where neither the user nor the profile says it: other hashes need version 1, and version 1 has raw leaves.
    cid_version = _number(given, "cid-version", 0 if hash_name == _SHA2_256 else 1)
    return ImportOptions(
        cid_version=cid_version,
        hash=hash_name,
        raw_leaves=_flag(given, "raw-leaves", cid_version == 1),
        chunker=_text(given, "chunker"),
        max_file_links=_number(given, "max-file-links", 0),
        max_directory_links=_number(given, "max-directory-links", 0),
        max_hamt_fanout=_number(given, "max-hamt-fanout", 256),
        hamt_estimation=SizeEstimation(given["hamt-estimation"]),
        trickle=_flag(given, "trickle"),
        inline=_flag(given, "inline"),
        inline_limit=_number(given, "inline-limit", 32),
        wrap=_flag(given, "wrap-with-directory"),
        hidden=_flag(given, "hidden"),
        empty_directories=_flag(given, "empty-dirs", True),
        # Kubo takes a mode and a time of 0 for none, and drops setuid, setgid and sticky of a mode that is given.
        mode=mode & 0o777 or None,
        mtime=UnixTime(seconds, nanoseconds) if seconds else None,
        preserve_mode=preserve_mode and not mode,
        preserve_mtime=preserve_mtime and not seconds,
    )


def _text(given: Mapping[str, Argument], key: str) -> str:
    value = given[key]
    if not isinstance(value, str):
        raise ConfigError(f"{key} is a name, not {value}")
    return value


def _number(given: Mapping[str, Argument], key: str, default: int) -> int:
    value = given.get(key, default)
    if isinstance(value, int):
        return value
    for base in (0, 8):
        # Python's base 0 knows 0o644, 0x1a4 and 420, not 0644.
        try:
            return int(value, base)
        except ValueError:
            continue
    raise ConfigError(f"{key} is a number, not {value[:60]!r}")


def _flag(given: Mapping[str, Argument], key: str, default: bool = False) -> bool:
    value = given.get(key, default)
    if value in _FLAGS:
        return _FLAGS[value]
    raise ConfigError(f"{key} is true or false, not {str(value)[:60]!r}")


_FLAGS: Final[Mapping[Argument, bool]] = {"true": True, "false": False, True: True, False: False}
