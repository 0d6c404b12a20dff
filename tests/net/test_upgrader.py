"""From a raw stream to a connection, or to nothing."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from stack.errors import NegotiationError, RemoteProtocolError, SecurityError, TransportError
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.multiformats.multiaddr import Multiaddr
from stack.muxers.yamux.shell import YamuxMuxer
from stack.net import upgrader as module
from stack.net.upgrader import Upgrader
from stack.sansio.budget import Scope
from stack.security import SECURITY
from stack.security.noise.shell import NoiseSecurity
from stack.streams.interfaces import MuxedConnection, RawStream, SecureChannel
from stack.streams.memory import memory_stream_pair
from tests.net.identities import key, peer

pytestmark = pytest.mark.anyio
A, B = Multiaddr.parse("/memory/1"), Multiaddr.parse("/memory/2")


class WithoutEarlyMuxer(NoiseSecurity):
    """As peers did before the muxer was agreed in the handshake."""

    async def upgrade(
        self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
    ) -> SecureChannel:
        channel = await super().upgrade(stream, outbound=outbound, expected=expected, muxers=muxers)
        return replace(channel, muxer=None)


async def both(
    dialling: Upgrader, listening: Upgrader, expected: PeerId | None = None
) -> tuple[MuxedConnection | Exception, MuxedConnection | Exception]:
    """What each end gets."""
    ends = memory_stream_pair(A, B)
    results: dict[bool, MuxedConnection | Exception] = {}

    async def run(upgrader: Upgrader, outbound: bool) -> None:
        stream = ends[0 if outbound else 1]
        try:
            channel = await upgrader.secure(stream, outbound=outbound, expected=expected if outbound else None)
            results[outbound] = await upgrader.multiplex(channel, outbound=outbound, scope=Scope("test", {}))
        except Exception as error:  # noqa: BLE001 - the test looks at what it is
            results[outbound] = error
            with pytest.raises(anyio.ClosedResourceError):
                await stream.wait_readable()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, dialling, True)
        tasks.start_soon(run, listening, False)
    return results[True], results[False]


async def check_streams(dialled: object, accepted: object) -> None:
    """A stream works between the two."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dialled.run)  # type: ignore[attr-defined]
        tasks.start_soon(accepted.run)  # type: ignore[attr-defined]
        stream = await dialled.open_stream()  # type: ignore[attr-defined]
        await stream.send(b"hello")
        assert await (await accepted.accept_stream()).receive() == b"hello"  # type: ignore[attr-defined]
        await dialled.aclose()  # type: ignore[attr-defined]
        await accepted.aclose()  # type: ignore[attr-defined]


async def test_the_rows_of_the_tables_agree_with_each_other() -> None:
    dialled, accepted = await both(Upgrader.of(key(1)), Upgrader.of(key(2)), peer(2))
    assert isinstance(dialled, object)
    assert dialled.remote_peer == peer(2)  # type: ignore[union-attr]
    assert accepted.remote_peer == peer(1)  # type: ignore[union-attr]
    await check_streams(dialled, accepted)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (("/noise", "/tls/1.0.0"), ("/tls/1.0.0", "/noise"), "NoiseSession"),
        (("/tls/1.0.0", "/noise"), ("/noise", "/tls/1.0.0"), "TlsSession"),
        (("/noise", "/tls/1.0.0"), ("/tls/1.0.0",), "TlsSession"),
        (("/tls/1.0.0",), ("/noise", "/tls/1.0.0"), "TlsSession"),
    ],
)
async def test_who_dials_chooses_among_what_both_speak(
    ours: tuple[str, ...], theirs: tuple[str, ...], agreed: str
) -> None:
    first, second = (
        Upgrader.of(key(number), None, {name: SECURITY[name] for name in names})
        for number, names in ((1, ours), (2, theirs))
    )
    dialled, accepted = await both(first, second)
    assert type(dialled._channel.session).__name__ == type(accepted._channel.session).__name__ == agreed  # type: ignore[union-attr]
    await check_streams(dialled, accepted)


async def test_another_identity_of_a_node_is_secured_as_the_node_is() -> None:
    only_tls = Upgrader.of(key(1), None, {"/tls/1.0.0": SECURITY["/tls/1.0.0"]})
    assert list(only_tls.for_key(key(2))._security) == ["/tls/1.0.0"]
    assert list(Upgrader({}, {}).for_key(key(2))._security) == list(SECURITY)


async def test_a_muxer_that_was_not_agreed_early_is_agreed_on_the_secured_channel() -> None:
    upgraders = [Upgrader({"/noise": WithoutEarlyMuxer(key(n))}, {"/yamux/1.0.0": YamuxMuxer()}) for n in (1, 2)]
    await check_streams(*await both(*upgraders))


async def test_ends_without_a_common_protocol_both_fail() -> None:
    plain = Upgrader({"/other": NoiseSecurity(key(1))}, {"/yamux/1.0.0": YamuxMuxer()})
    dialled, accepted = await both(plain, Upgrader.of(key(2)))
    assert isinstance(dialled, NegotiationError)
    assert isinstance(accepted, (NegotiationError, TransportError, SecurityError))
    muxers = Upgrader({"/noise": WithoutEarlyMuxer(key(1))}, {"/other": YamuxMuxer()})
    ours = Upgrader({"/noise": WithoutEarlyMuxer(key(2))}, {"/yamux/1.0.0": YamuxMuxer()})
    dialled, accepted = await both(muxers, ours)
    assert isinstance(dialled, (NegotiationError, TransportError))
    assert isinstance(accepted, (NegotiationError, TransportError, SecurityError))


async def test_A18_another_identity_than_the_dialled_one_is_refused() -> None:
    dialled, accepted = await both(Upgrader.of(key(1)), Upgrader.of(key(2)), peer(3))
    assert isinstance(dialled, PeerIdMismatch)
    assert (dialled.expected, dialled.actual) == (peer(3), peer(2))
    assert isinstance(accepted, Exception)


async def test_a_silent_peer_is_given_up_in_either_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PHASE_SECONDS", 0.02)
    ours, theirs = memory_stream_pair(A, B)
    with pytest.raises(TransportError, match=r"no security handshake within 0\.02 s"):
        await Upgrader.of(key(1)).secure(ours, outbound=True, expected=None)
    await theirs.aclose()


async def test_a_peer_that_leaves_is_a_transport_error() -> None:
    ours, theirs = memory_stream_pair(A, B)
    await theirs.aclose()
    with pytest.raises(TransportError, match="ended within the security handshake"):
        await Upgrader.of(key(1)).secure(ours, outbound=True, expected=None)


async def test_a_peer_that_leaves_before_it_says_anything_is_an_error_of_negotiation() -> None:
    ours, theirs = memory_stream_pair(A, B)
    await theirs.aclose()
    with pytest.raises(NegotiationError, match="closed during the negotiation"):
        await Upgrader.of(key(1)).secure(ours, outbound=False, expected=None)


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x80" * 20, b"\x00" * 20, b"\x01\n" * 100, bytes(2000)],
)
async def test_garbage_is_refused(garbage: bytes) -> None:
    ours, theirs = memory_stream_pair(A, B)
    await theirs.send_all(memoryview(garbage))
    await theirs.aclose()
    with pytest.raises((NegotiationError, TransportError, SecurityError)):
        await Upgrader.of(key(1)).secure(ours, outbound=False, expected=None)
    with pytest.raises(anyio.ClosedResourceError):
        await ours.wait_readable()


async def test_a_cancelled_upgrade_closes_the_stream() -> None:
    ours, theirs = memory_stream_pair(A, B)
    with anyio.move_on_after(0.01):
        await Upgrader.of(key(1)).secure(ours, outbound=False, expected=None)
    with pytest.raises(anyio.ClosedResourceError):
        await ours.wait_readable()
    await theirs.aclose()


async def test_a_protocol_error_of_a_plug_in_is_a_failed_negotiation() -> None:
    class Odd(NoiseSecurity):
        async def upgrade(
            self, stream: RawStream, *, outbound: bool, expected: PeerId | None, muxers: Sequence[str]
        ) -> SecureChannel:
            raise RemoteProtocolError("odd")

    odd = Upgrader({"/noise": Odd(key(1))}, {})
    dialled, _ = await both(odd, odd)
    assert isinstance(dialled, NegotiationError)
    assert "odd" in str(dialled)
