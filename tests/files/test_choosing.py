"""What of a tree is taken: patterns and ignore files, links that lead out of it, the home and its keys; all on both sides."""

import errno
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from stack.blocks import disk
from stack.blocks.memory import MemoryStore
from stack.dag import dag_pb
from stack.dag.unixfs.data import NodeKind, encode_data
from stack.dag.unixfs.names import leads_out
from stack.dag.unixfs.options import import_options, profile
from stack.dag.unixfs.reader import LinkNotFound
from stack.errors import Refused
from stack.files import private
from stack.files.add import Adder
from stack.files.chosen import Chosen, Selection
from stack.files.events import NOT_WANTED, AddEvent, EntryAdded, EntrySkipped
from stack.files.ignored import Ignored
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.files.conftest import FakeExchange, blocks_of
from tests.files.test_fetch_tree import directory, offer, snapshot, symlink
from tests.files.test_fetch_tree import get as get_with


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where fetches go."""
    path = tmp_path / "here"
    path.mkdir()
    return path


ALL = import_options("unixfs-v1-2025", {"hidden": True})


def plant(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


async def add(tree: Path, selection: Selection, home: Path | None = None) -> tuple[set[str], dict[str, str]]:
    """The files that were taken of a tree, and what was told of the rest."""
    events: list[AddEvent] = []
    added = await Adder(None, ALL, tell=events.append, selection=selection, home=home).add([tree])
    taken = {event.path for event in events if isinstance(event, EntryAdded)}
    skipped = {event.path: event.reason for event in events if isinstance(event, EntrySkipped)}
    assert added.skipped == sum(reason not in NOT_WANTED for reason in skipped.values())
    places = {path.removeprefix(f"{tree.name}/"): tree.parent / path for path in taken}
    inside = {path for path, place in places.items() if place.is_symlink() or not place.is_dir()}
    return inside, {path.removeprefix(f"{tree.name}/"): reason for path, reason in skipped.items()}


@pytest.mark.parametrize(
    ("target", "depth", "out"),
    [
        ("a", 0, False),
        ("../a", 0, True),
        ("../a", 1, False),
        ("./../a", 1, False),
        (".././../a/b", 2, False),
        ("../../a", 1, True),
        ("/etc/passwd", 9, True),
        ("//a", 9, True),
        ("a/../b", 3, True),
        (".", 0, False),
        ("..", 0, True),
        ("", 0, False),
        ("...", 0, False),
    ],
)
def test_a_link_stays_inside_that_goes_up_no_further_than_its_tree_and_then_down(
    target: str, depth: int, out: bool
) -> None:
    assert leads_out(target, depth) == out


def test_what_is_excluded_is_not_matched_whatever_is_included() -> None:
    chosen = Chosen(["src", "*.md"], ["*.pyc", "build/", "src/old"])
    assert chosen.matches(["src", "a.py"]) and chosen.matches(["docs", "x.md"])
    assert not chosen.matches(["src", "a.pyc"]) and not chosen.matches(["src", "old", "b.py"])
    assert not chosen.matches(["src", "build", "a.md"]) and chosen.matches(["src", "build"])
    assert chosen.excludes(["src", "build"], is_directory=True) and not chosen.excludes(["src", "build"])


IGNORE_FILES = {
    ".gitignore": "*.log\n!keep.log\n/build/\n# none\n\nfoo\\ \n**/cache\ndoc/*.txt\ntemp/**\n\\#odd\n\\\n[a-c]1\n",
    "sub/.gitignore": "!*.log\n*.md\n/only\n",
    "sub/deep/.gitignore": "*\n!.gitignore\n!*/\n!yes\n",
}
PATHS = (
    "a.log", "keep.log", "build/x", "sub/build/x", "foo ", "sub/cache/x", "cache", "doc/a.txt", "doc/b/a.txt", "temp/x/y",
    "sub/a.log", "sub/b.md", "sub/only", "sub/x/only", "sub/deep/yes", "sub/deep/no", "sub/deep/er/yes", "#odd", "b1", "d1", "c/b.md",
)  # fmt: skip


def what_git_keeps(tree: Path) -> set[str]:
    git = shutil.which("git")
    if git is None:
        pytest.skip("NOT TESTED: patterns as git reads them; there is no git to compare with")
    run = [git, "-c", "init.defaultBranch=x", "-c", "core.excludesFile="]
    subprocess.run([*run, "init", "-q", str(tree)], check=True)
    listed = subprocess.run([*run, "-C", str(tree), "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True)
    shutil.rmtree(tree / ".git")
    return set(listed.stdout.decode().rstrip("\0").split("\0"))


@pytest.mark.anyio
async def test_ignore_files_leave_out_what_git_leaves_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    plant(tree, *PATHS)
    for path, text in IGNORE_FILES.items():
        (tree / path).write_text(text)
    expected = what_git_keeps(tree)
    assert len(expected) > 8
    taken, skipped = await add(tree, Selection(gitignore=True))
    assert taken == expected
    assert set(skipped.values()) == {"ignored"}
    assert (await add(tree, Selection()))[0] == {*PATHS, *IGNORE_FILES}, "nobody asked for .gitignore to be heeded"
    for path in IGNORE_FILES:
        (tree / path).rename((tree / path).with_name(".stackignore"))
    (tree / "sub/deep/.stackignore").write_text(IGNORE_FILES["sub/deep/.gitignore"].replace("gitignore", "stackignore"))
    assert (await add(tree, Selection()))[0] == {path.replace("gitignore", "stackignore") for path in expected}


@pytest.mark.anyio
async def test_a_file_of_ignored_names_holds_for_all_that_is_named_and_those_of_the_tree_count_more(
    tmp_path: Path,
) -> None:
    plant(tmp_path / "tree", "a.log", "b/c.log", "b/d.txt")
    (tmp_path / "rules").write_text("*.log\n")
    (tmp_path / "tree" / "b" / ".stackignore").write_text("!c.log\nd.txt")
    taken, skipped = await add(tmp_path / "tree", Selection(ignore_files=(tmp_path / "rules",)))
    assert taken == {"b/c.log", "b/.stackignore"} and set(skipped) == {"a.log", "b/d.txt"}
    with pytest.raises(Refused, match=r"ignore file .*nowhere cannot be read: No such file"):
        await add(tmp_path / "tree", Selection(ignore_files=(tmp_path / "nowhere",)))


def test_no_line_of_a_stranger_takes_long(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("/".join(["**", "a"] * 200) + "/x\n" + "*a" * 100 + "b\n")
    ignored = Ignored.of_files([tmp_path / "rules"])
    assert not ignored.ignores(["a"] * 500, is_directory=False)
    assert not ignored.ignores(["a" * 255], is_directory=False)


def test_an_ignore_file_may_have_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "rules").write_bytes(b"\xef\xbb\xbf*.log\r\ncaf\xe9\n\\\n[\n!\n")
    ignored = Ignored.of_files([tmp_path / "rules"])
    for name, out in ("a.log", True), (os.fsdecode(b"caf\xe9"), True), ("x", False), ("\\", False):
        assert ignored.ignores([name], is_directory=False) == out


@pytest.mark.anyio
async def test_only_what_is_included_is_added_and_no_directory_without_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    plant(tree, "a.txt", "deep/er/b.txt", "deep/c.md", "other/d.md")
    (tree / "empty").mkdir()
    selection = Selection(include=("*.txt",))
    store = MemoryStore()
    added = await Adder(store, ALL, selection=selection).add([tree])
    for name in ("other", "empty", "deep/c.md"):
        path = tree / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    assert added.cid == (await Adder(None, ALL).add([tree])).cid and added.files == 2
    with pytest.raises(Refused, match=r"no file matches '\*\.md' \(2 files\)"):
        await Adder(None, ALL, selection=Selection(include=("*.md",))).add([tree])


@pytest.mark.anyio
@pytest.mark.parametrize("exclude", [("*.tmp", "build/"), ("*.tmp", "build")])
async def test_what_is_excluded_is_not_fetched(
    tmp_path: Path, here: Path, exchange: FakeExchange, exclude: Sequence[str]
) -> None:
    tree = tmp_path / "tree"
    plant(tree, "a", "b.tmp", "deep/build/c", "deep/d", "build/e.tmp")
    store = MemoryStore()
    root = (await Adder(store, profile()).add([tree])).cid
    exchange.blocks.update(blocks_of(store))
    finished, _ = await get_with(MemoryStore(), exchange, root, here, exclude=exclude)
    assert snapshot(here / "tree") == {"a": b"a", "deep": None, "deep/d": b"deep/d"}
    assert (finished.files, finished.skipped) == (2, 0)


@pytest.mark.anyio
async def test_links_that_lead_out_of_a_tree_are_left_out_and_told_on_both_sides(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """Number 54 of those met, and its kind."""
    tree = tmp_path / "tree"
    plant(tree, "a", "sub/b")
    good = {"in": "a", "sub/up": "../a", "sub/dangling": "none"}
    bad = {"abs": "/etc/passwd", "up": "../x", "sub/far": "../../x", "sub/back": "b/../../../x"}
    for path, target in {**good, **bad}.items():
        (tree / path).symlink_to(target)
    taken, skipped = await add(tree, Selection(for_others=True))
    assert taken == {"a", "sub/b", *good} and set(skipped) == set(bad)
    assert skipped["abs"] == "a link that leads out of the tree, to /etc/passwd"
    assert (await add(tree, Selection(for_others=True, unsafe_links=True)))[1] == {}
    store = MemoryStore()
    root = (await Adder(store, profile()).add([tree])).cid
    exchange.blocks.update(blocks_of(store))
    finished, events = await get_with(MemoryStore(), exchange, root, here, unsafe_links=False)
    assert {event.path: event.reason for event in events if isinstance(event, EntrySkipped)} == skipped
    assert finished.skipped == len(bad) and not any((here / "tree" / path).is_symlink() for path in bad)
    assert all(os.readlink(here / "tree" / path) == target for path, target in good.items())
    await get_with(MemoryStore(), exchange, root, here, unsafe_links=True)
    assert snapshot(here / "tree") == snapshot(tree)


@pytest.mark.anyio
async def test_where_a_link_leads_is_told_with_nothing_in_it_that_a_terminal_obeys(
    here: Path, exchange: FakeExchange
) -> None:
    link = symlink("/\x1b[2J")
    root = directory(("a", link[0], 100))
    offer(exchange, link, root)
    _, events = await get_with(MemoryStore(), exchange, root[0], here, unsafe_links=False)
    assert all("\x1b" not in event.reason for event in events if isinstance(event, EntrySkipped))


@pytest.mark.anyio
async def test_no_key_of_the_home_gets_out_under_another_name(tmp_path: Path) -> None:
    """Hard links and copies of keys, a home that lacks files, and one that is not called so (issue 9, must show 8)."""
    home = tmp_path / "parent" / "home"
    plant(home, "identity.key", "index.sqlite", "blocks/pack")
    plant(tmp_path / "parent", "mine", "same size 1")
    (tmp_path / "parent" / "same size 1").write_bytes(b"another key!")
    assert (home / "identity.key").stat().st_size == 12
    os.link(home / "identity.key", tmp_path / "parent" / "hard link")
    os.link(home / "index.sqlite", tmp_path / "parent" / "hard link of the index")
    shutil.copy(home / "identity.key", tmp_path / "parent" / "copy")
    (tmp_path / "parent" / "way").symlink_to(home)
    (tmp_path / "parent" / "key").symlink_to("home/identity.key")
    taken, skipped = await add(tmp_path / "parent", Selection(), home)
    assert taken == {"mine", "same size 1", "way", "key"}, "links stay links, and lead nowhere at a receiver"
    assert set(skipped) == {"home", "hard link", "hard link of the index", "copy"}
    for named in ("copy", "hard link", "key", "way", "home/blocks"):
        with pytest.raises(Refused, match=r"of this node|home of a node"):
            await add(tmp_path / "parent" / named, Selection(), home)


@pytest.mark.anyio
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
async def test_keys_of_the_home_that_cannot_be_read_now_are_not_none(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the identity was added."""
    home, tree = tmp_path / "home", tmp_path / "tree"
    plant(home, "identity.key", "identity.key.old.2")
    plant(tree, "mine")
    shutil.copy(home / "identity.key", tree / "copy")
    (home / "identity.key.old.2").write_bytes(b"of earlier")
    shutil.copy(home / "identity.key.old.2", tree / "copy of the old one")
    (home / "swarm.key").mkdir()
    looks: list[Path] = []

    def read(path: Path, length: int = -1) -> bytes:
        looks.append(path)
        if len(looks) < 3:
            raise OSError(number, os.strerror(number), str(path))
        return disk.read_regular(path, length)

    monkeypatch.setattr(private, "read_regular", read)
    monkeypatch.setattr(disk, "SHORTAGE_SECONDS", 0.0)
    if number == errno.EMFILE:
        taken, skipped = await add(tree, Selection(), home)
        assert (taken, set(skipped)) == ({"mine"}, {"copy", "copy of the old one"})
    else:
        with pytest.raises(Refused, match=r"(identity|swarm)\.key.* cannot be read"):
            await add(tree, Selection(), home)


@pytest.mark.parametrize(
    ("include", "may", "may_not"),
    [
        ((), ["a", "a/b"], []),
        (("*.txt",), ["a", "deep/er/b"], []),
        (("er/",), ["a", "deep/er"], []),
        (("deep/1*",), ["deep", "deep/1", "deep/17/x"], ["a", "deeper", "deep/2", "x/deep/1"]),
        (("./deep/er/large", "a/?"), ["deep", "deep/er", "a", "a/b"], ["b", "deep/x"]),
        (("deep/1*", "*.txt"), ["a"], []),
    ],
)
def test_what_cannot_hold_anything_wanted_is_told_by_its_path(
    include: tuple[str, ...], may: list[str], may_not: list[str]
) -> None:
    chosen = Chosen(include, ("out",))
    for path in may:
        assert chosen.may_hold(path.split("/"))
        assert not chosen.may_hold(["out", *path.split("/")])
    assert not any(chosen.may_hold(path.split("/")) for path in may_not)


@pytest.mark.anyio
async def test_of_files_in_dag_pb_too_only_those_that_may_be_wanted_are_asked_for(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    """What a plain share makes of small files may be a directory as far as its CID tells: all of a tree came, and twice."""
    plant(tmp_path / "tree", *(f"deep/{number}" for number in range(50)), "wide/1")
    store = MemoryStore()
    options = import_options("unixfs-v1-2025", {"raw-leaves": False})
    root = (await Adder(store, options).add([tmp_path / "tree"])).cid
    exchange.blocks.update(blocks_of(store))
    await get_with(MemoryStore(), exchange, root, here, "deep/1*")
    assert len(list((here / "tree" / "deep").iterdir())) == 11
    assert len(set(exchange.sent)) == 2 + 11


@pytest.mark.anyio
async def test_patterns_that_leave_nothing_are_an_error(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    """`already complete: 0 B`, exit 0, and a path that does not exist."""
    plant(tmp_path / "tree", "a", "deep/b")
    store = MemoryStore()
    root = (await Adder(store, ALL).add([tmp_path / "tree"])).cid
    exchange.blocks.update(blocks_of(store))
    with pytest.raises(LinkNotFound, match="no file is left: all are excluded"):
        await get_with(MemoryStore(), exchange, root, here, exclude=["*"])


def planted_small_files(tree: Path) -> None:
    """Two that are equal, in two directories, among others."""
    plant(tree, *(f"{place}/{number}.{kind}" for place in "ab" for number in range(20) for kind in ("txt", "bin")))
    (tree / "b" / "same.txt").write_bytes((tree / "a" / "0.txt").read_bytes())


@pytest.mark.anyio
@pytest.mark.parametrize("room", [8 << 20, 300])
@pytest.mark.parametrize("patterns", [{"include": ["*.txt"]}, {"include": ["a/"]}, {"exclude": ["*.bin"]}])
async def test_a_small_file_that_is_chosen_comes_once_and_one_that_is_not_no_more_than_that(
    tmp_path: Path,
    here: Path,
    exchange: FakeExchange,
    patterns: dict[str, list[str]],
    room: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To know whether a name is a directory its first block is fetched; with modes and times that is the whole of a small file."""
    monkeypatch.setattr("stack.files.measure.EARLY_BYTES", room)
    planted_small_files(tmp_path / "tree")
    store = MemoryStore()
    flags = import_options("unixfs-v1-2025", {"preserve-mode": True, "preserve-mtime": True})
    added = await Adder(store, flags).add([tmp_path / "tree"])
    exchange.blocks.update(blocks_of(store))
    await get_with(
        MemoryStore(), exchange, added.cid, here, *patterns.get("include", ()), exclude=patterns.get("exclude", ())
    )
    chosen = Chosen(**patterns)
    expected = {
        path: data for path, data in snapshot(tmp_path / "tree").items() if data and chosen.matches(path.split("/"))
    }
    assert {path: data for path, data in snapshot(here / "tree").items() if data} == expected
    counts = Counter(cid.multihash for cid in exchange.sent)
    assert max(counts.values()) == 1


@pytest.mark.anyio
async def test_blocks_that_came_early_are_held_within_bounds(
    tmp_path: Path, here: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link may say nothing of what lies behind it; what there is no room for comes again."""
    monkeypatch.setattr("stack.files.gather.EARLY_BYTES", 100)
    files = [
        dag_pb.encode(dag_pb.Node(encode_data(NodeKind.FILE, payload=b"%060d" % number, file_size=60), ()))
        for number in range(3)
    ]
    cids = [Cid.of(file, codec=DAG_PB) for file in files]
    root = directory(*((f"{number}", cid, 0) for number, cid in enumerate(cids)), ("again", cids[0], 0))
    offer(exchange, root, *zip(cids, files, strict=True))
    await get_with(MemoryStore(), exchange, root[0], here, "?", "again")
    assert snapshot(here / "tree").keys() == {"0", "1", "2", "again"}
    assert sorted(exchange.sent.count(cid) for cid in cids) == [1, 2, 2]
