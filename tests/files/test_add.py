"""Import of files and trees, against Kubo's CIDs and against everything that may go wrong on a disk."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from stack.blocks import disk
from stack.blocks.interfaces import PinKind, SourceChanged
from stack.blocks.memory import MemoryStore
from stack.blocks.store import DiskStore
from stack.dag import links
from stack.dag.unixfs.options import ImportOptions, import_options, profile
from stack.dag.unixfs.reader import decode_node
from stack.errors import ConfigError, NoSpace, Refused
from stack.files import add as add_module
from stack.files import add_file as add_file_module
from stack.files.add import Adder
from stack.files.add_file import COPIED_BYTES, COPIES_AT_ONCE
from stack.files.chosen import Selection
from stack.files.cutting import PIECE_BYTES, CutLeaf, OpenFile
from stack.files.events import AddEvent, AddProgress, EntryAdded, EntrySkipped
from stack.files.ignored import Ignored
from stack.files.known import known_files
from stack.files.paths import DEPTH_MAX
from stack.files.scan import Scanned, Scanner
from stack.multiformats.cid import Cid
from stack.multiformats.multihash import IDENTITY
from tests.files.conftest import blocks_of, content, open_store

VECTORS = Path(__file__).parent.parent / "vectors"
FILES = json.loads((VECTORS / "unixfs-import.json").read_text())
TREES = json.loads((VECTORS / "unixfs-dirs.json").read_text())

IS_ROOT = os.geteuid() == 0


def options_of(record: dict) -> ImportOptions:
    options: ImportOptions = import_options(record["options"]["profile"], record["options"]["args"])
    return options


def input_of(recipe: dict) -> bytes:
    if recipe["kind"] == "shake256":
        return hashlib.shake_256(recipe["seed"].encode()).digest(recipe["size"])
    unit = bytes.fromhex(recipe["unit_hex"])
    return (unit * (recipe["size"] // len(unit) + 1))[: recipe["size"]]


def make_tree(base: Path, tree: dict) -> Path:
    """The folder `root` of a vector."""
    root = base / "root"
    root.mkdir()
    entries = list(tree.get("entries", ()))
    if "generate" in tree:
        made = tree["generate"]
        entries += [
            {"path": made["name"].format(i=i), "type": "file", "text": made["text"].format(i=i)}
            for i in range(made["count"])
        ]
        entries += made.get("extra", [])
    entries += tree.get("extra", [])
    for entry in entries:
        path = root / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        match entry["type"]:
            case "dir":
                path.mkdir(exist_ok=True)
            case "symlink":
                path.symlink_to(entry["target"])
            case _:
                data = (
                    entry["text"].encode()
                    if "text" in entry
                    else hashlib.shake_256(entry["shake256"].encode()).digest(entry["size"])
                )
                path.write_bytes(data)
    for entry in sorted(entries, key=lambda item: -item["path"].count("/")):
        set_times(root / entry["path"], entry)
    if "root_meta" in tree:
        set_times(root, tree["root_meta"])
    return root


def set_times(path: Path, entry: dict) -> None:
    if "mode" in entry and not path.is_symlink():
        path.chmod(int(entry["mode"], 8))
    if "mtime" in entry:
        seconds, nanoseconds = entry["mtime"]
        ns = seconds * 10**9 + nanoseconds
        os.utime(path, ns=(ns, ns), follow_symlinks=False)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_every_recorded_file_gets_the_cid_that_kubo_gives_it(anyio_backend: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    checked = 0
    for record in FILES["vectors"]:
        if record.get("binding") is False or record["input"]["size"] > 3_000_000:
            continue
        if record.get("error"):
            with pytest.raises((ConfigError, Refused)):
                await Adder(None, options_of(record)).add([path])
            continue
        path.write_bytes(input_of(record["input"]))
        added = await Adder(None, options_of(record)).add([path])
        assert str(added.cid) == record["root"], record["id"]
        assert added.size == record["size"]
        checked += 1
    assert checked > 100


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_every_recorded_tree_gets_the_cid_that_kubo_gives_it(anyio_backend: str, tmp_path: Path) -> None:
    roots: dict[str, Path] = {}
    for record in TREES["vectors"]:
        name = record["tree"]
        if TREES["trees"][name].get("generate", {"count": 0})["count"] > 1000:
            continue  # the same code and some thousand files; the builders are tested with them
        if name not in roots:
            (tmp_path / name).mkdir()
            roots[name] = make_tree(tmp_path / name, TREES["trees"][name])
        added = await Adder(None, options_of(record)).add([roots[name]])
        assert str(added.cid) == record["root"], (record["id"], name, record["options"])


async def whole_dag(store: MemoryStore | DiskStore, root: Cid) -> int:
    """How many blocks lie below a root, all of them read from the store."""
    seen: set[Cid] = set()
    waiting = [root]
    while waiting:
        cid = waiting.pop()
        if cid in seen:
            continue
        seen.add(cid)
        block = cid.digest if cid.hash_code == IDENTITY else await store.get(cid)
        waiting += links(cid, block)
    return len(seen)


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", [{}, {"raw-leaves": "false"}, {"trickle": "true", "raw-leaves": "false"}])
async def test_an_added_file_is_whole_in_the_store_and_nothing_is_copied(tmp_path: Path, arguments: dict) -> None:
    path = tmp_path / "film"
    path.write_bytes(content("film", 2 * PIECE_BYTES + 12345))
    options = import_options("unixfs-v1-2025", {"chunker": "size-262144", **arguments})
    async with open_store("disk", tmp_path / "home") as store:
        added = await Adder(store, options).add([path], pin=PinKind.SHARE)
        assert await whole_dag(store, added.cid) == 33 + 1 + (1 if arguments.get("trickle") else 0) * 0
        packs = (tmp_path / "home" / "blocks" / "packs").iterdir()
        assert sum(pack.stat().st_size for pack in packs) < 10_000
        assert await store.pins(kind=PinKind.SHARE) == [(added.cid, "film")]  # type: ignore[union-attr]
    assert added.leaf_size == 262144 and added.size == path.stat().st_size and added.name == "film"


@pytest.mark.anyio
async def test_with_copy_the_blocks_outlive_the_file(tmp_path: Path, store_kind: str) -> None:
    path = tmp_path / "film"
    path.write_bytes(content("film", PIECE_BYTES + 5))
    async with open_store(store_kind, tmp_path / "home") as store:
        added = await Adder(store, profile(), copy=True).add([path])
        path.unlink()
        assert await whole_dag(store, added.cid) == 6


@pytest.mark.anyio
async def test_copies_of_many_pieces_are_brought_to_the_disk_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(COPIED_BYTES + PIECE_BYTES + 5)
    puts: list[int] = []
    put = DiskStore.put_verified

    async def counted(store: DiskStore, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        puts.append(sum(len(block) for _, block in blocks))
        await put(store, blocks)

    monkeypatch.setattr(DiskStore, "put_verified", counted)
    monkeypatch.setattr(DiskStore, "put", None)  # which hashes once more what was hashed to be named
    async with open_store("disk", tmp_path / "home") as store:
        added = await Adder(store, profile(), copy=True).add([path])
        assert puts[:2] == [COPIED_BYTES, PIECE_BYTES + 5]
        assert await whole_dag(store, added.cid) >= 3


@pytest.mark.anyio
@pytest.mark.parametrize("full_at", [None, 2], ids=["room for all", "the disk is full"])
async def test_the_next_are_hashed_while_some_copies_are_brought_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int | None
) -> None:
    pieces = COPIES_AT_ONCE + 2
    path = tmp_path / "film"
    with path.open("wb") as file:
        file.truncate(pieces * COPIED_BYTES)
    running: list[int] = []
    begun = ended = 0
    put = DiskStore.put_verified

    async def slow(store: DiskStore, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        nonlocal begun, ended
        begun += 1
        if begun == full_at:
            raise NoSpace("the disk is full")
        running.append(begun - ended)
        try:
            # What may come meanwhile comes, and what may not would.
            for _ in range(200):
                if begun - ended >= COPIES_AT_ONCE or begun >= pieces:
                    break
                await anyio.sleep(0.01)
            await put(store, blocks)
        finally:
            ended += 1

    monkeypatch.setattr(DiskStore, "put_verified", slow)
    async with open_store("disk", tmp_path / "home") as store:
        if full_at is None:
            await Adder(store, profile(), copy=True).add([path])
            assert max(running) == COPIES_AT_ONCE
        else:
            with pytest.raises(NoSpace):
                await Adder(store, profile(), copy=True).add([path])
            begun -= 1
        assert begun == ended


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["its listing", "its files"])
async def test_a_directory_that_becomes_a_link_while_its_tree_is_added_leads_nowhere(
    tmp_path: Path, store_kind: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whoever may write in a shared tree would have the sharer's own directories shared."""
    private, tree = tmp_path / "private", tmp_path / "tree"
    for directory in (private, tree / "z" / "below"):
        directory.mkdir(parents=True)
        (directory / "small").write_bytes(b"for nobody" if directory == private else b"for all")
        (directory / "long").write_bytes(bytes(PIECE_BYTES + 1))
        (directory / "link").symlink_to("small")

    def swapped(base: Path, inside: tuple[str, ...]) -> None:
        if inside == ("z", "below") and not (tree / "z" / "below").is_symlink():
            (tree / "z" / "below").rename(tmp_path / "moved")
            (tree / "z" / "below").symlink_to(private)

    if what == "its listing":
        scan = Scanner.scan
        looks: list[tuple[str, ...]] = []

        def scanned(scanner: Scanner, base: Path, inside: tuple[str, ...], ignored: Ignored) -> object:
            looks.append(inside)
            if looks.count(inside) == 2:  # the first counts how much there is
                swapped(base, inside)
            return scan(scanner, base, inside, ignored)

        monkeypatch.setattr(Scanner, "scan", scanned)
    else:
        small = add_module.add_small

        async def added(adder: object, base: Path, inside: tuple[str, ...], names: Sequence[str]) -> object:
            swapped(base, inside)
            return await small(adder, base, inside, names)  # type: ignore[arg-type]

        monkeypatch.setattr(add_module, "add_small", added)
    events: list[object] = []
    async with open_store(store_kind, tmp_path / "home") as store:
        await Adder(store, profile(), tell=events.append).add([tree])
    assert not [event for event in events if isinstance(event, EntryAdded) and event.path.count("/") > 2]
    skipped = {event.path: event.reason for event in events if isinstance(event, EntrySkipped)}
    assert skipped and set(skipped.values()) == {"it changed while it was added"}


@pytest.mark.anyio
async def test_a_store_that_records_no_files_gets_copies(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(content("film", 100))
    store = MemoryStore()
    added = await Adder(store, profile()).add([path])
    assert blocks_of(store) == {added.cid.multihash: content("film", 100)}


@pytest.mark.anyio
async def test_content_defined_chunks_are_recorded_in_place_too(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(content("film", 3_000_000))
    options = import_options("unixfs-v1-2025", {"chunker": "buzhash"})
    async with open_store("disk", tmp_path / "home") as store:
        added = await Adder(store, options).add([path])
        assert await whole_dag(store, added.cid) > 5
    assert added.leaf_size == 0


@pytest.mark.anyio
async def test_several_paths_become_one_directory_that_keeps_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"22")
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append).add([tmp_path / "a", tmp_path / "b"])
    assert added.name == "a and 1 more" and added.size == 3 and added.files == 2
    assert [event.path for event in events if isinstance(event, EntryAdded)] == ["a", "b/c", "b", ""]
    assert (await Adder(None, profile()).add([tmp_path / "a", tmp_path / "b" / ".." / "a"])).name == "a"  # typed twice
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_bytes(b"3")
    with pytest.raises(Refused, match="are both called a"):
        await Adder(None, profile()).add([tmp_path / "a", tmp_path / "x" / "a"])


@pytest.mark.anyio
async def test_hidden_files_are_left_out_and_counted_unless_asked_for(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tree / ".git" / "config").write_bytes(b"x")
    (tree / ".hidden").write_bytes(b"y")
    (tree / "seen").write_bytes(b"z")
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append).add([tree])
    assert (added.files, added.hidden, added.skipped) == (1, 2, 0)
    skipped = [(event.path, event.reason) for event in events if isinstance(event, EntrySkipped)]
    assert skipped == [("tree/.hidden", "hidden"), ("tree/.git", "hidden")]
    all_of_it = await Adder(None, import_options("unixfs-v1-2025", {"hidden": True})).add([tree])
    assert (all_of_it.files, all_of_it.hidden) == (3, 0)


@pytest.mark.anyio
async def test_what_is_neither_file_nor_directory_is_left_out_of_a_tree_and_refused_by_itself(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    (tree / "file").write_bytes(b"z")
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append).add([tree])
    assert (added.files, added.skipped) == (1, 1)
    assert EntrySkipped(path="tree/fifo", reason="not a file") in events
    with pytest.raises(Refused, match="neither a file nor a directory"):
        await Adder(None, profile()).add([tree / "fifo"])
    with pytest.raises(Refused, match="cannot be read"):
        await Adder(None, profile()).add([tree / "absent"])


@pytest.mark.anyio
async def test_B19_what_may_not_be_read_below_a_directory_is_told_and_the_rest_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "inside").write_bytes(b"1")
    (tree / "secret").write_bytes(b"2")
    (tree / "open").write_bytes(b"3")
    (tree / "secret").chmod(0)
    (tree / "closed").chmod(0)
    if IS_ROOT:  # for whom nothing is forbidden
        real_open, real_scan = os.open, Scanner.scan

        def deny_open(path: object, *rest: object, **more: object) -> int:
            if str(path).endswith("secret"):
                raise PermissionError(13, "Permission denied")
            return real_open(path, *rest, **more)  # type: ignore[arg-type]

        def deny_scan(scanner: Scanner, path: Path, inside: tuple[str, ...], ignored: Ignored) -> Scanned:
            if inside == ("closed",):
                raise PermissionError(13, "Permission denied")
            return real_scan(scanner, path, inside, ignored)

        monkeypatch.setattr(add_file_module.os, "open", deny_open)
        monkeypatch.setattr(Scanner, "scan", deny_scan)
    events: list[AddEvent] = []
    try:
        added = await Adder(None, profile(), tell=events.append).add([tree])
        with pytest.raises(Refused, match=r"secret cannot be read: Permission denied"):
            await Adder(None, profile()).add([tree / "secret"])
    finally:
        (tree / "closed").chmod(0o700)
    assert (added.files, added.skipped) == (1, 2)
    skipped = {event.path: event.reason for event in events if isinstance(event, EntrySkipped)}
    assert skipped == {"tree/secret": "permission denied", "tree/closed": "permission denied"}


@pytest.mark.anyio
@pytest.mark.parametrize("short", ["tree", "b", "sub", "c"])
@pytest.mark.parametrize(
    ("number", "times", "refused"),
    [(errno.EMFILE, 2, False), (errno.ENFILE, 99, True), (errno.EIO, 2, True)],
    ids=["a moment without handles", "no handles", "a bad disk"],
)
async def test_what_cannot_be_read_for_now_is_not_left_out(
    tmp_path: Path, short: str, number: int, times: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told as if it were not there, and a receiver with `--update --delete` would have removed it."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (tree / name).write_bytes(name.encode())
    monkeypatch.setattr(disk, "SHORTAGE_SECONDS", 0.0)
    real_open, real_scan, failed = (
        os.open,
        Scanner.scan,
        [-1 if short in ("tree", "sub") else 0],
    )  # one look is for the bar

    def fail(name: str) -> None:
        if name == short:
            failed[0] += 1
            if 0 < failed[0] <= times:
                raise OSError(number, os.strerror(number))

    def open_(path: Path | str, *arguments: int, **options: int) -> int:
        fail(os.path.basename(path))
        return real_open(path, *arguments, **options)

    def scan(scanner: Scanner, path: Path, inside: Sequence[str], ignored: Ignored) -> Scanned:
        fail(path.name)
        return real_scan(scanner, path, inside, ignored)

    monkeypatch.setattr(disk, "SHORTAGES_MAX", 20)
    monkeypatch.setattr(add_file_module.os, "open", open_)
    monkeypatch.setattr(Scanner, "scan", scan)
    adder = Adder(None, profile())
    if refused:
        with pytest.raises(Refused, match=rf"{short} cannot be read: {os.strerror(number)}"):
            await adder.add([tree])
    else:
        added = await adder.add([tree])
        assert (added.files, added.skipped) == (3, 0)


@pytest.mark.anyio
async def test_B16_a_name_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    (tree / "note").write_bytes(b"x")
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append).add([tree])
    assert (added.files, added.skipped) == (1, 1)
    [skipped] = [event for event in events if isinstance(event, EntrySkipped)]
    assert "not UTF-8" in skipped.reason
    with pytest.raises(Refused, match=r"caf\\xe9 in .*tree is not UTF-8"):
        await Adder(None, profile()).add([tree / os.fsdecode(b"caf\xe9")])


@pytest.mark.anyio
async def test_what_is_named_is_followed_and_keeps_the_name_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "film").write_bytes(b"1")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "linked film").symlink_to("real/film")
    (tmp_path / "gone").symlink_to("nowhere")
    film = await Adder(None, profile()).add([tmp_path / "real" / "film"])
    linked = await Adder(None, profile()).add([tmp_path / "linked film"])
    assert (linked.cid, linked.name, linked.size) == (film.cid, "linked film", 1)
    both = [await Adder(None, profile()).add([tmp_path / name]) for name in ("real", "link")]
    assert both[0].cid == both[1].cid and [added.name for added in both] == ["real", "link"]
    with pytest.raises(Refused, match=r"link .*gone leads nowhere"):
        await Adder(None, profile()).add([tmp_path / "gone"])


@pytest.mark.anyio
async def test_the_home_of_a_node_is_never_added(tmp_path: Path) -> None:
    home = tmp_path / "tree" / "home"
    other = tmp_path / "tree" / "deep" / "other home"
    for folder in home, other:
        folder.mkdir(parents=True)
        (folder / "identity.key").write_bytes(b"secret")
        (folder / "version").write_bytes(b"1")
    (home / "blocks").mkdir()
    (tmp_path / "way").symlink_to(home)
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append, home=home).add([tmp_path / "tree"])
    assert added.files == 0
    skipped = [event.path for event in events if isinstance(event, EntrySkipped)]
    assert sorted(skipped) == ["tree/deep/other home", "tree/home"]
    for named in (
        home,
        home / "identity.key",
        home / "blocks",
        tmp_path / "way",
        tmp_path / "way" / "identity.key",
        other,
    ):
        with pytest.raises(Refused, match="home of a node"):
            await Adder(None, profile(), home=home).add([named])


@pytest.mark.anyio
async def test_what_a_receiver_could_not_write_down_is_left_out_of_what_is_for_others(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a\\b.service").write_bytes(b"x")
    (tree / "c").write_bytes(b"x")
    deep = tree
    for _ in range(DEPTH_MAX + 1):
        deep = deep / "d"
    os.makedirs(deep)
    assert (await Adder(None, profile()).add([tree])).skipped == 0
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append, selection=Selection(for_others=True)).add([tree])
    skipped = {event.path: event.reason for event in events if isinstance(event, EntrySkipped)}
    assert set(skipped) == {"tree/a\\b.service", "tree" + "/d" * (DEPTH_MAX + 1)}
    assert (added.files, added.skipped) == (1, 2)


@pytest.mark.anyio
async def test_symbolic_links_are_added_as_links(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "out").symlink_to("/etc/passwd")
    (tree / "loop").symlink_to(".")
    added = await Adder(None, profile()).add([tree])
    assert (added.files, added.size) == (2, 0)


def meddle(path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the file change after its leaves have been read, so many times."""
    meddled: list[int] = []
    real = add_file_module._Run.take

    async def take(self: object, leaves: list[CutLeaf]) -> None:
        await real(self, leaves)  # type: ignore[arg-type]
        if len(meddled) < times:
            meddled.append(1)
            with path.open("ab") as file:
                file.write(b"more")

    monkeypatch.setattr(add_file_module._Run, "take", take)
    return meddled


@pytest.mark.anyio
async def test_B04_a_file_that_changes_while_it_is_added_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_kind: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first")
    meddle(path, monkeypatch, times=1)
    async with open_store(store_kind, tmp_path / "home") as store:
        added = await Adder(store, profile()).add([path])
        assert await store.get(added.cid) == b"firstmore"
    assert added.size == 9


@pytest.mark.anyio
async def test_B04_a_file_that_never_holds_still_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first")
    meddle(path, monkeypatch, times=9)
    with pytest.raises(SourceChanged, match="log"):
        await Adder(None, profile()).add([path])


@pytest.mark.anyio
async def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(3 * PIECE_BYTES))
    real = add_file_module.cut_file

    async def shrink_and_cut(file: object, hashers: object, take: object) -> None:
        os.truncate(path, 10)
        await real(file, hashers, take)  # type: ignore[arg-type]

    monkeypatch.setattr(add_file_module, "cut_file", shrink_and_cut)
    for chunker in ("size-1048576", "buzhash"):
        path.write_bytes(bytes(3 * PIECE_BYTES))
        with pytest.raises(SourceChanged):
            options = import_options("unixfs-v1-2025", {"chunker": chunker})
            monkeypatch.setattr(add_file_module.os, "fstat", _as_if_long(add_file_module.os.fstat))
            await Adder(None, options).add([path])
        monkeypatch.undo()
        monkeypatch.setattr(add_file_module, "cut_file", shrink_and_cut)


def _as_if_long(real: object) -> object:
    """Make every look at the file see its first size, as if it shrank right after."""

    def fstat(fd: int) -> os.stat_result:
        status = real(fd)  # type: ignore[operator]
        if stat.S_ISREG(status.st_mode):
            values = list(status)
            values[6] = 3 * PIECE_BYTES
            times = {"st_mtime_ns": status.st_mtime_ns, "st_ctime_ns": status.st_ctime_ns}
            return os.stat_result(values, {**times, "st_dev": 0, "st_ino": 0})
        return status  # type: ignore[no-any-return]

    return fstat


@pytest.mark.anyio
async def test_progress_is_told_against_the_sum_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_module, "PROGRESS_SECONDS", 0.0)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(3):
        (tree / str(number)).write_bytes(bytes(PIECE_BYTES + number))
    events: list[AddEvent] = []
    await Adder(None, profile(), tell=events.append).add([tree])
    told = [event for event in events if isinstance(event, AddProgress)]
    assert told[-1].bytes_done == told[-1].bytes_total == 3 * PIECE_BYTES + 3
    assert [event.bytes_done for event in told] == sorted(event.bytes_done for event in told)


@pytest.mark.anyio
async def test_an_empty_directory_is_kept_or_dropped_as_asked(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "file").write_bytes(b"x")
    kept = await Adder(None, profile()).add([tree])
    dropped = await Adder(None, import_options("unixfs-v1-2025", {"empty-dirs": False})).add([tree])
    (tree / "empty").rmdir()
    without = await Adder(None, profile()).add([tree])
    assert dropped.cid == without.cid != kept.cid


@pytest.mark.anyio
async def test_what_vanishes_or_changes_its_kind_while_a_tree_is_added_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "gone directory").mkdir(parents=True)
    for name in ("gone", "link", "kept"):
        (tree / name).write_bytes(b"x")
    real = Scanner.scan
    looked: list[tuple[str, ...]] = []

    def scan(scanner: Scanner, base: Path, inside: tuple[str, ...], ignored: Ignored) -> Scanned:
        found = real(scanner, base, inside, ignored)
        looked.append(inside)
        if looked.count(()) == 2 and not inside:  # the first look is for the bar
            (tree / "gone").unlink()
            (tree / "gone directory").rmdir()
            (tree / "link").unlink()
            (tree / "link").symlink_to("kept")
        return found

    monkeypatch.setattr(Scanner, "scan", scan)
    events: list[AddEvent] = []
    added = await Adder(None, profile(), tell=events.append).add([tree])
    assert (added.files, added.skipped) == (1, 3)
    reasons = {event.path: event.reason for event in events if isinstance(event, EntrySkipped)}
    assert reasons["tree/gone"] == reasons["tree/gone directory"] == "it vanished while it was added"
    assert reasons["tree/link"] == "it changed while it was added"


@pytest.mark.anyio
async def test_a_file_that_has_become_something_else_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    adder = Adder(None, profile())
    with pytest.raises(SourceChanged):
        await adder._file_adder.add(tmp_path / "fifo", (), "fifo")


@pytest.mark.anyio
async def test_nodes_go_to_the_store_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_file_module, "NODE_BYTES", 100)
    monkeypatch.setattr(add_file_module, "LEAF_ROWS", 5)
    path = tmp_path / "film"
    path.write_bytes(content("film", 20_000))
    options = import_options("unixfs-v1-2025", {"chunker": "size-500", "max-file-links": 3})
    async with open_store("disk", tmp_path / "home") as store:
        added = await Adder(store, options).add([path])
        assert await whole_dag(store, added.cid) == 62


@pytest.mark.anyio
async def test_a_small_file_that_shrinks_while_it_is_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    real = add_file_module.cut_small_file
    shrunk: list[int] = []

    def shrink_once(file: OpenFile) -> list[CutLeaf]:
        if not shrunk:
            shrunk.append(1)
            os.truncate(path, 10)
        return real(file)

    monkeypatch.setattr(add_file_module, "cut_small_file", shrink_once)
    added = await Adder(None, profile()).add([path])
    assert added.size == 10 and added.cid == Cid.of(bytes(10))


@pytest.mark.anyio
async def test_a_large_file_cut_by_content_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content("a", PIECE_BYTES + 1000))
    options = import_options("unixfs-v1-2025", {"chunker": "rabin-262144-524288-1048576"})
    added = await Adder(None, options).add([path])
    assert added.size == PIECE_BYTES + 1000


@pytest.mark.anyio
async def test_a_script_stays_executable_and_all_else_is_the_same_blocks(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, size in ("empty", 0), ("one", 10), ("full", 1000), ("many", 3500):
        for mode in 0o644, 0o755:
            path = tree / f"{name} {mode:o}"
            path.write_bytes(content(name, size))
            path.chmod(mode)
    plain = import_options("unixfs-v1-2025", {"chunker": "size-1000"})
    found: dict[str, dict[str, Cid]] = {}
    for options in plain, replace(plain, keep_executable=True):
        events: list[AddEvent] = []
        async with known_files(tmp_path, options, rehash=False) as known:
            for _ in range(2):
                await Adder(None, options, tell=events.append, known=known).add([tree])
        found[str(options.keep_executable)] = {
            event.path: event.cid for event in events if isinstance(event, EntryAdded)
        }
    store = MemoryStore()
    await Adder(store, replace(plain, keep_executable=True), copy=True).add([tree])
    for name in "empty", "one", "full", "many":
        assert (
            found["True"][f"tree/{name} 644"]
            == found["False"][f"tree/{name} 644"]
            == found["False"][f"tree/{name} 755"]
        )
        script = found["True"][f"tree/{name} 755"]
        assert decode_node(script, await store.get(script)).mode == 0o755
        assert await whole_dag(store, script)


@pytest.mark.anyio
async def test_what_is_excluded_is_left_out_wherever_it_lies(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in "a.py", "a.tmp", "build/out", "sub/build/out", "sub/b.tmp", "sub/deep/c", "other/deep/c":
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"x")
    events: list[AddEvent] = []
    await Adder(None, profile(), tell=events.append, selection=Selection(exclude=("*.tmp", "build/", "sub/deep"))).add(
        [tree]
    )
    added = {event.path for event in events if isinstance(event, EntryAdded)}
    assert added == {"tree", "tree/a.py", "tree/sub", "tree/other", "tree/other/deep", "tree/other/deep/c"}


@pytest.mark.anyio
async def test_times_of_files_are_kept_and_the_leaves_of_larger_ones_are_the_same(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name, size in ("empty", 0), ("one", 10), ("many", 3500):
        (tree / "sub" / name).write_bytes(content(name, size))
        os.utime(tree / "sub" / name, ns=(10**18 + size, 10**18 + size))
    plain = import_options("unixfs-v1-2025", {"chunker": "size-1000"})
    stores = {}
    for options in plain, replace(plain, keep_times=True):
        events: list[AddEvent] = []
        store = MemoryStore()
        await Adder(store, options, copy=True, tell=events.append).add([tree])
        cids = {event.path: event.cid for event in events if isinstance(event, EntryAdded)}
        nodes = {path: decode_node(cid, await store.get(cid)) for path, cid in cids.items()}
        stores[options.keep_times] = nodes
    for name, size in ("empty", 0), ("one", 10), ("many", 3500):
        node, without = stores[True][f"tree/sub/{name}"], stores[False][f"tree/sub/{name}"]
        assert node.mtime is not None and node.mtime.in_nanoseconds == 10**18 + size
        assert [link.cid for link in node.links] == [link.cid for link in without.links]
        assert (node.mode, without.mtime, node.file_size) == (None, None, size)
    assert stores[True]["tree/sub"].mtime is stores[True]["tree"].mtime is None, "what comes and goes changes them"
