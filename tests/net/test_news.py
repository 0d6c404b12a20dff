"""Hearing that addresses have changed."""

import socket

import anyio
import pytest

from stack import platform
from stack.net import news as module
from stack.net.news import AddressNews

pytestmark = pytest.mark.anyio


async def test_a_change_is_heard_at_once_and_each_but_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    monkeypatch.setattr(module, "address_news", lambda: ours)
    with kernel, AddressNews(True) as news:
        for _ in range(3):
            kernel.send(b"changed")
        with anyio.fail_after(5):
            await news.wait(60)
        started = anyio.current_time()
        await news.wait(0.05)
        assert anyio.current_time() - started >= 0.05
    assert ours.fileno() == -1


async def test_without_news_it_keeps_time() -> None:
    with AddressNews(False) as news:
        with anyio.fail_after(5):
            await news.wait(0.01)


def test_a_system_that_tells_nothing_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError("not permitted")

    if (news := platform.address_news()) is not None:
        news.close()
        monkeypatch.setattr(socket, "socket", Refusing)
        assert platform.address_news() is None

    def none(*arguments: object) -> None:
        raise OSError("no descriptors left")

    monkeypatch.setattr(socket, "socket", none)
    assert platform.address_news() is None
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    assert platform.address_news() is None
