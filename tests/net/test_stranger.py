"""A host that nobody knows."""

import pytest

from stack.net.host import Host
from stack.net.stranger import stranger_beside
from stack.transports.late import default_transports
from tests.net.identities import key

pytestmark = pytest.mark.anyio


async def test_it_dials_by_the_same_transports_from_ports_of_its_own() -> None:
    """From the port that the host listens on, a router would take its dial for an answer, and call a shut door open."""
    transports = default_transports()
    async with Host(key(1), transports=transports) as host:
        stranger = stranger_beside(host, host.budget)
        assert [type(each) for each in stranger._transports] == [type(each) for each in transports]
        assert not set(map(id, stranger._transports)) & set(map(id, transports))
        assert stranger.peer_id != host.peer_id
