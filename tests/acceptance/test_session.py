"""`docs/session.md` shows what is seen: its narrowest window is played again, and what differs by nature is left out."""

import os
import re
from pathlib import Path

import pytest

from tests.acceptance import namespaces
from tests.acceptance.record import PAGE, SIZES, record

BLOCK = re.compile(r"```console\n(.*?)\n```", re.S)
STRANGER = re.compile(r"the (other end|connection) [a-z ]+ key of this private network")
"""Several ends of one handshake: which of them it is depends on who reads first."""


def alike(block: str) -> str:
    """A block without tickets, figures, and where its lines end."""
    text = " ".join(line for line in block.split("\n") if not re.fullmatch(r"[a-z2-7]{5,}", line))
    text = re.sub(r"stack:[a-z2-7]+", "TICKET", " ".join(text.split()))
    return STRANGER.sub("STRANGER", re.sub(r"\d[\d.,:]*( ?[KMG]?i?B\b(/s)?)?", "0", text))


@pytest.mark.timeout(240)
def test_the_page_shows_what_is_seen(place: Path) -> None:
    if (reason := namespaces.missing()) is not None:
        pytest.skip(f"NOT TESTED: the screens of docs/session.md; {reason}")
    if os.getloadavg()[0] > 4 * (os.cpu_count() or 1):
        pytest.skip(
            "NOT TESTED: the screens of docs/session.md; a machine with so much else to do shows other moments than people see"
        )
    shown = {alike(block) for block in BLOCK.findall(PAGE.read_text())}
    seen = BLOCK.findall(record(place, [SIZES[-1]]))
    assert len(seen) > 8
    for block in seen:
        assert alike(block) in shown, f"run `python -m tests.acceptance.record`: the page does not show\n{block}"
