"""Handlers of requests about what is shared."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread

from stack.blocks.interfaces import PinKind, Segment, SegmentState
from stack.blocks.reads import Fault
from stack.blocks.store import DiskStore
from stack.dag.unixfs.reader import decode_node
from stack.errors import StackError
from stack.files.jobs import Share as ShareRow
from stack.files.storage import pins
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node.api import (
    Done,
    GetTicket,
    ListShares,
    RemoveShare,
    SendProgress,
    ShareInfo,
    ShareProgress,
    SourceLost,
    TicketInfo,
    WatchShare,
)
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled
from stack.node.tally import Shared

ENDING_SECONDS = 5.0
"""For taking back a share at its end; what is left of it is never served again, and goes when the home is opened next."""

LOOK_SECONDS = 0.5
"""How often it is looked whether receivers of what is shared once have gone."""

CHECK_SECONDS = 2.0
"""A look at all shared files takes no longer for whoever lists shares: on a mount that hangs it would never end."""


async def list_shares(node: Handled, request: ListShares) -> tuple[ShareInfo, ...]:
    """All shares, and whether their files are still as they were."""
    rows = await node.shares.rows()
    lost: dict[Cid, list[Path]] = {}
    if isinstance(node.blocks, DiskStore):
        with anyio.move_on_after(CHECK_SECONDS):
            await node.shares.check_files(node.tasks)
        lost = await anyio.to_thread.run_sync(lost_of, rows, await node.blocks.segments())
    otherwise = dict.fromkeys(lost, "missing")
    states = await node.aside.ask(_states, lost, otherwise=otherwise) if lost else otherwise
    return tuple(
        ShareInfo(
            cid=row.root,
            name=row.name,
            paths=tuple(str(path) for path in row.paths),
            size=row.size,
            since=row.since,
            bytes_sent=row.bytes_sent,
            copies=row.copies,
            peers=tuple(str(peer) for peer, _ in row.sent),
            state=states.get(row.root, "serving"),
            kept=row.kept,
        )
        for row in rows
    )


async def get_ticket(node: Handled, request: GetTicket) -> tuple[TicketInfo, ...]:
    """Tickets of what is meant, among what is shared or seeded, then among pins."""
    found: dict[Cid, tuple[str, int]] = {}

    def meant(root: Cid, name: str, *places: Path) -> bool:
        return root not in found and (request.target in (root.text, name) or request.path in places)

    for row in await node.shares.rows():
        if meant(row.root, row.name, *row.paths):
            found[row.root] = row.name, row.size
    keeper = pins(node.blocks)
    for root, name in await keeper.pins(kind=PinKind.USER) if keeper is not None else ():
        if meant(root, name):
            found[root] = name, await _size_of(node, root)
    return tuple(
        TicketInfo(ticket=node.ticket(root, name, size), cid=root, name=name, size=size)
        for root, (name, size) in found.items()
    )


async def _size_of(node: Handled, root: Cid) -> int:
    """Bytes below a root as its first block claims; 0 where that cannot be read."""
    try:
        below = decode_node(root, await node.blocks.get(root))
    except StackError:
        return 0
    return below.file_size if below.is_file else sum(link.size or 0 for link in below.links)


def lost_of(rows: Sequence[ShareRow], segments: Sequence[Segment]) -> dict[Cid, list[Path]]:
    """The missing files of each share that has any."""
    shared = Shared([(row.root, row.paths) for row in rows])
    lost: dict[Cid, list[Path]] = {}
    for segment in segments:
        if segment.state is SegmentState.MISSING:
            for root in shared.roots_of(segment.path):
                lost.setdefault(root, []).append(segment.path)
    return lost


def _states(lost: dict[Cid, list[Path]]) -> dict[Cid, str]:
    return {root: "changed" if any(path.exists() for path in paths) else "missing" for root, paths in lost.items()}


async def remove_share(node: Handled, request: RemoveShare) -> Done:
    """Stop sharing, and announcing."""
    roots = await node.shares.remove(request.target)
    if node.announces:
        for root in roots:
            await node.withdraw(root)
    return Done(count=len(roots))


@streaming
async def watch_share(node: Handled, request: WatchShare) -> AsyncGenerator[ShareProgress, None]:
    """To whom a share goes and which of its files are lost, after each change from now on."""
    try:
        async with aclosing(_follow(node, request.cid, request.once)) as steps:
            async for step in steps:
                yield step
    finally:
        if request.owner:
            with anyio.move_on_after(ENDING_SECONDS, shield=True):
                await node.end_share(request.cid, request.owner)


async def _follow(node: Handled, root: Cid, once: bool) -> AsyncGenerator[ShareProgress, None]:
    revision = node.shares.revision
    row = await node.shares.row(root)
    told: dict[PeerId, int] = dict(row.sent) if row is not None else {}
    told_lost: set[Path] = set()
    while row is not None and not (once and node.shares.is_over(root, node.host.is_connected)):
        before = revision
        with anyio.move_on_after(LOOK_SECONDS if once else None):
            revision = await node.shares.wait(revision)
        row = await node.shares.row(root)
        if row is None:
            return
        whole = set(node.shares.copies_since(before, root))
        sent = dict(row.sent)
        for peer in whole | {peer for peer, amount in row.sent if amount != told.get(peer, 0)}:
            told[peer] = sent.get(peer, 0)
            yield SendProgress(peer_id=str(peer), bytes_sent=told[peer], complete=peer in whole)
        lost = node.shares.lost(row.paths)
        for path in lost.keys() - told_lost:
            yield SourceLost(path=str(path), gone=lost[path] is Fault.GONE)
        told_lost = set(lost)
