"""Handlers of requests about what is shared."""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from stack.blocks.gone import Fault
from stack.blocks.interfaces import PinKind, Segment, SegmentState
from stack.blocks.store import DiskStore
from stack.errors import Refused, StackError, StoreError
from stack.files.jobs import Share as ShareRow
from stack.files.nodes import read_node
from stack.files.share_rows import HOME, Origin
from stack.files.storage import pins
from stack.identity.peer_id import PeerId
from stack.multiformats.cid import Cid
from stack.node.api import (
    GetTicket,
    ListShares,
    ReceiverInfo,
    RemoveShare,
    SendProgress,
    ShareEnded,
    ShareInfo,
    ShareProgress,
    SharesRemoved,
    SourceLost,
    TicketInfo,
    WatchShare,
)
from stack.node.handlers.going_on import request_of
from stack.node.handlers.streaming import streaming
from stack.node.interfaces import Handled
from stack.node.owners import living
from stack.node.roles import LISTENING_ROLES
from stack.node.tally import Shared

ENDING_SECONDS = 5.0
"""For taking back a share at its end; what is left of it is never served again, and goes when the home is opened next."""

LOOK_SECONDS = 0.5
"""How often it is looked whether receivers of what is shared once have gone."""

CHECK_SECONDS = 2.0
"""A look at all shared files takes no longer for whoever lists shares: on a mount that hangs it would never end."""


async def list_shares(node: Handled, request: ListShares) -> tuple[ShareInfo, ...]:
    """All that this home gives to others, why, and whether it does so now."""
    rows = await _living_rows(node)
    announced = {item.root: item for item in node.announcing.items()} if node.announces else {}
    pinned = dict(await node.store.pins()) if isinstance(node.store, DiskStore) else {}
    states = await _states(node, rows)
    gives = node.config.serve and node.config.role in LISTENING_ROLES
    server = f"stack {node.config.role}, process {os.getpid()}" if gives else None

    def info(root: Cid, name: str, size: int, row: ShareRow | None) -> ShareInfo:
        why = [row.origin.value] if row is not None else []
        why += ["pinned"] * (root in pinned) + ["announced"] * (root in announced)
        state = states.get(root, "serving" if gives else "not served")
        here = node.receivers(root)
        return ShareInfo(
            cid=root,
            name=name,
            paths=tuple(str(path) for path in row.paths) if row is not None else (),
            size=size,
            since=row.since if row is not None else 0.0,
            bytes_sent=row.bytes_sent if row is not None else 0,
            copies=row.copies if row is not None else 0,
            peers=tuple(str(peer) for peer, _ in row.sent) if row is not None else (),
            state=state,
            kept=row is None or row.kept,
            why=tuple(why),
            ticket=node.ticket(root, name, size),
            served_by=server if state == "serving" else None,
            receivers=_receivers(row, here) if row is not None else (),
        )

    found = [info(row.root, row.name, row.size, row) for row in rows]
    shared = {row.root for row in rows}
    others = {root: name for root, name in pinned.items() if root not in shared}
    others |= {root: item.name or "" for root, item in announced.items() if root not in shared | others.keys()}
    return (
        *found,
        *(info(root, name, announced[root].size if root in announced else 0, None) for root, name in others.items()),
    )


async def get_ticket(node: Handled, request: GetTicket) -> tuple[TicketInfo, ...]:
    """Tickets of what is meant, among what is shared or seeded, then among pins."""
    found: dict[Cid, TicketInfo] = {}
    keeper = pins(node.store)
    pinned = dict(await keeper.pins(kind=PinKind.USER)) if keeper is not None else {}

    def meant(root: Cid, name: str, *places: Path) -> bool:
        return root not in found and (request.target in (root.text, name) or request.path in places)

    for row in await node.sharing.rows():
        if meant(row.root, row.name, *row.paths):
            found[row.root] = TicketInfo(
                ticket=node.ticket(row.root, row.name, row.size),
                cid=row.root,
                name=row.name,
                size=row.size,
                why=(row.origin.value, *["pinned"] * (row.root in pinned)),
                kept=row.kept or row.root in pinned,
                paths=tuple(map(str, row.paths)),
                below=await _fetched_path(node, row) if row.origin is Origin.PART else "",
            )
    for root, name in pinned.items():
        if meant(root, name):
            size = await _size_of(node, root)
            ticket = node.ticket(root, name, size)
            found[root] = TicketInfo(ticket=ticket, cid=root, name=name, size=size, why=("pinned",))
    return tuple(found.values())


async def _fetched_path(node: Handled, row: ShareRow) -> str:
    """The path below a root that was fetched to where a share of a part is; empty where something else was chosen, or nobody knows."""
    jobs = [job for job in await node.jobs.jobs() if job.root == row.root and job.target in row.paths]
    request = request_of(jobs[-1]) if jobs else None
    return "" if request is None or request.include or request.exclude else jobs[-1].path


async def _size_of(node: Handled, root: Cid) -> int:
    """Bytes below a root as its first block claims; 0 where that cannot be read."""
    try:
        below = await read_node(root, await node.store.get(root))
    except StackError:
        return 0
    return below.file_size if below.is_file else sum(link.size or 0 for link in below.links)


def _receivers(row: ShareRow, here: Mapping[PeerId, float]) -> tuple[ReceiverInfo, ...]:
    sent = dict(row.sent)

    def part(peer: PeerId) -> float | None:
        if peer not in here or peer in row.complete:
            return here.get(peer)
        # Who has a tree, or pieces that have no numbers, tells nothing before the end: he has at least what went out to him.
        return max(here[peer], min(sent.get(peer, 0) / row.size, 0.99) if row.size else 0.0)

    return tuple(
        ReceiverInfo(peer_id=str(peer), bytes_sent=sent.get(peer, 0), part=part(peer), complete=peer in row.complete)
        for peer in dict.fromkeys((*sent, *here))
    )


async def _living_rows(node: Handled) -> list[ShareRow]:
    """But for shares of commands that were killed, which nobody has taken back yet."""
    home = node.config.home
    alive = {HOME} if home is None else {HOME, *await anyio.to_thread.run_sync(living, home)}
    return [row for row in await node.sharing.rows() if row.owners & alive]


async def _states(node: Handled, rows: Sequence[ShareRow]) -> dict[Cid, str]:
    """What is not as it was shared: a file of it changed or went, or its place was shared again with other bytes."""
    store = node.store
    if not isinstance(store, DiskStore):
        return {}
    with anyio.move_on_after(CHECK_SECONDS):
        await node.sharing.check_files(node.tasks)
    lost = await anyio.to_thread.run_sync(lost_of, rows, await store.segments())
    suspects = dict.fromkeys(lost, "missing")
    if lost:
        suspects = await node.aside.ask(_looks, lost, otherwise=suspects)
    suspects = {**suspects, **dict.fromkeys(shared_again(rows), "changed")}
    # A file that went may have been part of an older share of the same folder: what is all here is served.
    with anyio.move_on_after(CHECK_SECONDS):
        for root in list(suspects):
            with suppress(StoreError):  # that it is whole is not known while a node of it cannot be read
                if not await store.lacks_some(root):
                    del suspects[root]
    return suspects


def shared_again(shares: Sequence[ShareRow]) -> set[Cid]:
    """Roots of whose places one has been shared again since, with another root."""
    newest: dict[Path, ShareRow] = {}
    for share in sorted(shares, key=lambda share: share.since):
        newest |= dict.fromkeys(share.paths, share)
    return {share.root for share in shares if any(newest[path].root != share.root for path in share.paths)}


def lost_of(rows: Sequence[ShareRow], segments: Sequence[Segment]) -> dict[Cid, list[Path]]:
    """The missing files of each share that has any."""
    shared = Shared([(row.root, row.paths) for row in rows])
    lost: dict[Cid, list[Path]] = {}
    for segment in segments:
        if segment.state is SegmentState.MISSING:
            for root in shared.roots_of(segment.path):
                lost.setdefault(root, []).append(segment.path)
    return lost


def _looks(lost: dict[Cid, list[Path]]) -> dict[Cid, str]:
    return {root: "changed" if any(path.exists() for path in paths) else "missing" for root, paths in lost.items()}


async def remove_share(node: Handled, request: RemoveShare) -> SharesRemoved:
    """Stop sharing, and announcing."""
    place = request.target if request.path is None else str(request.path)
    known = await list_shares(node, ListShares())
    found = [each for each in known if each.cid.text == request.target]
    found = found or [each for each in known if place in each.paths or each.name == request.target]
    if len(found) > 1:
        listed = "; ".join(f"{each.cid} {each.name}" for each in found)
        raise Refused(f"{len(found)} things that are shared have that name or place: {listed}. Say which by its CID.")
    ended = [await _end(node, each) for each in found]
    return SharesRemoved(count=len(ended), ended=tuple(ended))


async def _end(node: Handled, share: ShareInfo) -> ShareEnded:
    pinned = "pinned" in share.why
    alone = share.why == ("pinned",)
    if alone and isinstance(node.store, DiskStore):
        await node.store.remove_pin(share.cid)
    if node.announces:
        await node.end_announcing(share.cid)
    if {*share.why} - {"pinned", "announced"}:
        await node.sharing.remove(share.cid)
    what = share.why if alone else tuple(each for each in share.why if each != "pinned")
    return ShareEnded(cid=share.cid, name=share.name, paths=share.paths, what=what, still_pinned=pinned and not alone)


@streaming
async def watch_share(node: Handled, request: WatchShare) -> AsyncGenerator[ShareProgress, None]:
    """To whom a share goes and which of its files are lost, after each change from now on."""
    try:
        async with aclosing(_follow(node, request.cid, request.owner, request.once)) as steps:
            async for step in steps:
                yield step
    finally:
        if request.owner and not node.sharing.handing_over:
            with anyio.move_on_after(ENDING_SECONDS, shield=True):
                await node.end_share(request.cid, request.owner)


async def _follow(node: Handled, root: Cid, owner: str, once: bool) -> AsyncGenerator[ShareProgress, None]:
    sharing = node.sharing
    revision = sharing.revision
    row = await sharing.row(root)
    told: dict[PeerId, int] = dict(row.sent) if row is not None else {}
    told_lost: set[Path] = set()
    # Whoever was quicker than this is told, and ends it, too.
    early = sharing.ends_so_far(root) if once else sharing.ends_since(sharing.since(root, owner), root)
    before = {peer: amount for peer, amount in told.items() if peer not in early}
    over = False
    while row is not None and not over:
        known = revision
        over = once and sharing.is_over(root, node.host.is_connected, node.receivers(root))
        with anyio.move_on_after(0 if over or early else LOOK_SECONDS if once else None):
            revision = await sharing.wait(revision)
        if over or early or sharing.ends_since(known, root):
            await sharing.flush()  # what went to them is told with it: with `once` nothing is told afterwards
        ends, early = {**early, **sharing.ends_since(known, root)}, {}
        row = await sharing.row(root)
        if row is None:
            return
        sent = dict(row.sent)
        for peer in ends.keys() | {peer for peer, amount in row.sent if amount != told.get(peer, 0)}:
            told[peer] = sent.get(peer, 0)
            needless = peer in ends and told[peer] == before.get(peer, 0)
            complete = ends.get(peer, False)
            yield SendProgress(peer_id=str(peer), bytes_sent=told[peer], complete=complete, needless=needless)
        lost = sharing.lost(row.paths)
        for path in lost.keys() - told_lost:
            yield SourceLost(path=str(path), gone=lost[path] is Fault.GONE)
        told_lost = set(lost)
