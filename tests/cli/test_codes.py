"""`stack share --code` and `stack get CODE`: what both people see."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner

from stack.cli import codes, output
from stack.cli.app import cli
from stack.cli.completing import codes as offered_codes
from stack.cli.serving import ServingScreen
from stack.errors import DeadlinePassed, Refused, StackError
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Api, CodeEnded, CodeOffered, OfferCode, Shared
from tests.acceptance.kit import Machine, good, make_file

ROOT = Cid.parse("bafybeicdzyh35vanacfr3svcmejvxawumrcdfecktgt26ktcqtjrewicry")
SHARED = Shared(ticket="stack:old", cid=ROOT, name="a", size=1, peer_id="", addrs=())
OFFERED = CodeOffered(code="4-otter-lamp-violin", seconds=60.0, points=1)
USED = CodeEnded(why="used", peer_id="12D3KooWAbcdefghijklmnopqrstuv")


def telling(*events: object) -> Api:
    """A node that tells these of a code."""

    class Node:
        @asynccontextmanager
        async def watch(self, request: OfferCode) -> AsyncIterator[AsyncIterator[object]]:
            assert (request.cid, request.name) == (ROOT, "a")

            async def told() -> AsyncIterator[object]:
                for event in events:
                    if isinstance(event, StackError):
                        raise event
                    yield event

            yield told()

    return cast(Api, Node())


async def seen(*events: object, begun: bool = False) -> tuple[bool, ServingScreen, codes.GivenCode]:
    """A code that comes to this: whether the share was ended for it."""
    screen = ServingScreen(output.Progress(), 10)
    screen._sent = {"peer": 1} if begun else {}
    ended = []
    async with codes.giving(telling(*events), SHARED, ()) as given:
        given.explain()
        await given.follow(screen, lambda: ended.append(True))
    return bool(ended), screen, given


@pytest.mark.anyio
async def test_what_becomes_of_a_code_is_said_and_a_used_one_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ended, _, given = await seen(OFFERED, USED)
    given.check()
    lines = capsys.readouterr().err.splitlines()
    assert not ended and lines == [
        "On the other computer, once, within 60 s:",
        "stack get 4-otter-lamp-violin",
        "the code was used by 12D3KooW…stuv, and is good no longer",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("why", "kind", "text"), [("time", DeadlinePassed, "in 60 s"), ("tries", Refused, "wrongly three times")]
)
async def test_a_code_that_nobody_used_ends_the_share_and_says_what_to_do(
    why: str, kind: type[StackError], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, _, given = await seen(OFFERED, OFFERED, CodeEnded(why=why, peer_id=""))
    assert ended
    with pytest.raises(kind, match=f"{text}.*For another run the same command again"):
        given.check()
    ended, _, given = await seen(OFFERED, CodeEnded(why=why, peer_id=""), begun=True)
    given.check()
    assert not ended  # somebody has the ticket from before


@pytest.mark.anyio
async def test_a_wrong_try_is_told_and_where_it_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "COUNTED_SECONDS", 0.0)
    alone = CodeOffered(code="4-otter-lamp-violin", seconds=60.0, points=0)
    via = tuple(map(Multiaddr.parse, ("/ip4/45.79.1.2/tcp/4001", "/ip4/45.79.1.2/udp/4001/quic-v1")))
    given = codes.GivenCode(via)
    given._offered, given._left = alone, 1
    given.explain()
    screen = ServingScreen(output.Progress(), 10)
    screen.bar.wait = lambda text: setattr(given, "_ended", USED)  # type: ignore[method-assign] # it is used meanwhile
    await given.follow(screen, lambda: None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == codes.NOWHERE
    assert lines[2] == "stack get 4-otter-lamp-violin --via 45.79.1.2:4001 --via /ip4/45.79.1.2/udp/4001/quic-v1"
    assert lines[3] == "somebody tried that code wrongly (1 try left)"
    assert codes.tries(2) == "2 tries"


@pytest.mark.anyio
async def test_when_there_is_no_code_to_give_it_is_said() -> None:
    with pytest.raises(Refused, match="no free number"):
        await seen(Refused("no free number"))
    with pytest.raises(Refused, match="gone"):
        (await seen(OFFERED, Refused("gone")))[2].check()


def test_to_go_on_after_a_code_was_used_the_ticket_is_named() -> None:
    assert codes.with_ticket(["get", "4 otter lamp vio", "-o", "x"], "stack:t") == ["get", "stack:t", "-o", "x"]
    assert codes.with_ticket(["get", "4-oter-lamp-violin"], "stack:t") == ["get", "4-oter-lamp-violin", "stack:t"]


def test_tab_completes_the_words() -> None:
    def offered(begun: str) -> Sequence[str]:
        return [item.value for item in offered_codes(None, None, begun)]  # type: ignore[arg-type] # it looks at neither

    assert offered("4-ot") == ["4-otter"] and offered("4-otter-lam") == ["4-otter-lamp"] and len(offered("4-a")) > 9
    assert not offered("4") and not offered("4-") and not offered("4-a-b-c-d") and not offered("x-ot")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("share", "f", "--code", "--keep"), "--keep leaves the share to others"),
        (("share", "f", "--via", "127.0.0.1:1"), "--via goes with --code"),
        (("get", str(ROOT), "--via", "127.0.0.1:1"), "--via goes with a code"),
        (("get", "4-oter-lamp-violin"), r"oter is no word of a code: otter\?"),
        (("get", "4-oter-lamp"), "no ticket"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_done(
    words: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f").touch()
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert re.search(text, str(done.exception).replace("\n", " ")), done.exception


def test_a_file_whose_name_looks_like_a_code_may_hold_a_ticket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("4-ticket-from-bob").write_text("nothing")
    done = CliRunner().invoke(cli, ["get", "4-ticket-from-bob"], standalone_mode=False)
    assert "4-ticket-from-bob holds no ticket" in str(done.exception)


def test_a_file_goes_over_by_a_code(sharer: Machine, receiver: Machine) -> None:
    """Who gives is his own meeting point here: `--via` leads to him."""
    source = make_file(sharer.folder / "film", 300_000)
    with sharer.sharing("film", "--code") as (_, shared):
        via = re.search(r"/tcp/(\d+)", shared["addresses"][0])
        assert via is not None and re.fullmatch(r"\d+-[a-z]+-[a-z]+-[a-z]+", shared["code"])
        typed = shared["code"].upper().replace("-", " ")
        assert good(receiver.run("get", typed, "--via", f"127.0.0.1:{via[1]}", "-o", "-")).stdout == source.read_bytes()
