"""What `stack share` says of who can reach it, at once and once it was tried."""

from typing import cast

import pytest

from stack.cli import share
from stack.errors import NodeClosed, StackError
from stack.multiformats.cid import Cid
from stack.node.api import Api, GetReach, GetTicket, Reach, Shared, TicketInfo

pytestmark = pytest.mark.anyio
SAID = Reach(scope="network", addresses=(), advice="Computers on this network.", checked=False)


ROOT = Cid.parse("bafybeicdzyh35vanacfr3svcmejvxawumrcdfecktgt26ktcqtjrewicry")
SHARED = Shared(
    ticket="stack:old", cid=ROOT, name="a", size=1, peer_id="", addrs=(), announced=False, open=False, public_name=None
)


def answering(reach: Reach | StackError, ticket: str = "stack:old") -> tuple[Api, list[float]]:
    """A node that is asked these alone, and for how long its answers were waited for."""
    waits = []

    class Node:
        async def ask(self, request: GetReach | GetTicket) -> Reach | tuple[TicketInfo, ...]:
            if isinstance(request, GetTicket):
                assert request.target == ROOT.text
                return (TicketInfo(ticket=ticket, cid=ROOT, name="a", size=1),)
            waits.append(request.seconds)
            if isinstance(reach, StackError):
                raise reach
            return reach

    return cast(Api, Node()), waits


@pytest.mark.parametrize("ticket", ["stack:old", "stack:new"])
async def test_what_others_have_tried_is_said_once_it_is_known(ticket: str, capsys: pytest.CaptureFixture[str]) -> None:
    tried = Reach(scope="internet", addresses=(), advice="It is reached from the internet.", checked=True)
    api, waits = answering(tried, ticket)
    await share._say_what_was_tried(api, SAID, SHARED)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "It is reached from the internet."
    assert told[1:] == ([] if ticket == SHARED.ticket else ["The ticket that leads there:", "stack get stack:new"])
    assert waits == [share.REACH_SECONDS] and share.REACH_SECONDS < 3


async def test_what_was_said_already_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (SAID, NodeClosed()):
        await share._say_what_was_tried(answering(answer)[0], SAID, SHARED)
    assert capsys.readouterr().err == ""
