"""Profiles and arguments, and how one option acts on another."""

from collections.abc import Mapping

import pytest

from stack.dag.unixfs.data import UnixTime
from stack.dag.unixfs.options import PROFILES, Argument, ImportOptions, SizeEstimation, import_options, profile
from stack.errors import ConfigError
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB, RAW


def test_the_default_is_the_profile_of_2025() -> None:
    assert profile() == profile("unixfs-v1-2025") == ImportOptions()


def test_the_profiles_of_ipip_499() -> None:
    old = profile("unixfs-v0-2015")
    assert (old.cid_version, old.raw_leaves, old.chunker, old.max_file_links) == (0, False, "size-262144", 174)
    assert old.hamt_estimation is SizeEstimation.LINKS
    new = profile("unixfs-v1-2025")
    assert (new.cid_version, new.raw_leaves, new.chunker, new.max_file_links) == (1, True, "size-1048576", 1024)
    assert new.hamt_estimation is SizeEstimation.BLOCK
    for options in old, new:
        assert (options.hash, options.max_hamt_fanout, options.hamt_threshold) == ("sha2-256", 256, 262144)


@pytest.mark.parametrize(
    ("arguments", "cid_version", "raw_leaves"),
    [
        ({}, 0, False),
        ({"cid-version": "1"}, 1, True),
        ({"cid-version": 1, "raw-leaves": False}, 1, False),
        ({"raw-leaves": "true"}, 0, True),
        ({"hash": "BLAKE3"}, 1, True),
        ({"hash": "blake3", "raw-leaves": "false"}, 1, False),
        ({"cid-version": "1", "mode": "0644"}, 1, False),
        ({"cid-version": "1", "mtime": "5"}, 1, False),
        ({"cid-version": "1", "preserve-mode": "true"}, 1, False),
        ({"cid-version": "1", "preserve-mtime": True}, 1, False),
        ({"cid-version": "1", "mode": "0"}, 1, True),
    ],
)
def test_what_is_left_open_follows_from_the_rest(
    arguments: Mapping[str, Argument], cid_version: int, raw_leaves: bool
) -> None:
    options = import_options("default", arguments)
    assert (options.cid_version, options.raw_leaves) == (cid_version, raw_leaves)


@pytest.mark.parametrize("text", ["420", "0644", "0o644", 420])
def test_a_mode_is_read_as_kubo_reads_it(text: str | int) -> None:
    assert import_options("default", {"mode": text}).mode == 0o644


def test_a_mode_that_is_given_loses_setuid() -> None:
    assert import_options("default", {"mode": "04755"}).mode == 0o755
    assert import_options("default", {"mode": "04000"}).mode is None


def test_what_is_given_comes_before_what_is_preserved() -> None:
    options = import_options(
        "default", {"mode": "0600", "mtime": "-3", "mtime-nsecs": "7", "preserve-mode": True, "preserve-mtime": True}
    )
    assert options.attributes(0o777, UnixTime(1)) == (0o600, UnixTime(-3, 7))


def test_attributes_are_recorded_only_when_asked_for() -> None:
    assert profile("default").attributes(0o777, UnixTime(1)) == (None, None)
    preserving = import_options("default", {"preserve-mode": True, "preserve-mtime": True})
    assert preserving.attributes(0o104755, UnixTime(1, 2)) == (0o4755, UnixTime(1, 2))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unixfs-v2", {}),
        ("default", {"no-such-option": "1"}),
        ("default", {"hamt-estimation": "block"}),
        ("default", {"cid-version": "2"}),
        ("default", {"cid-version": "one"}),
        ("default", {"cid-version": "0", "hash": "sha2-512"}),
        ("unixfs-v0-2015", {"hash": "sha2-512"}),
        ("default", {"hash": "md6"}),
        ("default", {"hash": "identity"}),
        ("default", {"hash": "keccak-256"}),
        ("default", {"hash": 18}),
        ("default", {"chunker": "size-0"}),
        ("default", {"max-file-links": "1"}),
        ("default", {"max-directory-links": "-1"}),
        ("default", {"max-hamt-fanout": "4"}),
        ("default", {"max-hamt-fanout": "24"}),
        ("default", {"max-hamt-fanout": "2048"}),
        ("default", {"inline": "true", "inline-limit": "129"}),
        ("default", {"inline": "yes"}),
        ("default", {"mode": "-1"}),
        ("default", {"mode": "0689"}),
        ("default", {"mtime-nsecs": "1"}),
        ("default", {"mtime": "1", "mtime-nsecs": "1000000000"}),
        ("default", {"mtime": str(2**63)}),
        ("default", {"raw-leaves": "true", "mode": "0644"}),
    ],
)
def test_what_kubo_refuses_is_refused(name: str, arguments: Mapping[str, Argument]) -> None:
    with pytest.raises(ConfigError):
        import_options(name, arguments)


def test_a_threshold_is_not_negative() -> None:
    with pytest.raises(ConfigError):
        ImportOptions(hamt_threshold=-1)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("hash_name", ["sha2-256", "blake3", "sha3-256"])
def test_a_cid_of_parts_is_that_of_the_whole(name: str, hash_name: str) -> None:
    options = import_options("default" if hash_name != "sha2-256" else name, {"hash": hash_name})
    for codec in RAW, DAG_PB:
        whole = options.cid(codec, b"abc")
        assert options.cid(codec, b"a", memoryview(b"b"), b"c") == whole
        assert whole == Cid.of(b"abc", codec, hash_name, 1 if codec == RAW else options.cid_version)


def test_small_blocks_go_into_their_cid_when_that_is_wanted() -> None:
    options = import_options("default", {"inline": True, "inline-limit": 3})
    assert options.cid(DAG_PB, b"ab", b"c").digest == b"abc"
    assert options.cid(DAG_PB, b"ab", b"c").version == 1
    assert options.cid(DAG_PB, b"ab", b"cd").version == 0
