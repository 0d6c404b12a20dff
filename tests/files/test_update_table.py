"""What `get` may take away, gone through as a table: what is fetched x what is there x what is asked for."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from stack.blocks.memory import MemoryStore
from stack.dag.unixfs.options import profile
from stack.errors import Refused, StackError
from stack.files.events import EntrySkipped, EntryUpdated, FetchFinished
from stack.files.fetch import Fetcher, FetchRequest
from stack.multiformats.cid import Cid
from tests.files.conftest import FakeExchange, content, open_store
from tests.files.test_fetch_tree import share

Snapshot = dict[str, bytes | str | None]
"""Of each name: bytes of a file, where a link leads to, None of a directory."""


def looks(place: Path) -> Snapshot:
    """All below a directory; no link is followed."""
    found: Snapshot = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def plant_old(place: Path) -> None:
    """The version before: more in it, and each kind in the place of another."""
    (place / "sub" / "deep").mkdir(parents=True)
    (place / "same").write_bytes(b"same")
    (place / "other").write_bytes(b"old")
    (place / "went").write_bytes(b"is in the old version only")
    (place / "sub" / "kind").write_bytes(b"was a file")
    (place / "sub" / "deep" / "went").write_bytes(b"too")


def plant_new(place: Path) -> None:
    """The version that is fetched."""
    (place / "sub" / "kind").mkdir(parents=True)
    (place / "same").write_bytes(b"same")
    (place / "other").write_bytes(b"new")
    (place / "sub" / "kind" / "inside").write_bytes(b"is a directory now")
    (place / "large").write_bytes(content("large", 300_000))
    (place / "link").symlink_to("same")


def plant_mine(place: Path) -> None:
    """What was never part of it."""
    (place / "mine" / "deep").mkdir(parents=True)
    (place / "mine" / "deep" / "letter").write_bytes(b"mine")
    (place / "note").write_bytes(b"mine too")


def ticket(kind: str, place: Path) -> Path:
    """What is fetched, and lies in what is shared."""
    if kind == "file":
        (place / "name").write_bytes(b"a file")
    elif kind == "symlink":
        (place / "name").symlink_to("other")
    elif kind == "tree":
        plant_new(place / "name")
    else:
        (place / "name").mkdir()
        plant_new(place / "name" / "one")
        (place / "name" / "two").write_bytes(b"second")
    return place / "name"


def lay(kind: str, out: Path, elsewhere: Path) -> None:
    """What is where it is to go."""
    match kind:
        case "absent":
            pass
        case "file":
            out.write_bytes(b"a file of the user's")
        case "empty":
            out.mkdir()
        case "mine":
            plant_mine(out)
        case "old":
            plant_old(out)
        case _:
            leads_to = kind.removeprefix("link to ")
            lay(leads_to, elsewhere, elsewhere)
            out.symlink_to(elsewhere)


TICKETS = ["file", "symlink", "tree", "several"]
PLACES = ["absent", "file", "empty", "mine", "old"]
FLAGS = {"none": (False, False), "update": (True, False), "delete": (True, True)}


async def get(
    exchange: FakeExchange,
    root: Cid,
    here: Path,
    out: Path | None,
    *,
    update: bool,
    delete: bool,
    dry_run: bool,
    path: str = "",
) -> tuple[list[tuple[str, str]], str | None]:
    """What was told of names, and why it was refused."""
    told: list[tuple[str, str]] = []
    request = FetchRequest(
        root=root,
        path=path,
        name="name",
        directory=here,
        out=out,
        update=update,
        delete=delete,
        dry_run=dry_run,
        unsafe_links=True,
    )
    try:
        async with Fetcher(MemoryStore(), exchange).open(request) as fetch:
            async for event in fetch:
                if isinstance(event, EntryUpdated):
                    told.append((event.path, event.change))
                if isinstance(event, EntrySkipped):
                    told.append((event.path, "skipped"))
    except StackError as error:
        assert isinstance(error, Refused)
        return sorted(told), str(error)
    return sorted(told), None


@pytest.mark.anyio
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("named", [True, False], ids=["-o", "by its name"])
@pytest.mark.parametrize("kind", TICKETS)
async def test_nothing_goes_that_is_not_told_and_the_dry_run_says_the_same(
    tmp_path: Path, exchange: FakeExchange, kind: str, named: bool, flags: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    wanted = ticket(kind, source)
    path = "name" if kind == "symlink" else ""
    root = await share(source if path else wanted, exchange, profile())
    update, delete = FLAGS[flags]
    out = Path("place") if named else None
    for there in [*PLACES, *(f"link to {place}" for place in PLACES)]:
        here = tmp_path / "here"
        here.mkdir()
        base = here / ("place" if named else "name")
        lay(there, base, here / "elsewhere")
        (here / "neighbour").write_bytes(b"not named by anybody")
        before = looks(here)
        shown = None
        if update:
            shown = await get(exchange, root, here, out, update=True, delete=delete, dry_run=True, path=path)
            assert looks(here) == before, f"a dry run wrote into {there}"
        told, refused = await get(exchange, root, here, out, update=update, delete=delete, dry_run=False, path=path)
        after = looks(here)
        if shown is not None:
            assert (told, refused) == shown, f"{there}: the dry run said something else"
        assert all(count == 1 for count in Counter(path for path, _ in told).values()), there
        _check_losses(before, after, told, delete=delete, there=there)
        if refused:
            assert before.items() <= after.items() and not list(here.rglob("*.part")), there
        if there in ("absent", "empty"):
            assert refused is None or (not named and kind in ("file", "symlink")), there
        shutil.rmtree(here)


def _check_losses(before: Snapshot, after: Snapshot, told: list[tuple[str, str]], *, delete: bool, there: str) -> None:
    """All that went was told; without --delete only what took another's name went."""
    deleted = {path for path, change in told if change == "deleted"}
    changed = {path for path, change in told if change == "changed"}
    for name, was in before.items():
        if name in after and after[name] == was:
            continue
        assert name in deleted | changed, f"{there}: {name} went without a word"
        assert delete or name in changed, f"{there}: {name} was deleted"
        assert name not in after or name in changed
    assert after["neighbour"] == before["neighbour"]


@pytest.mark.anyio
async def test_a_file_goes_into_the_directory_that_is_named(tmp_path: Path, exchange: FakeExchange) -> None:
    """`-o Downloads --update --delete` of one file made a file of the directory, and all that was in it was gone."""
    (tmp_path / "name").write_bytes(b"a file")
    root = await share(tmp_path / "name", exchange, profile())
    here = tmp_path / "here"
    plant_mine(here / "Downloads")
    before = looks(here)
    for _ in range(2):
        told, refused = await get(exchange, root, here, Path("Downloads"), update=True, delete=True, dry_run=False)
        assert refused is None and all(change != "deleted" for _, change in told)
        assert looks(here) == before | {"Downloads/name": b"a file"}


@pytest.mark.anyio
async def test_each_entry_of_a_directory_that_goes_is_told(tmp_path: Path, exchange: FakeExchange) -> None:
    """In the place of a file, and where nothing takes its place; a link in it is not followed."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "way").write_bytes(b"a file")
    root = await share(source, exchange, profile())
    here = tmp_path / "here"
    for name in "way", "gone":
        plant_mine(here / "name" / name)
        (here / "name" / name / "link").symlink_to(tmp_path / "source")
    expected = sorted(
        [(f"name/way{end}", "deleted") for end in ("/link", "/mine", "/mine/deep", "/mine/deep/letter", "/note")]
        + [(f"name/gone{end}", "deleted") for end in ("", "/link", "/mine", "/mine/deep", "/mine/deep/letter", "/note")]
        + [("name/way", "changed")]
    )
    for dry_run in True, False:
        told, refused = await get(exchange, root, here, None, update=True, delete=True, dry_run=dry_run)
        assert (told, refused) == (expected, None)
    assert looks(here / "name") == {"way": b"a file"} and (source / "way").exists()


@pytest.mark.anyio
async def test_all_directories_in_the_way_are_told_and_nothing_is_left_half_written(
    tmp_path: Path, exchange: FakeExchange
) -> None:
    """The first one ended the update in its middle."""
    source, here = tmp_path / "source", tmp_path / "here"
    source.mkdir()
    for number in range(5):
        (source / f"small {number}").write_bytes(b"%d" % number)
        (source / f"large {number}").write_bytes(content(str(number), 3_000_000))
        (source / f"link {number}").symlink_to("small 0")
    root = await share(source, exchange, profile())
    ways = [f"{kind} {number}" for kind in ("small", "large", "link") for number in (1, 3)]
    for name in ways:
        plant_mine(here / "name" / name)
    for dry_run in True, False:
        told, refused = await get(exchange, root, here, None, update=True, delete=False, dry_run=dry_run)
        assert sorted(path for path, change in told if change == "skipped") == sorted(f"name/{way}" for way in ways)
        assert sum(change == "new" for _, change in told) == 9
        assert refused is not None and "--delete" in refused and "5 more" in refused
    assert not list(here.rglob("*.part"))
    assert all((here / "name" / name / "mine" / "deep" / "letter").exists() for name in ways)


@pytest.mark.anyio
async def test_small_files_are_counted_like_the_others(tmp_path: Path, exchange: FakeExchange, store_kind: str) -> None:
    """`--dry-run` said "204 new", the real update "2 new"."""
    source, here = tmp_path / "source", tmp_path / "here"
    (source / "s").mkdir(parents=True)
    here.mkdir()
    for number in range(200):
        (source / "s" / str(number)).write_bytes(b"%d" % number)
    (source / "large").write_bytes(content("large", 3_000_000))
    root = await share(source, exchange, profile())
    for include, new in ((), 203), (("s/1*",), 113):
        told = []
        for dry_run in True, False:
            request = FetchRequest(
                root=root, name="name", directory=here, include=include, update=True, dry_run=dry_run
            )
            store_context = open_store(store_kind, tmp_path / "home")
            async with store_context as store, Fetcher(store, exchange).open(request) as fetch:
                told.append(sorted([(e.path, e.change) async for e in fetch if isinstance(e, EntryUpdated)]))
        assert told[0] == told[1] and [change for _, change in told[0]] == ["new"] * new
        shutil.rmtree(here / "name")


@pytest.mark.anyio
async def test_an_empty_directory_that_was_made_was_not_there(tmp_path: Path, exchange: FakeExchange) -> None:
    (tmp_path / "source").mkdir()
    root = await share(tmp_path / "source", exchange, profile())
    for update in False, True:
        here = tmp_path / f"here {update}"
        here.mkdir()
        request = FetchRequest(root=root, name="name", directory=here, update=update)
        for already in False, True:
            finished: FetchFinished = await Fetcher(MemoryStore(), exchange).fetch(request)
            assert finished.already_complete is already


@pytest.mark.anyio
@pytest.mark.parametrize("above", [False, True], ids=["home", "above"])
async def test_no_update_goes_into_the_home_of_the_user(
    tmp_path: Path, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch, above: bool
) -> None:
    """Who shared it could put another `.profile` there."""
    source, home = tmp_path / "source", tmp_path / "here" / "user"
    (source / "user").mkdir(parents=True)
    home.mkdir(parents=True)
    for place in source, source / "user":
        (place / ".profile").write_bytes(b"theirs")
    (home / ".profile").write_bytes(b"mine")
    monkeypatch.setenv("HOME", str(home))
    root = await share(source, exchange, profile())
    out = home.parent if above else home
    for delete in False, True:
        told, refused = await get(exchange, root, tmp_path, out, update=True, delete=delete, dry_run=False)
        assert told == [] and refused is not None and "home folder" in refused
    assert looks(home) == {".profile": b"mine"}
