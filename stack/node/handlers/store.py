"""Handlers of requests about blocks, pins, garbage and CARs."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from stack.blocks.disk import free_bytes
from stack.blocks.interfaces import BLOCK_SIZE_MAX, PinKind, PinStore
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.blocks.verify import Problem, ProblemKind
from stack.dag import links
from stack.dag.unixfs.names import told
from stack.errors import ConfigError, LimitExceeded, Refused
from stack.files.car_io import export_car, import_car
from stack.files.dag import fetch_dag, unreached
from stack.files.share_rows import Origin
from stack.files.storage import hold, pins
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import code_of
from stack.multiformats.multihash import IDENTITY
from stack.node.api import (
    AddPin,
    BlockGet,
    BlockInfo,
    BlockPut,
    BlockStat,
    CarExport,
    CarImport,
    CarReport,
    CollectGarbage,
    DeleteBlocks,
    Done,
    GarbageReport,
    GetRepoStat,
    HasBlocks,
    ListPins,
    Pin,
    RemovePin,
    RepoStat,
    VerifyEvent,
    VerifyRepo,
)
from stack.node.handlers.naming import session_for
from stack.node.handlers.shares import lost_of, shared_again
from stack.node.handlers.streaming import streaming
from stack.node.home import HOME_VERSION, disk_usage
from stack.node.interfaces import Handled

TOLD_SINGLY_MAX = 10
"""Files of one folder that are gone are told one by one up to so many."""

NO_LOSS = "; nothing is lost: what was in it lies elsewhere too, or is needed by nothing"

KINDS = {PinKind.USER: "pin", PinKind.SHARE: "share"}


def _disk(node: Handled) -> DiskStore:
    if not isinstance(node.store, DiskStore):
        raise Refused("the store of this node is not on a disk: there are no figures of it, and nothing to check")
    return node.store


def _keeper(node: Handled) -> PinStore:
    keeper = pins(node.store)
    if keeper is None:
        raise Refused("the store of this node keeps no pins")
    return keeper


async def list_pins(node: Handled, request: ListPins) -> tuple[Pin, ...]:
    """Pins of the user and of shares."""
    store = _keeper(node)
    rows: list[Pin] = []
    for kind, shown in KINDS.items():
        rows += [Pin(cid=cid, name=name, kind=shown) for cid, name in await store.pins(kind=kind)]
    return tuple(rows)


async def add_pin(node: Handled, request: AddPin) -> Done:
    """Fetch what is missing below a root, then keep it."""
    keeper = _keeper(node)
    with hold(node.store, request.cid):
        async with session_for(node, request.source or request.cid.text, timeout=request.timeout) as (session, _):
            count = await fetch_dag(session, session.store, request.cid)
            await keeper.add_pin(request.cid, told(request.name))
            await session.conclude()
    return Done(count=count)


async def remove_pin(node: Handled, request: RemovePin) -> Done:
    """No longer keep a root."""
    return Done(count=int(await _keeper(node).remove_pin(request.cid)))


async def collect_garbage(node: Handled, request: CollectGarbage) -> GarbageReport:
    """Free what nothing needs."""
    store = node.store
    if isinstance(store, MemoryStore):
        return await _collect_memory(node, store, request.dry_run)
    if not isinstance(store, DiskStore):
        raise Refused("the store of this node collects no garbage")
    report = await store.collect(links, dry_run=request.dry_run)
    here = (await store.statistics()).blocks - (report.removed if request.dry_run else 0)
    return GarbageReport(
        blocks=report.removed,
        bytes=report.removed_bytes,
        kept=here,
        dry_run=request.dry_run,
    )


async def _pinned(store: PinStore) -> set[Cid]:
    return {cid for kind in PinKind for cid, _ in await store.pins(kind=kind)}


async def _collect_memory(node: Handled, store: MemoryStore, dry_run: bool) -> GarbageReport:
    roots: set[Cid] | None = None
    while roots != (now := {row.root for row in await node.sharing.rows()} | await _pinned(store)):
        roots = now
        garbage = await unreached(store, list(roots))
    if store.held:  # looked at after the walk: nothing is put between this and the removal
        garbage = []
    total = len([cid async for cid in store.cids()])
    size = sum(size or 0 for size in await store.sizes(garbage))
    if not dry_run:
        await store.delete(garbage)
    return GarbageReport(blocks=len(garbage), bytes=size, kept=total - len(garbage), dry_run=dry_run)


async def repo_stat(node: Handled, request: GetRepoStat) -> RepoStat:
    """Figures of the repository."""
    figures = await _disk(node).statistics()
    home = node.config.home
    assert home is not None
    return RepoStat(
        home=str(home),
        version=HOME_VERSION,
        blocks=figures.blocks,
        places=figures.locations,
        shared_files=figures.files - figures.missing_files,
        shared_bytes=figures.file_bytes,
        pack_bytes=figures.pack_bytes,
        waste_bytes=figures.pack_bytes - figures.live_pack_bytes,
        home_bytes=await node.aside.ask(disk_usage, home, otherwise=0),
        index_bytes=figures.index_bytes,
        free_bytes=await node.aside.ask(free_bytes, home, otherwise=0),
        quota_bytes=figures.quota,
    )


@streaming
async def verify_repo(node: Handled, request: VerifyRepo) -> AsyncGenerator[VerifyEvent, None]:
    """Read and hash everything; see that all is here which is pinned or shared, but for the rest of what is seeded in part."""
    shares = await node.sharing.rows()  # not those that have ended: all or some of them has been taken back
    store = _disk(node)
    parts = {share.root for share in shares if share.origin is Origin.PART}
    # Those last: a block is told of the first root that lacks it.
    report = await store.verify(roots=sorted((share.root for share in shares), key=parts.__contains__))
    given_up = shared_again(shares) | lost_of(shares, await store.segments()).keys()
    pinned = {root for root, _ in await store.pins()}
    kept = pinned | {share.root for share in await node.sharing.rows()}
    given_up, parts = given_up - pinned, parts - pinned
    not_whole = 0
    here = (await store.statistics()).blocks
    told = VerifyEvent(blocks=here, places=report.blocks, bytes=report.bytes)
    for lost in (True, False):
        for sentence in await to_thread.run_sync(_files_gone, [each for each in report.problems if each.lost is lost]):
            yield replace(told, problem=sentence) if lost else replace(told, note=f"{sentence}{NO_LOSS}")
    for problem in report.problems:
        if problem.kind is ProblemKind.FILE_GONE:
            continue
        if problem.kind is ProblemKind.PINNED_MISSING and problem.cid not in kept:
            continue  # let go of meanwhile
        if problem.kind is ProblemKind.PINNED_MISSING and problem.cid in given_up | parts:
            # Its files have become others, or gone, by their owner's hand: the repository has lost nothing.
            not_whole += problem.cid in given_up
            continue
        place = f"at {problem.offset}" if problem.offset is not None else None
        facts = [str(fact) for fact in (problem.path, place, problem.cid, problem.detail) if fact]
        unread = problem.kind is ProblemKind.UNREADABLE
        sentence = f"{problem.kind.value}: {' '.join(facts)}"
        if problem.lost:
            yield replace(told, problem=sentence, unread=unread)
        else:
            yield replace(told, note=f"{sentence}{NO_LOSS}")
    yield replace(told, not_whole=not_whole, done=True)


def _files_gone(problems: Sequence[Problem]) -> list[str]:
    """A sentence for each file that is gone, or for many together."""
    gone = {each.path: each.detail for each in problems if each.kind is ProblemKind.FILE_GONE and each.path}
    sentences = []
    for where, count in gone_together(gone):
        what = f"{count:,} files" if count > 1 else gone.get(where)
        sentences.append(f"{ProblemKind.FILE_GONE.value}: {where}{f' ({what})' if what else ''}")
    return sentences


def gone_together(paths: Collection[Path]) -> list[tuple[Path, int]]:
    """Files that are gone by the highest folder that is gone with them, each with how many; many out of a folder that is there by it."""
    standing: dict[Path, bool] = {}

    def stands(folder: Path) -> bool:
        if folder not in standing:
            standing[folder] = folder.exists()
        return standing[folder]

    found: Counter[Path] = Counter()
    for path in paths:
        top = path
        while top.parent != top and not stands(top.parent):
            top = top.parent
        found[top] += 1
    crowds = Counter(top.parent for top in found if top in paths)
    together: Counter[Path] = Counter()
    for top, count in found.items():
        single = top in paths and crowds[top.parent] > TOLD_SINGLY_MAX
        together[top.parent if single else top] += count
    return sorted(together.items())


async def block_stat(node: Handled, request: BlockStat) -> BlockInfo:
    """The size of a local block, or of one that is in its own name. Raises BlockNotFound."""
    if request.cid.hash_code == IDENTITY:
        return BlockInfo(cid=request.cid, size=len(request.cid.digest))
    (size,) = await node.store.sizes([request.cid])
    if size is None:
        size = len(await node.store.get(request.cid))
    return BlockInfo(cid=request.cid, size=size)


async def has_blocks(node: Handled, request: HasBlocks) -> tuple[bool, ...]:
    """Which blocks are here; those in their own names always are."""
    here = await node.store.has(request.cids)
    return tuple(found or cid.hash_code == IDENTITY for cid, found in zip(request.cids, here, strict=True))


async def delete_blocks(node: Handled, request: DeleteBlocks) -> Done:
    """Forget blocks, but no root that somebody has asked to keep."""
    keeper = pins(node.store)
    kept = {row.root for row in await node.sharing.rows()} | (await _pinned(keeper) if keeper is not None else set())
    for cid in request.cids:
        if cid in kept:
            raise Refused(f"{cid} is pinned or shared: end that first")
    return Done(count=await node.store.delete(request.cids))


@streaming
async def block_get(node: Handled, request: BlockGet) -> AsyncGenerator[bytes, None]:
    """A block, from here or from peers."""
    source = request.source or request.cid.text
    async with session_for(node, source, request.providers, request.timeout) as (session, _):
        yield await session.get(request.cid)


async def block_put(node: Handled, request: BlockPut, data: AsyncIterator[bytes]) -> BlockInfo:
    """Keep a block."""
    block = bytearray()
    async for piece in data:
        block += piece
        if len(block) > BLOCK_SIZE_MAX:
            raise LimitExceeded("bytes of a block", BLOCK_SIZE_MAX)
    cid = request.cid
    if cid is None:
        try:
            codec = code_of(request.codec)
            cid = Cid.of(bytes(block), codec=codec, hash=request.hash, version=request.cid_version)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    await node.put([(cid, bytes(block))])
    return BlockInfo(cid=cid, size=len(block))


async def car_import(node: Handled, request: CarImport, data: AsyncIterator[bytes]) -> CarReport:
    """Take in a CAR."""
    report = await import_car(node.store, data, pin=request.pin)
    return CarReport(
        roots=report.roots,
        blocks=report.blocks,
        bytes=report.bytes,
        missing=len(report.missing),
        first_missing=report.missing[0] if report.missing else None,
    )


@streaming
async def car_export(node: Handled, request: CarExport) -> AsyncGenerator[bytes, None]:
    """Write the DAG below a root."""
    async with session_for(node, request.source or request.cid.text, timeout=request.timeout) as (session, _):
        async for piece in export_car(session, session.store, request.cid):
            yield piece
        await session.conclude()
