"""A program and the commands of a home talk to its daemon, which is another process."""

import anyio

from stack import RunningNode, SyncNode
from tests.acceptance.kit import Machine
from tests.acceptance.process import good
from tests.cli.test_json import check
from tests.node.test_surface import program


def test_the_same_program_runs_against_a_daemon_and_its_json_is_of_the_form(sharer: Machine) -> None:
    async def ask() -> None:
        async with RunningNode.open(sharer.home) as node:
            await program(node)
            assert str(node.peer_id) == ready["peer_id"]

    with sharer.start("daemon", "--json") as daemon:
        ready = check("stack daemon", "--json", daemon.next_line())
        anyio.run(ask)
        with SyncNode.running(sharer.home) as node:
            cid = node.blocks.put(b"from a script")
            assert node.blocks.get(cid) == b"from a script" and node.identity().pid == ready["pid"]
        stopped = good(sharer.run("stop", "--json"))
        assert check("stack stop", "--json", stopped.lines[-1])["pid"] == ready["pid"]
        assert daemon.wait(30).code == 0
