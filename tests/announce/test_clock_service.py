"""Clocks on real hosts: whose clock is wrong is told, who slept is announced anew (finding 17). On both event loops."""

import logging
import time
from collections.abc import Callable

import anyio
import pytest

from stack.multiformats.cid import Cid
from stack.node.api import GetAnnouncements, GetDiscovery
from stack.node.config import Config
from stack.node.node import Node
from tests.announce.test_service import member
from tests.net.hosts import connect, hosts, settled

pytestmark = pytest.mark.anyio

ROOT = Cid.of(b"something to share")
HOUR = 3600.0


def clock(ahead: list[float]) -> Callable[[], float]:
    return lambda: time.time() + ahead[0]


@pytest.mark.parametrize(("ahead", "words"), [(HOUR, "60 minutes ahead of"), (-72 * HOUR, "3 days behind")])
async def test_who_has_a_wrong_clock_is_told_by_a_warning(
    ahead: float, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        hosts(2) as [a, b],
        member(a),
        member(b, wall_clock=clock([ahead])) as at_b,
    ):
        at_b.announce(ROOT)
        with caplog.at_level(logging.WARNING):
            await connect(a, b)
            await settled(lambda: at_b.clock is not None and at_b.clock.is_wrong)
        assert f"this computer's clock is {words} that of the one peer" in caplog.text


async def test_who_wakes_announces_at_once_what_has_expired_while_it_slept() -> None:
    ahead = [0.0]
    async with hosts(1) as [host], member(host, wall_clock=clock(ahead)) as at_host:
        host._wall_clock = clock(ahead)
        at_host.announce(ROOT)
        table = at_host._machine.table
        await settled(lambda: any(record.keys for record in table))
        ahead[0] = 14 * HOUR
        await host.upkeep()
        [record] = [record for record in table if record.keys]
        assert record.expires > clock(ahead)() + HOUR


async def test_doctor_and_the_list_of_announcements_say_that_the_clock_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Node.open(Config(listen=("/ip4/127.0.0.1/tcp/0",), role="daemon")) as right, Node.open() as wrong:
        monkeypatch.setattr(wrong.announcing.layer._driver, "_wall", clock([HOUR]))
        await wrong.announce(ROOT)
        await wrong.connect(right.addresses()[0])
        with anyio.fail_after(30):
            while (told := await wrong.ask(GetAnnouncements())).clock is None:
                await anyio.sleep(0.02)
        facts = await wrong.ask(GetDiscovery(seconds=0.0))
    assert "clock is 60 minutes ahead" in told.clock and "set the clock" in told.clock
    [fact] = [fact for fact in facts if fact.what == "clock"]
    assert fact.ok is False and "clock is 60 minutes ahead" in fact.detail
