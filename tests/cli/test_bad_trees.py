"""B15, B16: damaged archives, and trees with names that lead elsewhere."""

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from stack.dag.dag_pb import Link, Node, encode
from stack.dag.unixfs.data import NodeKind, encode_data
from stack.multiformats.cid import Cid
from stack.multiformats.multicodec import DAG_PB
from tests.acceptance.kit import Machine, complaint, good, make_file, snapshot

ARCHIVES = Path(__file__).parents[1] / "vectors" / "car"
BAD = sorted(
    record["file"] for record in json.loads((ARCHIVES / "index.json").read_text())["files"] if record["must"] == "error"
)
LEAF = b"what is in every file of this tree"


@pytest.mark.timeout(180)
def test_B15_no_damaged_archive_is_taken(sharer: Machine) -> None:
    good(sharer.run("id"))
    for name in BAD:
        complaint(sharer.run("car", "import", ARCHIVES / name), 5)
    assert good(sharer.run("pin", "ls", "--json")).json["items"] == []
    sharer.verified()


@pytest.mark.parametrize("name", ["bad-empty-file.car", "bad-wrong-hash.car", "bad-truncated-block.car"])
def test_B15_ls_of_a_damaged_archive_says_so_and_keeps_nothing(sharer: Machine, name: str) -> None:
    complaint(sharer.run("car", "ls", ARCHIVES / name), 5)
    complaint(sharer.run("car", "import", "-", data=(ARCHIVES / name).read_bytes()), 5)
    complaint(sharer.run("car", "import", "not-there.car"), 2, "not-there.car")


def directory(*links: tuple[bytes, Cid], sizes: tuple[int, ...] = ()) -> bytes:
    """A directory whose names nobody has checked; `sizes` of what is linked, if that is not always `LEAF`."""
    named = tuple(
        Link(name.decode("utf-8", "surrogateescape"), size, cid)
        for (name, cid), size in zip(links, sizes or (len(LEAF),) * len(links), strict=True)
    )
    return encode(Node(encode_data(NodeKind.DIRECTORY), named))


def put(machine: Machine, block: bytes, codec: str) -> Cid:
    """Keep a block, whatever is in it."""
    return Cid.parse(good(machine.run("block", "put", "--codec", codec, data=block)).out.strip())


REFUSED_NAMES = [
    b"..",
    b".",
    b"",
    b"../escaped",
    b"/etc/escaped",
    b"a/b",
    b"a\\b",
    b"C:escaped",
    b"nul\0byte",
    b"x" * 256,
]
TAKEN_NAMES = [b"good", b"\xff\xfe not UTF-8", b"-rf", b"new\nline", "снимок".encode(), b"y" * 255]


def test_B16_names_that_lead_elsewhere_are_left_out_and_the_rest_arrives(
    place: Path, sharer: Machine, receiver: Machine
) -> None:
    before = snapshot(place / "b")
    with sharer.daemon():
        leaf = put(sharer, LEAF, "raw")
        root = put(sharer, directory(*((name, leaf) for name in REFUSED_NAMES + TAKEN_NAMES)), "dag-pb")
        assert root == Cid.of(directory(*((name, leaf) for name in REFUSED_NAMES + TAKEN_NAMES)), DAG_PB)
        outcome = receiver.run("get", str(root), "--from", sharer.address(), "-o", "tree")
        listed = good(receiver.run("ls", str(root), "--from", sharer.address()))
    assert outcome.code == 8, str(outcome)
    assert "Traceback" not in outcome.err and "\0" not in outcome.err
    assert outcome.err.count("skipped ") == len(REFUSED_NAMES)
    assert len(listed.lines) == len(REFUSED_NAMES + TAKEN_NAMES)
    arrived = {path.name.encode("utf-8", "surrogateescape") for path in (receiver.folder / "tree").iterdir()}
    assert arrived == set(TAKEN_NAMES)
    assert all(
        (receiver.folder / "tree").joinpath(path).read_bytes() == LEAF for path in (receiver.folder / "tree").iterdir()
    )
    outside = {name for name in snapshot(place / "b") if not name.startswith(("home", "folder/tree"))}
    assert outside - set(before) <= {"folder"}
    assert not (place / "escaped").exists() and not Path("/etc/escaped").exists()


LATIN_OUT = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def foreign_tree(machine: Machine) -> Cid:
    """Names in Japanese and French beside plain ones, and a link to one of them."""
    leaf = put(machine, LEAF, "raw")
    symlink = encode(Node(encode_data(NodeKind.SYMLINK, payload="日本".encode()), ()))
    links = [
        ("café".encode(), leaf),
        (b"door", put(machine, symlink, "dag-pb")),
        (b"plain", leaf),
        ("日本".encode(), leaf),
    ]
    return put(machine, directory(*links, sizes=(len(LEAF), len(symlink), len(LEAF), len(LEAF))), "dag-pb")


@pytest.mark.parametrize("locale", [LATIN_OUT, ASCII], ids=["latin-1", "ascii"])
def test_names_that_a_locale_has_no_characters_for_are_listed(locale: dict[str, str], sharer: Machine) -> None:
    root = foreign_tree(sharer)
    sharer.environment |= locale
    listed = good(sharer.run("ls", str(root)))
    assert len(listed.lines) == 4
    if locale is LATIN_OUT:
        assert listed.lines[-1].endswith(r" \u65e5\u672c")
    answer = good(sharer.run("ls", "--json", str(root)))
    assert answer.out.isascii()
    assert [item["name"] for item in answer.json["items"]] == ["café", "door", "plain", "日本"]
    schema = good(sharer.run("schema"))
    assert schema.out.isascii() and json.loads(schema.out)


@pytest.mark.parametrize("where", ["in the command", "in a daemon"])
def test_names_that_a_locale_has_no_characters_for_are_left_out_and_the_rest_arrives(
    where: str, sharer: Machine, receiver: Machine
) -> None:
    with sharer.daemon(), ExitStack() as stack:
        root = foreign_tree(sharer)
        asked = ("get", str(root), "--from", sharer.address(), "-o")
        ours = dict(receiver.environment)
        receiver.environment |= ASCII
        if where == "in a daemon":
            stack.enter_context(receiver.daemon())
            receiver.environment = ours
            complaint(receiver.run(*asked, "猫"), 7, "the locale of this process")
        outcome = receiver.run(*asked, "tree")
        updated = receiver.run(*asked, "tree", "--update")
    for each in outcome, updated:
        assert each.code == 8 and each.err.count("the locale of this process (ascii) has no ") == 3, str(each)
        assert "Traceback" not in each.err and "internal error" not in each.err
    assert [path.name for path in (receiver.folder / "tree").iterdir()] == ["plain"]


def test_the_name_in_a_ticket_becomes_one_that_the_locale_has_characters_for(
    sharer: Machine, receiver: Machine
) -> None:
    source = make_file(sharer.folder / "日本.bin", 5000)
    receiver.environment |= ASCII
    with sharer.sharing(source) as (_, shared):
        good(receiver.run("get", shared["ticket"]))
    assert [path.name for path in receiver.folder.iterdir()] == ["__.bin"]


def test_B16_the_same_name_twice_and_a_link_that_leads_out(place: Path, sharer: Machine, receiver: Machine) -> None:
    outside = place / "outside"
    outside.mkdir()
    with sharer.daemon():
        leaf = put(sharer, LEAF, "raw")
        symlink = encode(Node(encode_data(NodeKind.SYMLINK, payload=str(outside).encode()), ()))
        link = put(sharer, symlink, "dag-pb")
        folder = directory((b"written through a link", leaf))
        inner = put(sharer, folder, "dag-pb")
        entries = ((b"door", link), (b"door", inner), (b"same", leaf), (b"same", leaf))
        sizes = (len(symlink), len(folder) + len(LEAF), len(LEAF), len(LEAF))
        root = put(sharer, directory(*entries, sizes=sizes), "dag-pb")
        asked = ("get", str(root), "--from", sharer.address(), "--deadline", "20")
        without = receiver.run(*asked, "-o", "without")
        outcome = receiver.run(*asked, "-o", "tree", "--unsafe-links")
    assert without.code == 8 and "skipped door: a link that leads out of the tree" in without.err
    assert {path.name for path in (receiver.folder / "without").iterdir()} == {"same"}
    # unixfs.md, "Directory Path Resolution": of entries with the same name the first counts.
    assert outcome.code == 0, str(outcome)
    assert "Traceback" not in outcome.err
    assert list(outside.iterdir()) == []
    assert {path.name for path in (receiver.folder / "tree").iterdir()} == {"door", "same"}
    assert (receiver.folder / "tree" / "door").is_symlink()
    receiver.verified()


def test_B16_the_name_in_a_ticket_is_no_path(sharer: Machine, receiver: Machine) -> None:
    source = make_file(sharer.folder / "plain.bin", 5000)
    with sharer.sharing(source) as (_, shared):
        from stack.files.ticket import decode_ticket, encode_ticket

        ticket = decode_ticket(shared["ticket"])
        for name in ("../../escaped", "/etc/escaped", ".bashrc", "a\nb", "\x1b[2J", "n" * 400):
            hostile = encode_ticket(replace(ticket, name=name))
            good(receiver.run("get", hostile))
    names = [path.name for path in receiver.folder.iterdir()]
    assert len(names) == 6
    assert not any("/" in name or name.startswith(".") or not name.isprintable() for name in names)


def test_B16_local_names_of_every_kind_arrive_as_they_are(sharer: Machine, receiver: Machine) -> None:
    tree = sharer.folder / "tree"
    tree.mkdir()
    for name in (b"new\nline", b"tab\t", b" spaces ", "e\u0301".encode(), "\u00e9".encode(), b"z" * 255):
        Path(str(tree) + "/" + name.decode("utf-8", "surrogateescape")).write_bytes(name)
    with sharer.sharing(tree) as (_, shared):
        good(receiver.run("get", shared["ticket"]))
    assert snapshot(receiver.folder / "tree") == snapshot(tree)


def test_B16_a_local_name_that_is_no_text_is_left_out_and_told(sharer: Machine) -> None:
    tree = sharer.folder / "tree"
    make_file(tree / "good.bin", 10)
    Path(str(tree) + "/bad\udcff\udcfe").write_bytes(b"x")
    outcome = sharer.run("add", tree)
    assert outcome.code == 8 and r"bad\xff\xfe" in outcome.err and "not UTF-8" in outcome.err
    with sharer.sharing(tree) as (_, ticket):
        assert ticket["size"] == 10
