"""A server of AutoNAT while it is sent dial data."""

from typing import cast

import anyio
import pytest

from stack.protocols.autonat.messages import DialData, decode, encode
from stack.protocols.autonat.shell.lines import Talk
from stack.sansio.delimited import encode_delimited
from stack.streams.interfaces import Stream
from tests.turns import steps_counted

MANY = 5000


class Small:
    """A stream on which the smallest pieces come, as many together as fit into one read."""

    async def receive(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        return encode_delimited(encode(DialData(1))) * MANY


@pytest.mark.anyio
async def test_attack_5_ten_thousand_pieces_that_came_together_are_no_turn_of_one_task() -> None:
    talk = Talk(cast(Stream, Small()))
    with steps_counted():
        for _ in range(2 * MANY):
            assert decode(await talk.hear()) == DialData(1)
