"""`stack shares ls|rm`: what this home gives to others, why, and to whom it went."""

import time
from pathlib import Path

import click

from stack.cli import completing, output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.groups import Group
from stack.cli.missing import missed
from stack.cli.session import open_api
from stack.cli.types import PathType, config
from stack.dag.unixfs.names import printable
from stack.node.api import ListShares, RemoveShare, ShareEnded, ShareInfo, SharesRemoved


@click.group(cls=Group)
def shares() -> None:
    """What I share, and to whom it went."""


@shares.command("ls")
@answers(ShareInfo, many=True)
def list_shares(as_json: bool) -> None:
    """All shares of this home."""

    async def work() -> None:
        async with open_api(config("announce")) as api:
            rows = await api.ask(ListShares())
        if as_json:
            output.json_line(rows)
            return
        for row in rows:
            age = f", since {output.duration(max(time.time() - row.since, 0.0))}" if row.since else ""
            size = output.size(row.size) if row.size else "-"
            why = ", ".join(row.why)
            output.data(f"{row.cid}  {size}  {printable(row.name)}")
            output.data(f"    {why}: {_state(row)}{age}")
            if row.paths:
                copies = output.count(row.copies, "whole copy") if row.copies == 1 else f"{row.copies} whole copies"
                output.data(
                    f"    sent {output.size(row.bytes_sent)} to {output.count(len(row.peers), 'peer')}, {copies}"
                )
            for each in row.receivers:
                if each.part is not None:
                    output.data(f"    {each.peer_id} has {'all' if each.complete else f'{100 * each.part:.0f} %'}")
            for path in row.paths:
                output.data(f"    {printable(path)}")
        if not rows:
            output.note("nothing is shared")

    run_async(work)


def _state(row: ShareInfo) -> str:
    if row.state == "serving":
        ends = "" if row.kept else ", until it ends"
        return f"serving ({row.served_by}{ends})"
    if row.state == "not served":
        return "not served, no node runs (stack daemon --detach)"
    return f"{row.state}, not served as it was (stack share it again)"


@shares.command("rm")
@click.argument(
    "targets", type=PathType(), metavar="CID|NAME|PATH...", nargs=-1, required=True, shell_complete=completing.shares
)
@answers(SharesRemoved)
def remove(targets: tuple[str, ...], as_json: bool) -> int:
    """Stop sharing, and announcing; your files stay as they are."""

    async def work() -> int:
        ended: list[ShareEnded] = []
        missing: list[str] = []
        async with open_api(config("announce")) as api:
            for target in targets:
                done = await api.ask(RemoveShare(target=target, path=Path(target).absolute()))
                ended += done.ended
                if not done.count:
                    missing.append(target)
                elif not as_json:
                    _say_ended(done)
        answer = SharesRemoved(count=len(ended), ended=tuple(ended))
        if missing:
            return missed(
                answer, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not shared", as_json=as_json
            )
        if as_json:
            output.json_line(answer)
        return 0

    return run_async(work)


def _say_ended(done: SharesRemoved) -> None:
    for each in done.ended:
        output.data(f"no longer {' and '.join(each.what)}: {printable(each.name)} {each.cid}")
        for path in each.paths:
            output.data(f"    {printable(path)}")
        if each.still_pinned:
            output.note(f"it is still pinned, and so given to whoever asks for it: stack pin rm {each.cid}")
