"""TXT records of a name server on loopback."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio
import pytest

from stack.discovery import lookup
from stack.discovery.dns import PTR, TXT, Message, Question, Record, decode, encode, name_of
from stack.discovery.lookup import lookup_text, name_servers
from stack.errors import DecodeError
from stack.multiformats.multiaddr import Multiaddr
from stack.net.resolver import Resolver
from tests.net.identities import peer

pytestmark = pytest.mark.anyio
LOOPBACK = "127.0.0.1"
Answer = Callable[[Message], list[bytes]]


def answering(query: Message, *texts: bytes, **others: object) -> Message:
    records = tuple(Record(query.questions[0].name, TXT, 60, (text[:100], text[100:])) for text in texts)
    return replace(Message(id=query.id, response=True, questions=query.questions, answers=records), **others)  # type: ignore[arg-type]


@asynccontextmanager
async def server(answer: Answer, over_tcp: Answer | None = None) -> AsyncIterator[int]:
    """A name server; gives its port. Nothing is answered where `answer` gives nothing."""
    # TCP first: many of its ports are taken on a busy machine, few of UDP's
    listener = await anyio.create_tcp_listener(local_host=LOOPBACK)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with await anyio.create_udp_socket(family=socket.AF_INET, local_host=LOOPBACK, local_port=port) as udp:

        async def serve() -> None:
            async for data, source in udp:
                for reply in answer(decode(data)):
                    await udp.sendto(reply, *source)

        async def serve_tcp(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                assert over_tcp is not None
                with suppress(anyio.BrokenResourceError):
                    for reply in over_tcp(decode((await stream.receive())[2:])):
                        await stream.send(reply[:1])
                        await stream.send(reply[1:])

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            tasks.start_soon(listener.serve, serve_tcp)
            yield port
            tasks.cancel_scope.cancel()


async def test_the_strings_of_a_record_are_joined() -> None:
    async with server(lambda query: [encode(answering(query, b"a" * 150, b"b"))]) as port:
        assert await lookup_text("_dnsaddr.example.com", servers=[LOOPBACK], port=port) == ["a" * 150, "b"]


async def test_answers_to_other_questions_are_not_taken() -> None:
    def answer(query: Message) -> list[bytes]:
        other = (Question(name_of("example.org"), TXT),)
        return [
            encode(answering(query, b"forged", id=query.id ^ 1)),
            encode(answering(query, b"forged", questions=other)),
            encode(Message(id=query.id, questions=query.questions)),
            encode(answering(query, b"right")),
        ]

    async with server(answer) as port:
        assert await lookup_text("example.com", servers=[LOOPBACK], port=port) == ["right"]


async def test_a_long_answer_is_asked_for_over_tcp() -> None:
    texts = [b"x" * 200] * 20

    def whole(query: Message) -> list[bytes]:
        data = encode(answering(query, *texts))
        return [len(data).to_bytes(2, "big") + data]

    async with server(lambda query: [encode(answering(query, truncated=True))], whole) as port:
        assert len(await lookup_text("example.com", servers=[LOOPBACK], port=port)) == 20


@pytest.mark.parametrize("reply", [b"", b"\xff\xff" + b"x" * 20_000, b"\0\x0c" + bytes(12)])
async def test_a_server_that_breaks_the_rules_over_tcp_is_an_error(reply: bytes) -> None:
    async with server(lambda query: [encode(answering(query, truncated=True))], lambda query: [reply]) as port:
        with pytest.raises(OSError, match="name server"):
            await lookup_text("example.com", servers=[LOOPBACK], port=port)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda query: [encode(answering(query, code=3))], "no such name"),
        (lambda query: [encode(answering(query))], "no TXT record"),
        (lambda query: [encode(answering(query, code=2))], "code 2"),
        (lambda query: [b"nonsense"], "name server"),
    ],
)
async def test_what_goes_wrong_is_told(answer: Answer, message: str) -> None:
    async with server(answer) as port:
        with pytest.raises(OSError, match=message):
            await lookup_text("example.com", servers=[LOOPBACK], port=port)


async def test_a_silent_server_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "SERVER_SECONDS", 0.05)
    calls = []

    def second_time(query: Message) -> list[bytes]:
        calls.append(query)
        return [encode(answering(query, b"here"))] if len(calls) > 1 else []

    async with server(second_time) as port:
        assert await lookup_text("example.com", servers=[LOOPBACK], port=port) == ["here"]
    async with server(lambda query: []) as port:
        with pytest.raises(OSError, match="no answer"):
            await lookup_text("example.com", servers=[LOOPBACK], port=port)


async def test_records_of_other_types_are_left_out() -> None:
    def answer(query: Message) -> list[bytes]:
        name = query.questions[0].name
        records = (Record(name, PTR, 1, name), Record(name, TXT, 1, (b"text",)))
        return [encode(answering(query, answers=records))]

    async with server(answer) as port:
        assert await lookup_text("example.com", servers=[LOOPBACK], port=port) == ["text"]


async def test_the_servers_of_the_system_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    async with server(lambda query: [encode(answering(query, b"here"))]) as port:
        monkeypatch.setattr(lookup, "RESOLV_CONF", lookup.Path(str(tmp_path)) / "resolv.conf")
        assert await lookup_text("example.com", port=port) == ["here"]
        lookup.RESOLV_CONF.write_text(f"nameserver {LOOPBACK}\n")
        assert await lookup_text("example.com", port=port) == ["here"]


async def test_a_name_that_is_none_is_not_asked_for() -> None:
    with pytest.raises(DecodeError):
        await lookup_text("a..b", servers=[LOOPBACK])


async def test_a_dnsaddr_leads_to_the_addresses_of_a_peer() -> None:
    found = f"/ip4/127.0.0.1/tcp/4001/p2p/{peer(1)}"

    async with server(lambda query: [encode(answering(query, f"dnsaddr={found}".encode()))]) as port:

        async def text(name: str) -> list[str]:
            assert name == "_dnsaddr.example.com"
            return await lookup_text(name, servers=[LOOPBACK], port=port)

        resolver = Resolver(lookup_text=text)
        asked = Multiaddr.parse(f"/dnsaddr/example.com/p2p/{peer(1)}")
        assert await resolver.resolve([asked]) == ([Multiaddr.parse(found)], [])


def test_name_servers_are_read_as_the_system_reads_them() -> None:
    text = "# nameserver 9.9.9.9\nsearch example\nnameserver\nnameserver host\nnameserver 10.0.0.1\n nameserver fe80::1%eth0\n"
    assert name_servers(text) == ["10.0.0.1", "fe80::1%eth0"]
    assert name_servers("nameserver 10.0.0.1\n" * 9) == ["10.0.0.1"] * 3
    assert name_servers("") == ["127.0.0.1"]
