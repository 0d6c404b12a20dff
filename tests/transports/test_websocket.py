"""WebSockets: the upgrade, frames, TLS, and what hostile peers send."""

import socket

import anyio
import pytest
from wsproto.connection import CLIENT, Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from stack.errors import RemoteProtocolError, TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams.interfaces import RawStream
from stack.testing.conformance.transports import connected_pair
from stack.testing.streams import receive_exactly
from stack.transports.interfaces import ListenError
from stack.transports.tcp import TcpTransport
from stack.transports.websocket import WebSocketTransport
from stack.transports.websocket.frames import FRAME_BYTES_MAX, FRAMES_A_CALL, Frames, Upgrade
from tests.flooding import quickest
from tests.transports.certificates import client_context, server_context

HEAD_BYTES_MAX = 16 * 1024
LOCAL = Multiaddr.parse("/ip4/127.0.0.1/tcp/0/ws")
LOCAL_TLS = Multiaddr.parse("/ip4/127.0.0.1/tcp/0/tls/ws")
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def upgraded() -> tuple[Frames, Frames]:
    """Client and server after the upgrade."""
    client, server = Upgrade(host="a"), Upgrade()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    assert client.frames and server.frames
    return client.frames, server.frames


def read(frames: Frames) -> bytes:
    """Everything that waits."""
    buffer = memoryview(bytearray(1 << 16))
    return b"".join(bytes(buffer[:size]) for size in iter(lambda: frames.read_into(buffer), 0))


def test_both_ends_upgrade_and_exchange_frames() -> None:
    client, server = upgraded()
    server.receive_data(client.frame(memoryview(b"to the server")), 0.0)
    client.receive_data(server.frame(memoryview(b"to the client")), 0.0)
    assert (read(server), read(client)) == (b"to the server", b"to the client")


def test_frames_that_come_one_byte_at_a_time_are_read() -> None:
    client, server = upgraded()
    for byte in client.frame(memoryview(b"abcdef")):
        server.receive_data(bytes([byte]), 0.0)
    assert server.readable
    assert read(server) == b"abcdef"


def test_frames_that_come_with_the_answer_to_the_upgrade_are_kept() -> None:
    client, server = Upgrade(host="a"), Upgrade()
    server.receive_data(client.data_to_send())
    assert server.frames
    client.receive_data(server.data_to_send() + server.frames.frame(memoryview(b"early")))
    assert client.frames
    assert read(client.frames) == b"early"


def test_a_ping_is_answered_and_many_at_once_are_answered_once_a_look() -> None:
    client, server = upgraded()
    pings = Connection(CLIENT)
    server.receive_data(b"".join(pings.send(Ping(payload=b"%d" % number)) for number in range(100)), 0.0)
    while server.behind:
        server.go_on(0.0)
    pings.receive_data(server.data_to_send())
    looks = [b"%d" % last for last in (99, *range(95, 0, -FRAMES_A_CALL))]
    assert [bytes(e.payload) for e in pings.events() if isinstance(e, Pong)] == looks
    assert not client.readable


EMPTY = {
    "pings": Ping(payload=b"x"),
    "pongs": Pong(payload=b"x"),
    "empty messages": BytesMessage(data=b""),
    "empty fragments": BytesMessage(data=b"", message_finished=False),
    "tiny fragments": BytesMessage(data=b"x" * 63, message_finished=False),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_attack_5_more_than_a_hundred_frames_in_a_row_that_bring_nothing_end_the_websocket(kind: str) -> None:
    _, server = upgraded()
    peer = Connection(CLIENT)

    def come(count: int, now: float, event: Ping | Pong | BytesMessage = EMPTY[kind]) -> None:
        server.receive_data(b"".join(peer.send(event) for _ in range(count)), now)
        while server.behind:
            server.go_on(now)

    come(100, 0.0)
    come(1, 0.0, BytesMessage(data=b"something" * 8, message_finished="fragments" not in kind))
    come(100, 0.0)
    come(100, 11.0)
    assert not server.ended
    come(1, 11.0)
    assert server.error == "too many frames that bring nothing"
    assert server.data_to_send().endswith(b"\x88\x02\x03\xf0")  # a close frame with code 1008


def test_attack_5_one_look_is_at_a_few_frames() -> None:
    _, server = upgraded()
    peer = Connection(CLIENT)
    server.receive_data(b"".join(peer.send(BytesMessage(data=b"x")) for _ in range(130)), 0.0)
    sizes = [len(read(server))]
    while server.behind:
        server.go_on(0.0)
        sizes.append(len(read(server)))
    assert sizes == [FRAMES_A_CALL] * 8 + [2]


def test_an_answer_to_a_ping_of_nobody_changes_nothing() -> None:
    _, server = upgraded()
    server.receive_data(
        Connection(CLIENT).send(Pong(payload=b"x")) + Connection(CLIENT).send(BytesMessage(data=b"")), 0.0
    )
    assert (server.ended, server.readable, server.data_to_send()) == (False, False, b"")


def test_a_polite_close_is_answered_and_ends_without_an_error() -> None:
    client, server = upgraded()
    client.close()
    client.close()
    server.receive_data(client.data_to_send(), 0.0)
    assert (server.ended, server.error, server.open) == (True, None, False)
    client.receive_data(server.data_to_send(), 0.0)
    assert (client.ended, client.error) == (True, None)
    client.receive_data(b"after the end", 0.0)
    assert not client.readable


def test_a_close_with_a_code_is_an_error() -> None:
    _, server = upgraded()
    server.receive_data(Connection(CLIENT).send(CloseConnection(code=CloseReason.INTERNAL_ERROR, reason="oops")), 0.0)
    assert server.ended
    assert server.error == "closed with code 1011: oops"


def test_an_end_without_a_close_frame_is_an_error() -> None:
    _, server = upgraded()
    server.receive_data(b"", 0.0)
    assert server.ended
    assert server.error == "the connection ended without a close frame"


def test_a_text_frame_is_refused() -> None:
    _, server = upgraded()
    server.receive_data(Connection(CLIENT).send(TextMessage(data="hello")), 0.0)
    assert server.error == "text frame"
    assert server.data_to_send()[:2] == b"\x88\x02"


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), "code 1002"),
        (b"\xc2\x81" + bytes(5), "code 1002"),
        (b"\xa2\x81" + bytes(5), "code 1002"),
        (b"\x82\x01a", "code 1002"),
        (b"\x80\x81" + bytes(5), "code 1002"),
        (b"\x89\xfe\x01\x00" + bytes(4), "code 1002"),
        (b"\x83\x80" + bytes(4), "code 1002"),
    ],
    ids=[
        "length of 2^64-1",
        "RSV1 without extension",
        "RSV2",
        "unmasked",
        "stray continuation",
        "long ping",
        "opcode 3",
    ],
)
def test_A75_malformed_frames_end_the_websocket(head: bytes, error: str) -> None:
    _, server = upgraded()
    server.receive_data(head, 0.0)
    assert server.ended
    assert error in str(server.error)
    assert server.data_to_send()[:1] == b"\x88"


def test_A75_a_huge_declared_length_allocates_nothing_and_the_frame_is_cut_off() -> None:
    _, server = upgraded()
    server.receive_data(b"\x82\xff" + (2**62).to_bytes(8, "big") + bytes(4), 0.0)
    assert not server.ended
    chunk = bytes(64 * 1024)
    for _ in range(FRAME_BYTES_MAX // len(chunk)):
        server.receive_data(chunk, 0.0)
        assert len(read(server)) == len(chunk)
    server.receive_data(b"x", 0.0)
    assert server.error == "frame too large"
    assert not server.readable


def test_the_largest_frame_passes_in_pieces_of_a_message_without_end() -> None:
    machine = Connection(CLIENT)
    _, server = upgraded()
    for _ in range(3):
        server.receive_data(machine.send(BytesMessage(data=bytes(FRAME_BYTES_MAX), message_finished=False)), 0.0)
        assert len(read(server)) == FRAME_BYTES_MAX
    assert not server.ended


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES_MAX,
        b"".join([b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 4096]),
        REQUEST + b"Content-Length: 5\r\n\r\n",
        REQUEST + b"Transfer-Encoding: chunked\r\n\r\n",
        REQUEST.replace(b"GET", b"POST") + b"\r\n",
        REQUEST.replace(b"Upgrade: websocket\r\n", b"") + b"\r\n",
        REQUEST.replace(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8") + b"\r\n",
        REQUEST.replace(b"Host: a", b"Host: " + b"\xff" * 80) + b"\r\n",
        REQUEST.replace(b"Host: a", b"Host: xn--" + b"a" * 100) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n\r\n\r\n",
    ],
    ids=[
        "long",
        "many",
        "body",
        "chunks",
        "POST",
        "no upgrade",
        "version",
        "host bytes",
        "host label",
        "TLS",
        "multistream",
    ],
)
def test_A75_hostile_requests_are_refused(head: bytes) -> None:
    server = Upgrade()
    with pytest.raises(RemoteProtocolError):
        for start in range(0, len(head), 4096):
            server.receive_data(head[start : start + 4096])
    assert server.frames is None
    assert server.data_to_send()[:12] in (b"", b"HTTP/1.1 400")


def test_A75_compression_that_is_offered_is_not_taken() -> None:
    server = Upgrade()
    server.receive_data(REQUEST + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    assert server.frames
    assert b"deflate" not in server.data_to_send()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
        (
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "token",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "HTTP 100"),
        (b"HTTP/1.1 101 S\r\nX: " + b"a" * HEAD_BYTES_MAX, "bad HTTP"),
        (b"\x13/multistream/1.0.0\n\r\n\r\n", "bad HTTP"),
        (b"", "ended"),
    ],
    ids=["404", "token", "100", "long", "multistream", "end"],
)
def test_A75_hostile_answers_are_refused(answer: bytes, error: str) -> None:
    client = Upgrade(host="a")
    with pytest.raises(RemoteProtocolError, match=error):
        client.receive_data(answer)
    assert client.frames is None


async def server_stream(transport: WebSocketTransport, listener: object) -> RawStream:
    """The next connection of `listener`, opened."""
    incoming = await listener.accept()  # type: ignore[attr-defined]
    stream: RawStream = await incoming.open()
    return stream


@pytest.mark.anyio
async def test_pings_and_close_are_answered_on_the_wire() -> None:
    transport = WebSocketTransport()
    listener = await transport.listen(LOCAL)
    below = await TcpTransport().dial(listener.address.decapsulate("ws"))
    machine = Upgrade(host="a")
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            accepted = await server_stream(transport, listener)
            assert await receive_exactly(accepted, 3) == b"abc"
            with pytest.raises(anyio.EndOfStream):
                await accepted.receive_into(memoryview(bytearray(1)))
            with pytest.raises(anyio.BrokenResourceError):
                await accepted.send_all(memoryview(b"too late"))
            await accepted.aclose()

        tasks.start_soon(serve)
        await below.send_all(memoryview(machine.data_to_send()))
        buffer = memoryview(bytearray(4096))
        while machine.frames is None:
            machine.receive_data(bytes(buffer[: await below.receive_into(buffer)]))
        raw = Connection(CLIENT)
        await below.send_all(memoryview(raw.send(Ping(payload=b"hi")) + raw.send(BytesMessage(data=b"abc"))))
        while not (events := list(raw.events())):
            raw.receive_data(bytes(buffer[: await below.receive_into(buffer)]))
        assert events == [Pong(payload=b"hi")]
        await below.send_all(memoryview(raw.send(CloseConnection(code=1000))))
        raw.receive_data(bytes(buffer[: await below.receive_into(buffer)]))
        assert [type(event) for event in raw.events()] == [CloseConnection]
    await below.aclose()
    await listener.aclose()


@pytest.mark.anyio
async def test_a_server_that_is_no_websocket_is_reported() -> None:
    tcp = TcpTransport()
    listener = await tcp.listen(LOCAL.decapsulate("ws"))
    address = listener.address.encapsulate(Multiaddr.parse("/ws"))
    async with anyio.create_task_group() as tasks:

        async def answer() -> None:
            stream = await (await listener.accept()).open()
            await stream.send_all(memoryview(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"))
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                while True:
                    await stream.receive_into(memoryview(bytearray(4096)))
            await stream.aclose()

        tasks.start_soon(answer)
        with pytest.raises(TransportError, match="HTTP 503"):
            await WebSocketTransport().dial(address)
    await listener.aclose()


@pytest.mark.anyio
async def test_A75_a_bad_client_gets_an_answer_and_the_listener_goes_on() -> None:
    transport = WebSocketTransport()
    listener = await transport.listen(LOCAL)
    below = await TcpTransport().dial(listener.address.decapsulate("ws"))
    await below.send_all(memoryview(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"))
    with pytest.raises(TransportError):
        await server_stream(transport, listener)
    assert (await receive_exactly(below, 12)) == b"HTTP/1.1 400"
    await below.aclose()
    gone = await TcpTransport().dial(listener.address.decapsulate("ws"))
    await gone.aclose()
    with pytest.raises(TransportError):
        await server_stream(transport, listener)
    for end in await connected_pair(transport, listener):
        await end.aclose()
    await listener.aclose()


@pytest.mark.anyio
async def test_a_silent_client_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.transports.websocket.transport.HANDSHAKE_SECONDS", 0.05)
    transport = WebSocketTransport(client_tls=client_context(), server_tls=server_context())
    for address, wrapping in ((LOCAL, "ws"), (LOCAL_TLS, "tls")):
        listener = await transport.listen(address)
        below = await TcpTransport().dial(listener.address.decapsulate(wrapping))
        with pytest.raises(TransportError, match=r"0\.05 s"):
            await server_stream(transport, listener)
        await below.aclose()
        await listener.aclose()
    silent = await TcpTransport().listen(LOCAL.decapsulate("ws"))
    with pytest.raises(TransportError, match=r"0\.05 s"):
        await transport.dial(silent.address.encapsulate(Multiaddr.parse("/ws")))
    await silent.aclose()


@pytest.mark.anyio
async def test_a_certificate_that_is_not_trusted_ends_the_dial() -> None:
    listening = WebSocketTransport(server_tls=server_context())
    listener = await listening.listen(LOCAL_TLS)
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            with pytest.raises(TransportError, match="TLS"):
                await server_stream(listening, listener)

        tasks.start_soon(serve)
        with pytest.raises(TransportError, match="not trusted"):
            await WebSocketTransport().dial(listener.address)
    await listener.aclose()


@pytest.mark.anyio
async def test_a_certificate_of_another_name_ends_the_dial_and_its_own_name_is_taken() -> None:
    transport = WebSocketTransport(client_tls=client_context(), server_tls=server_context())
    listener = await transport.listen(LOCAL_TLS)
    tcp = str(listener.address.decapsulate("tls"))
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            with pytest.raises(TransportError):
                await server_stream(transport, listener)

        tasks.start_soon(serve)
        with pytest.raises(TransportError, match="not trusted"):
            await transport.dial(Multiaddr.parse(f"{tcp}/tls/sni/other.example/ws"))
    async with anyio.create_task_group() as tasks:

        async def accept() -> None:
            await (await server_stream(transport, listener)).aclose()

        tasks.start_soon(accept)
        await (await transport.dial(Multiaddr.parse(f"{tcp}/tls/sni/peer.example/ws"))).aclose()
    await listener.aclose()


@pytest.mark.anyio
async def test_a_plain_client_at_a_tls_port_is_refused() -> None:
    transport = WebSocketTransport(server_tls=server_context())
    listener = await transport.listen(LOCAL_TLS)
    below = await TcpTransport().dial(listener.address.decapsulate("tls"))
    await below.send_all(memoryview(REQUEST + b"\r\n"))
    with pytest.raises(TransportError, match="TLS handshake failed"):
        await server_stream(transport, listener)
    await below.aclose()
    await listener.aclose()


@pytest.mark.anyio
async def test_a_tls_connection_that_is_cut_off_is_broken_not_ended() -> None:
    transport = WebSocketTransport(client_tls=client_context(), server_tls=server_context())
    listener = await transport.listen(LOCAL_TLS)
    dialled, accepted = await connected_pair(transport, listener)
    await dialled._below._below.aclose()  # type: ignore[attr-defined]  # the TCP connection under TLS
    await accepted.wait_readable()
    with pytest.raises(anyio.BrokenResourceError):
        await accepted.receive_into(memoryview(bytearray(1)))
    await accepted.aclose()
    await dialled.aclose()
    await listener.aclose()


@pytest.mark.anyio
async def test_a_forged_record_breaks_the_connection() -> None:
    transport = WebSocketTransport(client_tls=client_context(), server_tls=server_context())
    listener = await transport.listen(LOCAL_TLS)
    dialled, accepted = await connected_pair(transport, listener)
    tls = dialled._below  # type: ignore[attr-defined]
    await tls._below.send_all(memoryview(b"\x17\x03\x03\x00\x20" + bytes(32)))
    await accepted.wait_readable()
    with pytest.raises(anyio.BrokenResourceError):
        await accepted.receive_into(memoryview(bytearray(1)))
    assert "TlsStream" in repr(tls)
    assert repr(dialled).startswith("<WebSocketStream")
    await tls.send_all(memoryview(b""))
    for end in (dialled, accepted, listener):
        await end.aclose()


@pytest.mark.anyio
async def test_a_peer_that_leaves_within_the_upgrade_is_reported() -> None:
    transport = WebSocketTransport(client_tls=client_context(), server_tls=server_context())
    for address, wrapping in ((LOCAL, "ws"), (LOCAL_TLS, "tls")):
        listening = await TcpTransport().listen(address.decapsulate(wrapping))
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                stream = await (await listening.accept()).open()  # noqa: B023 - the loop waits for it
                await stream.wait_readable()
                stream._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01" + bytes(7))
                await stream.aclose()

            tasks.start_soon(leave)
            with pytest.raises(TransportError, match="within the"):
                await transport.dial(
                    listening.address.encapsulate(Multiaddr.parse(f"/{'tls/' * (wrapping == 'tls')}ws"))
                )
        await listening.aclose()


@pytest.mark.anyio
async def test_closing_does_not_wait_for_a_writer_that_is_stuck() -> None:
    for listening, transport in (
        (LOCAL, WebSocketTransport()),
        (LOCAL_TLS, WebSocketTransport(client_tls=client_context(), server_tls=server_context())),
    ):
        listener = await transport.listen(listening)
        dialled, accepted = await connected_pair(transport, listener)
        async with anyio.create_task_group() as tasks:

            async def flood() -> None:
                with pytest.raises((anyio.ClosedResourceError, anyio.BrokenResourceError)):
                    while True:
                        await dialled.send_all(memoryview(bytes(1 << 20)))  # noqa: B023 - the loop waits for it

            tasks.start_soon(flood)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(3):
                await dialled.aclose()
        await accepted.aclose()
        await listener.aclose()


@pytest.mark.anyio
async def test_listening_where_it_is_not_possible_says_why() -> None:
    with pytest.raises(ListenError, match="certificate"):
        await WebSocketTransport().listen(LOCAL_TLS)
    with pytest.raises(ListenError, match="not a WebSocket"):
        await WebSocketTransport().listen(Multiaddr.parse("/memory/1"))
    with pytest.raises(TransportError, match="not a WebSocket"):
        await WebSocketTransport().dial(Multiaddr.parse("/memory/1"))


def test_A75_a_head_that_drips_costs_little() -> None:
    def work() -> None:
        server = Upgrade()
        with pytest.raises(RemoteProtocolError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"a" * (2 * HEAD_BYTES_MAX):
                server.receive_data(bytes([byte]))

    assert quickest(work) < 1.0
