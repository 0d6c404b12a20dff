"""TCP: addresses, refused dials, and accept loops that survive."""

import errno
import socket

import anyio
import pytest

from stack.errors import TransportError
from stack.multiformats.multiaddr import Multiaddr
from stack.streams import accepting
from stack.transports import TRANSPORTS, tcp
from stack.transports.interfaces import ListenError
from stack.transports.tcp import TcpTransport, multiaddr_of, reason_of, socket_address

LOCAL = Multiaddr.parse("/ip4/127.0.0.1/tcp/0")
LOCAL_6 = Multiaddr.parse("/ip6/::1/tcp/0")


@pytest.mark.anyio
async def test_nobody_listening_is_reported_as_refused() -> None:
    listener = await TcpTransport().listen(LOCAL)
    await listener.aclose()
    with pytest.raises(TransportError, match="refused"):
        await TcpTransport().dial(listener.address)


@pytest.mark.anyio
async def test_a_port_serves_both_families_side_by_side() -> None:
    transport = TcpTransport()
    while True:
        six = await transport.listen(Multiaddr.parse("/ip6/::/tcp/0"))
        port = six.address.get("tcp")
        try:
            four = await transport.listen(Multiaddr.parse(f"/ip4/0.0.0.0/tcp/{port}"))
            break
        except ListenError:  # what is free for one family may be taken by somebody else for the other
            await six.aclose()
    dialled = await transport.dial(Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}"))
    incoming = await four.accept()
    assert incoming.remote_address == dialled.local_address
    await incoming.aclose()
    for closing in (dialled, six, four):
        await closing.aclose()


@pytest.mark.anyio
async def test_a_dial_without_an_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "DIAL_SECONDS", 0.05)
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = multiaddr_of(socket.AF_INET, full.getsockname())
    waiting = []
    with pytest.raises(TransportError, match="no answer"):
        for _ in range(8):  # once the queue is full, the kernel drops what asks
            waiting.append(await TcpTransport().dial(address))
    for stream in waiting:
        await stream.aclose()
    full.close()


@pytest.mark.anyio
async def test_a_cancelled_dial_closes_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    real = socket.socket

    def record(*arguments: int) -> socket.socket:
        made.append(real(*arguments))
        return made[-1]

    listener = await TcpTransport().listen(LOCAL)
    monkeypatch.setattr(socket, "socket", record)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await TcpTransport().dial(listener.address)
    assert made[0].fileno() == -1
    monkeypatch.undo()
    await listener.aclose()


@pytest.mark.anyio
async def test_a_dial_that_the_system_refuses_at_once_is_a_transport_error() -> None:
    for text in ("/ip4/255.255.255.255/tcp/1", "/ip4/127.0.0.1/tcp/0"):
        with pytest.raises(TransportError):
            await TcpTransport().dial(Multiaddr.parse(text))


@pytest.mark.anyio
async def test_a_dial_without_a_descriptor_left_is_a_transport_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch, pytest.raises(TransportError, match=r"(?i)too many open files"):
        patch.setattr(tcp.socket, "socket", refuse)
        await TcpTransport().dial(Multiaddr.parse("/ip4/127.0.0.1/tcp/1"))


@pytest.mark.anyio
async def test_addresses_that_this_machine_does_not_have_are_refused_with_the_reason() -> None:
    with pytest.raises(ListenError, match="does not have that address"):
        await TcpTransport().listen(Multiaddr.parse("/ip4/203.0.113.7/tcp/0"))
    with pytest.raises(ListenError, match="no interface"):
        await TcpTransport().listen(Multiaddr.parse("/ip6zone/nowhere0/ip6/fe80::1/tcp/0"))


class Failing:
    """A listening socket whose accept fails in every way before it works."""

    def __init__(self, real: socket.socket, errors: list[OSError]) -> None:
        self._real = real
        self._errors = errors

    def accept(self) -> tuple[socket.socket, object]:
        if self._errors:
            raise self._errors.pop(0)
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def close(self) -> None:
        self._real.close()


@pytest.mark.anyio
async def test_A11_accept_survives_every_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0)
    listener = await TcpTransport().listen(LOCAL)
    numbers = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EPROTO, errno.EPERM]
    errors = [OSError(number, "injected") for number in numbers] + [BlockingIOError()]
    listener._listening = Failing(listener._listening, errors)  # type: ignore[assignment]
    dialled = await TcpTransport().dial(listener.address)
    incoming = await listener.accept()
    assert incoming.remote_address == dialled.local_address
    assert not errors
    await incoming.aclose()
    await dialled.aclose()
    await listener.aclose()


@pytest.mark.anyio
async def test_A11_a_peer_that_resets_before_it_is_opened_is_a_transport_error() -> None:
    listener = await TcpTransport().listen(LOCAL)
    client = socket.create_connection(("127.0.0.1", int(listener.address.get("tcp") or 0)))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    incoming = await listener.accept()
    client.close()
    with pytest.raises((TransportError, anyio.BrokenResourceError)):
        stream = await incoming.open()
        await stream.receive_into(memoryview(bytearray(1)))
    with pytest.raises(TransportError):
        await incoming.open()
    await listener.aclose()


def test_addresses_and_sockets_name_the_same_thing() -> None:
    index, name = socket.if_nameindex()[0]
    assert socket_address(Multiaddr.parse("/ip4/1.2.3.4/tcp/5")) == (socket.AF_INET, ("1.2.3.4", 5))
    assert socket_address(Multiaddr.parse("/ip6/::1/tcp/5")) == (socket.AF_INET6, ("::1", 5, 0, 0))
    zoned = Multiaddr.parse(f"/ip6zone/{name}/ip6/fe80::1/tcp/5")
    assert socket_address(zoned) == (socket.AF_INET6, ("fe80::1", 5, 0, index))
    assert socket_address(Multiaddr.parse("/ip6zone/7/ip6/fe80::1/tcp/5"))[1][3:] == (7,)
    assert multiaddr_of(socket.AF_INET6, (f"fe80::1%{name}", 5, 0, index)) == zoned


def test_reasons_are_sentences_for_users() -> None:
    assert "in use" in reason_of(OSError(errno.EADDRINUSE, "x"))
    assert "privilege" in reason_of(OSError(errno.EACCES, "x"))
    assert "kind of address" in reason_of(OSError(errno.EAFNOSUPPORT, "x"))
    assert reason_of(OSError(errno.EPIPE, "Broken Pipe")) == "broken pipe"
    assert reason_of(ValueError("odd")) == "odd"


def test_the_table_names_what_exists() -> None:
    assert list(TRANSPORTS) == ["memory", "tcp", "ws", "quic"]


@pytest.mark.anyio
async def test_a_dial_may_leave_from_the_port_that_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = TcpTransport(), await TcpTransport().listen(LOCAL)
    with pytest.raises(TransportError, match="no port"):
        await ours.dial_from_port(theirs.address)
    listener = await ours.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/0"))
    port = listener.address.get("tcp")
    first = await ours.dial_from_port(theirs.address)
    arrived = await theirs.accept()
    assert arrived.remote_address.get("tcp") == port
    await arrived.aclose()
    # There is such a connection already: the next one leaves from any port.
    second = await ours.dial_from_port(theirs.address)
    assert second.local_address.get("tcp") != port
    # Nobody else may listen there for all that.
    with pytest.raises(ListenError, match="in use"):
        await TcpTransport().listen(Multiaddr.parse(f"/ip4/0.0.0.0/tcp/{port}"))
    usual = await ours.dial(theirs.address)
    assert usual.local_address.get("tcp") != port
    for end in (first, second, usual):
        await end.aclose()
    await theirs.aclose()
    with pytest.raises(TransportError, match="refused"):
        await ours.dial_from_port(theirs.address)
    monkeypatch.setattr(tcp, "PORTS_SHARED", False)
    with pytest.raises(TransportError, match="no port"):
        await ours.dial_from_port(theirs.address)
    await listener.aclose()


@pytest.mark.anyio
async def test_a_port_that_cannot_be_bound_again_is_not_dialled_from(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = TcpTransport(), await TcpTransport().listen(LOCAL)
    listener = await ours.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/0"))
    monkeypatch.setattr(tcp, "_share_port", lambda connection: None)  # so that binding it is refused
    stream = await ours.dial_from_port(theirs.address)
    assert stream.local_address.get("tcp") != listener.address.get("tcp")
    for end in (stream, theirs, listener):
        await end.aclose()
