"""What `stack share` says of who can reach it, at once and once it was tried."""

from collections.abc import Callable
from typing import cast

import pytest

from stack.cli import share
from stack.errors import NodeClosed
from stack.node.api import Api, GetReach, Reach

pytestmark = pytest.mark.anyio
SAID = Reach(scope="network", addresses=(), advice="Computers on this network.", checked=False)


def answering(answer: Callable[[GetReach], Reach]) -> Api:
    """A node that is asked this alone."""

    class Node:
        async def ask(self, request: GetReach) -> Reach:
            return answer(request)

    return cast(Api, Node())


async def test_what_others_have_tried_is_said_once_it_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    tried = Reach(scope="internet", addresses=(), advice="It is reached from the internet.", checked=True)
    waits = []

    def answer(request: GetReach) -> Reach:
        waits.append(request.seconds)
        return tried

    await share._say_what_was_tried(answering(answer), SAID)
    assert capsys.readouterr().err == "It is reached from the internet.\n"
    assert waits == [share.REACH_SECONDS] and share.REACH_SECONDS < 3


async def test_what_was_said_already_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    await share._say_what_was_tried(answering(lambda request: SAID), SAID)

    def closed(request: GetReach) -> Reach:
        raise NodeClosed

    await share._say_what_was_tried(answering(closed), SAID)
    assert capsys.readouterr().err == ""
