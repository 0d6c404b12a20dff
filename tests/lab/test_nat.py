"""One pair of routers of `tests.lab.nat`; the others take a minute or two."""

from pathlib import Path

import pytest

from stack.transports.extras import has_quic
from tests.lab import nat, nat_picture


def test_two_homes_behind_routers_of_the_common_kind_meet_by_a_code_and_go_on_without_the_relay(tmp_path: Path) -> None:
    if (reason := nat.missing()) is not None:
        pytest.skip(f"NOT TESTED: hole punching through routers; it {reason}")
    with nat.two_homes(tmp_path, ("port", "port")) as homes:
        assert nat.fetch(*homes, size=1 << 20, code=True).way == "punched"


@pytest.mark.skipif(not has_quic(), reason="NOT TESTED: hole punching by QUIC; needs the extra `quic`")
def test_two_homes_meet_by_quic_too(tmp_path: Path) -> None:
    if (reason := nat.missing()) is not None:
        pytest.skip(f"NOT TESTED: hole punching through routers; it {reason}")
    with nat.two_homes(tmp_path, ("port", "port"), quic=True) as homes:
        assert nat.fetch(*homes, size=1 << 20, quic=True).way == "punched"


def test_no_pair_of_ours_does_worse_than_go_libp2p() -> None:
    """By the tables of docs/reach.md: all pairs of both."""
    ways = list(nat_picture.COLOURS)  # best first
    ours, theirs = nat_picture.tables((nat_picture.DOCS / "reach.md").read_text())
    assert [row[0] for row in ours[1:]] == [row[0] for row in theirs[1:]] == list(nat.KINDS)
    for mine, its in zip(ours[1:], theirs[1:], strict=True):
        for one, other in zip(mine[1:], its[1:], strict=True):
            assert ways.index(one.partition(",")[0]) <= ways.index(other.partition(",")[0]), (mine[0], one, other)


def test_the_picture_is_that_of_the_tables() -> None:
    """`python -m tests.lab.nat --picture` draws it anew."""
    drawn = nat_picture.draw((nat_picture.DOCS / "reach.md").read_text())
    assert drawn == (nat_picture.DOCS / "reach.svg").read_text()
    assert drawn.count(nat_picture.COLOURS["punched"]) > 40 and nat_picture.COLOURS["failed"] in drawn
