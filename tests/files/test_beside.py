"""What is fetched goes beside what is there: a tree's contents straight into a directory, two fetches to one name."""

import os
from pathlib import Path

import anyio
import pytest

from stack.blocks.memory import MemoryStore
from stack.dag.unixfs.options import import_options
from stack.errors import Refused
from stack.files.events import FetchResumed
from stack.files.fetch import Fetcher, FetchRequest
from stack.files.jobs import Jobs
from stack.files.target import Claim, choose_target, make_parents
from stack.multiformats.cid import Cid
from tests.files.conftest import FakeExchange, content, open_store
from tests.files.test_fetch_tree import plant, share, snapshot

ROOT = Cid.of(b"root")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where fetches go; somebody has a file there."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "of mine").write_bytes(b"mine")
    return tmp_path / "here"


def into(root: Cid, here: Path, *, name: str = "tree", update: bool = False, delete: bool = False) -> FetchRequest:
    """Fetch what is in a tree straight to where one is."""
    return FetchRequest(
        root=root,
        name=name,
        directory=here,
        out=here,
        contents=True,
        update=update,
        delete=delete,
        unsafe_links=True,
    )


@pytest.mark.anyio
async def test_what_is_in_a_tree_goes_straight_into_a_directory_with_other_things(
    tmp_path: Path, here: Path, exchange: FakeExchange, store_kind: str
) -> None:
    """Point 20: several paths that were shared arrive in `.`."""
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    (here / "deep").mkdir()
    (here / "deep" / "mine too").write_bytes(b"mine")
    mine = {"of mine": b"mine", "deep/mine too": b"mine"}
    async with open_store(store_kind, tmp_path / "home") as store:
        for again in (False, True):
            finished = await Fetcher(store, exchange).fetch(into(root, here))
            assert finished.target == here and finished.already_complete == again
            assert snapshot(here) == snapshot(tmp_path / "source") | mine
        (here / "a.txt").write_bytes(b"my own")
        with pytest.raises(Refused, match=r"a\.txt exists with other content; --update"):
            await Fetcher(store, exchange).fetch(into(root, here))
        assert (here / "a.txt").read_bytes() == b"my own"
        await Fetcher(store, exchange).fetch(into(root, here, update=True))
        assert snapshot(here) == snapshot(tmp_path / "source") | mine
        assert (await Fetcher(store, exchange).fetch(into(root, here, update=True, delete=True))).deleted == 2


@pytest.mark.anyio
async def test_what_is_no_tree_goes_into_the_directory(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    (tmp_path / "film.mkv").write_bytes(b"film")
    root = await share(tmp_path / "film.mkv", exchange)
    finished = await Fetcher(MemoryStore(), exchange).fetch(into(root, here, name="film.mkv"))
    assert finished.target == here / "film.mkv" and finished.target.read_bytes() == b"film"


@pytest.mark.anyio
async def test_only_what_an_earlier_fetch_left_is_told_as_here(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    (here / "tree.part").write_bytes(b"mine")
    (here / "tree").mkdir()
    (here / "tree" / "a.txt").write_bytes((tmp_path / "source" / "a.txt").read_bytes())
    request = FetchRequest(root=root, name="tree", directory=here, unsafe_links=True)
    told = []
    jobs = await Jobs.open(None)
    for _ in range(2):
        async with Fetcher(MemoryStore(), exchange, jobs=jobs).open(request) as fetch:
            told.append([event async for event in fetch if isinstance(event, FetchResumed)])
    await jobs.aclose()
    assert not told[0] and told[1][0].bytes_present > 0
    assert (here / "tree.part").read_bytes() == b"mine"


@pytest.mark.anyio
async def test_two_fetches_to_one_new_directory_do_not_mix(tmp_path: Path, here: Path, exchange: FakeExchange) -> None:
    """Two homes with the same `-o NAME`: the second one made NAME/tree in the tree of the first."""
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    request = FetchRequest(root=root, name="tree", directory=here, out=Path("NAME"), unsafe_links=True)
    (here / "NAME").mkdir()
    with Claim(shared=False) as other:
        other.take(here / "NAME")
        for wanted in (request, into(root, here / "NAME")):
            with pytest.raises(Refused, match="being written by another fetch"):
                await Fetcher(MemoryStore(), exchange).fetch(wanted)
    (here / "NAME").rmdir()
    outcomes: list[object] = []

    async def one() -> None:
        try:
            outcomes.append(await Fetcher(MemoryStore(), exchange).fetch(request))
        except Refused as error:
            outcomes.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    assert [isinstance(outcome, Refused) for outcome in outcomes].count(True) <= 1
    assert snapshot(here / "NAME").keys() - {"tree"} >= snapshot(tmp_path / "source").keys() - {"tree"}


def test_a_directory_that_is_being_written_is_neither_chosen_nor_shared(tmp_path: Path) -> None:
    with Claim(shared=True) as first, Claim(shared=True) as second:
        first.take(tmp_path)
        second.take(tmp_path)
        assert choose_target(tmp_path, tmp_path, "film", ROOT) == tmp_path / "film"
    with Claim(shared=False) as alone:
        alone.take(tmp_path)
        with pytest.raises(Refused, match="being written by another fetch"):
            choose_target(tmp_path, tmp_path, "film", ROOT)
        assert choose_target(tmp_path, tmp_path, "film", ROOT, into=True) == tmp_path / "film"
    with Claim(shared=True) as nothing, pytest.raises(Refused, match="does not exist"):
        nothing.take(tmp_path / "absent")


def test_a_directory_that_is_there_needs_nothing_of_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person's own folder lies where only root may write."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    make_parents(tmp_path)
    with pytest.raises(Refused, match="permission denied"):
        make_parents(tmp_path / "new")


def many(root: Path, count: int) -> None:
    """A tree with small files and two large ones."""
    root.mkdir()
    for number in range(count):
        (root / f"file{number:04}").write_bytes(content(str(number), 900))
    for name in "a large one", "z large one":
        (root / name).write_bytes(content(name, 300_000))


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{}, {"max-directory-links": 16}], ids=["plain", "sharded"])
async def test_a_directory_in_which_only_the_tree_lies_is_gone_on_with_by_who_knows_of_no_earlier_fetch(
    tmp_path: Path, here: Path, exchange: FakeExchange, options: dict[str, object]
) -> None:
    many(tmp_path / "source", 40)
    root = await share(
        tmp_path / "source", exchange, import_options("unixfs-v1-2025", {"chunker": "size-4096", **options})
    )
    request = FetchRequest(root=root, name="tree", directory=here, out=Path("u"))
    exchange.gate = lambda cid: len(exchange.sent) < 130
    async with open_store("disk", tmp_path / "home") as store, Fetcher(store, exchange).open(request):
        while len(exchange.sent) < 130:
            await anyio.sleep(0.01)
    assert any(name.endswith(".part") for name in os.listdir(here / "u"))
    exchange.gate = None
    jobs = await Jobs.open(None)
    async with open_store("disk", tmp_path / "another home") as store:
        sent = len(exchange.sent)
        finished = await Fetcher(store, exchange, jobs=jobs).fetch(request)
    assert len(exchange.sent) - sent < len(set(exchange.sent)) - 80, "what was there came again"
    assert finished.target == here / "u" and snapshot(here / "u") == snapshot(tmp_path / "source")
    assert [job.target for job in await jobs.jobs()] == [here / "u"]
    again = await Fetcher(MemoryStore(), exchange, jobs=jobs).fetch(request)
    assert again.target == here / "u" and again.already_complete
    await jobs.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{}, {"max-directory-links": 16}], ids=["plain", "sharded"])
@pytest.mark.parametrize("name", ["mine", "file0001.part", "file0001.01234567.part"])
async def test_a_directory_with_anything_else_in_it_gets_the_tree_below_it(
    tmp_path: Path, here: Path, exchange: FakeExchange, name: str, options: dict[str, object]
) -> None:
    many(tmp_path / "source", 40)
    root = await share(tmp_path / "source", exchange, import_options("unixfs-v1-2025", options))
    (here / "u").mkdir()
    (here / "u" / "file0001").write_bytes((tmp_path / "source" / "file0001").read_bytes())
    (here / "u" / name).write_bytes(b"mine")
    request = FetchRequest(root=root, name="tree", directory=here, out=Path("u"))
    assert (await Fetcher(MemoryStore(), exchange).fetch(request)).target == here / "u" / "tree"
    assert (here / "u" / name).read_bytes() == b"mine"


@pytest.mark.anyio
async def test_of_the_same_names_with_other_content_nothing_is_overwritten(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    (here / "u").mkdir()
    (here / "u" / "a.txt").write_bytes(b"my own")
    with pytest.raises(Refused, match=r"a\.txt exists with other content; --update"):
        await Fetcher(MemoryStore(), exchange).fetch(
            FetchRequest(root=root, name="tree", directory=here, out=Path("u"))
        )
    assert (here / "u" / "a.txt").read_bytes() == b"my own"


@pytest.mark.anyio
async def test_an_empty_directory_and_one_that_is_only_to_be_gone_into_get_the_tree_below_them(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    plant(tmp_path / "source")
    root = await share(tmp_path / "source", exchange)
    (here / "u").mkdir()
    for into_directory in False, True:
        request = FetchRequest(
            root=root, name="tree", directory=here, out=Path("u"), into_directory=into_directory, unsafe_links=True
        )
        assert (await Fetcher(MemoryStore(), exchange).fetch(request)).target == here / "u" / "tree"
        if not into_directory:
            (here / "u" / "tree" / "a.txt").rename(here / "u" / "a.txt")
            (here / "u" / "tree").rename(here / "gone")


@pytest.mark.anyio
async def test_a_large_tree_writes_nothing_where_something_else_is(
    tmp_path: Path, here: Path, exchange: FakeExchange
) -> None:
    many(tmp_path / "source", 600)
    root = await share(tmp_path / "source", exchange, import_options("unixfs-v1-2025", {"max-directory-links": 16}))
    (here / "tree").mkdir()
    (here / "tree" / "mine").write_bytes(b"mine")
    with pytest.raises(Refused, match="mine is not part of what is fetched; --update"):
        await Fetcher(MemoryStore(), exchange).fetch(FetchRequest(root=root, name="tree", directory=here))
    assert os.listdir(here / "tree") == ["mine"]
