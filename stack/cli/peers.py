"""`stack peers`, `connect`, `disconnect`, `ping`."""

import statistics

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.missing import missed
from stack.cli.session import open_api, waiting
from stack.cli.types import FROM, PEER, config
from stack.multiformats.multiaddr import Multiaddr
from stack.net.addresses import host_and_port
from stack.node.api import Connect, Disconnect, Done, ListPeers, PeerAnswer, PeerInfo, Ping, PingReply

NO_NODE = "no node runs that could stay connected: start `stack daemon --detach`"


@click.command()
@answers(PeerInfo, many=True)
def peers(as_json: bool) -> None:
    """Peers this node is connected to."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            rows = await api.ask(ListPeers())
            running = api.is_elsewhere
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            latency = f"{row.latency * 1000:.1f} ms" if row.latency is not None else "-"
            way = "direct" if not row.relayed else "relayed, a few KiB" if row.limited else "relayed"
            moved = f"sent {output.size(row.bytes_sent)}, received {output.size(row.bytes_received)}"
            output.data(f"{row.peer_id}  {row.address}  {row.direction}, {way}  {latency}  {moved}  {row.agent or '-'}")
        if not rows:
            output.note("no peers" if running else NO_NODE)

    run_async(work)


@click.command()
@click.argument("address", type=FROM)
@answers(PeerAnswer)
def connect(address: Multiaddr, as_json: bool) -> None:
    """Connect the running node to a peer."""

    async def work() -> None:
        async with open_api(config("command")) as api:
            async with waiting(f"waiting: {host_and_port(address)} does not answer yet", quiet=as_json):
                answer = await api.ask(Connect(address=address))
            running = api.is_elsewhere
        if as_json:
            output.json_line(answer)
        else:
            output.data(f"connected to {answer.peer_id}" if running else f"{answer.peer_id} can be reached")
            if not running:
                output.note(NO_NODE)

    run_async(work)


@click.command()
@click.argument("peer", type=PEER)
@answers(Done)
def disconnect(peer: str, as_json: bool) -> int:
    """Close all connections to a peer; either side may connect again.

    A bootstrap peer is dialled again at once, as are members of the announcement layer within seconds; a private network
    (swarm.key) is what keeps a peer out.
    """

    async def work() -> int:
        peer_id = Multiaddr.parse(peer).split_peer()[1] if peer.startswith("/") else peer
        if peer_id is None:
            raise click.BadParameter("the address does not end in /p2p/PEER")
        async with open_api(config("command")) as api:
            done = await api.ask(Disconnect(peer_id=peer_id))
        if not done.count:
            return missed(done, f"was not connected to {peer_id}", as_json=as_json)
        if as_json:
            output.json_line(done)
        else:
            output.data(f"disconnected from {peer_id}")
        return 0

    return run_async(work)


@click.command()
@click.argument("peer", type=PEER)
@click.option("-n", "--count", type=click.IntRange(1, 1_000_000), default=10, show_default=True, help="How many times.")
@answers(PingReply, many=True)
def ping(peer: str, count: int, as_json: bool) -> None:
    """Measure the round trip to a peer."""

    async def work() -> None:
        replies: list[PingReply] = []

        def show(reply: PingReply) -> None:
            replies.append(reply)
            if not as_json:
                output.data(f"{reply.peer_id}: {reply.sequence + 1} of {count}, {reply.seconds * 1000:.2f} ms")

        async with open_api(config("command")) as api, api.watch(Ping(target=peer, count=count)) as events:
            async with waiting(f"waiting: {peer} does not answer yet", quiet=as_json):
                show(await anext(events))
            async for reply in events:
                show(reply)
        times = [reply.seconds for reply in replies]
        if as_json:
            output.json_line(replies)
        elif len(times) > 1:
            output.note(f"median {statistics.median(times) * 1000:.2f} ms, fastest {min(times) * 1000:.2f} ms")

    run_async(work)
