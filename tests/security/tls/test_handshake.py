"""The TLS handshake as a pure machine."""

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stack.errors import NegotiationError, SecurityError
from stack.identity.keys import PrivateKey, generate
from stack.identity.peer_id import PeerId, PeerIdMismatch
from stack.security.tls.handshake import HANDSHAKE_BYTES_MAX, HandshakeFinished, TlsContext, TlsHandshake
from stack.security.tls.records import TlsSession
from stack.testing.pair import BytePair
from tests.security.tls import bad_certificates as table
from tests.security.tls.bad_certificates import BAD, CERTIFIED, GOOD, WALL, an_extension, certificate, flipped, libp2p
from tests.security.tls.forger import Forger, Show, message, record

YAMUX = "/yamux/1.0.0"
FIRST, SECOND = generate(), generate()


@cache
def context(identity: PrivateKey) -> TlsContext:
    return TlsContext(identity, ec.generate_private_key(ec.SECP256R1()))


def handshake(
    identity: PrivateKey, *, outbound: bool, muxers: tuple[str, ...] = (), expected: PeerId | None = None
) -> TlsHandshake:
    return TlsHandshake(context(identity), outbound=outbound, wall=WALL, muxers=muxers, expected=expected)


def pair(
    *,
    muxers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    expected: tuple[PeerId | None, PeerId | None] = (None, None),
    step: int | None = None,
    identities: tuple[PrivateKey, PrivateKey] = (FIRST, SECOND),
) -> BytePair[HandshakeFinished, HandshakeFinished]:
    return BytePair(
        handshake(identities[0], outbound=True, muxers=muxers[0], expected=expected[0]),
        handshake(identities[1], outbound=False, muxers=muxers[1], expected=expected[1]),
        cut=lambda data: [data] if step is None else [data[i : i + step] for i in range(0, len(data), step)],
    )


def meet(show: Show, *, outbound: bool) -> tuple[TlsHandshake, Forger]:
    """Ours and a forger, until nobody has anything to say. Raises what ours does, when its last words have gone."""
    ours = handshake(FIRST, outbound=outbound, muxers=(YAMUX,))
    forger = Forger(show, outbound=not outbound)
    while True:
        theirs, said = forger.data_to_send(), ours.data_to_send()
        if not theirs and not said:
            return ours, forger
        forger.receive_data(said)
        if theirs:
            try:
                ours.receive_data(theirs, 0.0)
            except Exception:
                assert ours.next_event() is None
                forger.receive_data(ours.data_to_send())
                raise


@pytest.mark.parametrize("step", [None, 1, 3, 333])
def test_both_ends_learn_who_the_other_is_however_the_bytes_are_cut(step: int | None) -> None:
    link = pair(step=step)
    link.run()
    (first,), (second,) = link.first_events, link.second_events
    assert (first.remote_peer, second.remote_peer) == (PeerId.of(SECOND.public), PeerId.of(FIRST.public))
    assert (first.remote_key, second.remote_key) == (SECOND.public, FIRST.public)
    assert first.muxer is None and second.muxer is None


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ecdsa", "rsa"])
def test_every_kind_of_identity_is_proved(kind: str) -> None:
    identity = table.host(kind)
    link = pair(identities=(identity, identity))
    link.run()
    assert link.first_events[0].remote_key == link.second_events[0].remote_key == identity.public


def opened(session: TlsSession, data: bytes) -> bytes:
    """All that is in these records."""
    rest, said = memoryview(bytearray(data)), b""
    while rest:
        record = session.open(rest)
        assert record is not None
        said += record[1]
        rest = rest[record[0] :]
    return said


def test_the_sessions_of_both_ends_fit() -> None:
    link = pair()
    link.run()
    first, second = link.first_events[0].session, link.second_events[0].session
    for sender, receiver, before in ((first, second, b""), (second, first, link.first.leftover)):
        frame = memoryview(bytearray(200))
        frame[5:10] = b"hello"
        assert opened(receiver, before + frame[: sender.seal(frame, 5)]) == b"hello"


def test_the_expected_peer_is_accepted_at_both_ends() -> None:
    link = pair(expected=(PeerId.of(SECOND.public), PeerId.of(FIRST.public)))
    link.run()
    assert link.first_events and link.second_events


def test_A18_another_peer_than_the_expected_is_refused_with_both_ids_before_we_show_our_own() -> None:
    link = pair(expected=(PeerId.of(FIRST.public), None))
    with pytest.raises(PeerIdMismatch) as caught:
        link.run()
    assert (caught.value.expected, caught.value.actual) == (PeerId.of(FIRST.public), PeerId.of(SECOND.public))
    assert len(link.first.data_to_send()) < 50  # an alert, and no certificate


def test_A18_the_listener_may_expect_a_peer_too() -> None:
    with pytest.raises(PeerIdMismatch):
        pair(expected=(None, PeerId.of(SECOND.public))).run()


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        ((YAMUX,), (YAMUX,), YAMUX),
        ((YAMUX, "/b"), ("/b", YAMUX), YAMUX),
        (("/b", YAMUX), (YAMUX, "/b"), "/b"),
        (("/c", YAMUX), (YAMUX, "/b"), YAMUX),
        ((YAMUX,), (), None),
        ((), (YAMUX,), None),
        ((YAMUX,), ("/mplex/6.7.0",), None),
    ],
)
def test_the_muxer_is_the_dialler_s_first_that_both_have_or_is_negotiated_afterwards(
    ours: tuple[str, ...], theirs: tuple[str, ...], agreed: str | None
) -> None:
    link = pair(muxers=(ours, theirs))
    link.run()
    assert link.first_events[0].muxer == link.second_events[0].muxer == agreed


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize(
    ("protocols", "muxer"), [((b"/yamux/1.0.0", b"libp2p"), YAMUX), ((b"libp2p",), None), ((), None)]
)
def test_what_a_forger_shows_is_accepted_when_all_of_it_is_good(
    outbound: bool, protocols: tuple[bytes, ...], muxer: str | None
) -> None:
    ours, forger = meet(Show(certificates=[GOOD], key=CERTIFIED, protocols=protocols), outbound=outbound)
    finished = ours.next_event()
    assert finished is not None
    assert (finished.remote_key, finished.muxer) == (table.host().public, muxer)
    assert opened(finished.session, forger.say(b"hello")) == b"hello"


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)])
def test_a_certificate_may_be_of_other_keys_than_ours(key: object, outbound: bool) -> None:
    show = Show(certificates=[certificate(key=key)], key=key)
    assert meet(show, outbound=outbound)[0].next_event() is not None


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize(
    "shown",
    [
        certificate(critical=True),
        certificate(subject="", issuer=""),
        certificate(serial=0),
        certificate(serial=255),
        certificate(extensions=[an_extension("1.2.3", b"anything"), libp2p(critical=True)]),
        certificate(extensions=[libp2p(), table.AUTHORITY, an_extension("2.5.29.15", table.der(3, b"\x07\x80"))]),
    ],
    ids=[
        "critical",
        "without names",
        "serial number 0",
        "serial number -1",
        "an unknown extension",
        "an authority, for signatures",
    ],
)
def test_what_a_certificate_may_have_besides_is_no_matter(shown: bytes, outbound: bool) -> None:
    assert meet(Show(certificates=[shown], key=CERTIFIED), outbound=outbound)[0].next_event() is not None


def test_the_table_has_at_least_60_rows() -> None:
    assert len(BAD) >= 60


@pytest.mark.parametrize("outbound", [True, False], ids=["we dial", "we are dialled"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_is_refused_at_either_end_and_the_peer_is_told(name: str, outbound: bool) -> None:
    show = BAD[name].show()
    with pytest.raises(SecurityError, match=BAD[name].says):
        meet(show, outbound=outbound)


@pytest.mark.parametrize("outbound", [True, False], ids=["we dial", "we are dialled"])
def test_who_is_refused_gets_an_alert(outbound: bool) -> None:
    for name in ("two libp2p extensions", "its own twice", "another's certificate"):
        ours = handshake(FIRST, outbound=outbound)
        forger = Forger(BAD[name].show(), outbound=not outbound)
        with pytest.raises(SecurityError):
            while True:
                forger.receive_data(ours.data_to_send())
                ours.receive_data(forger.data_to_send() or b"", 0.0)
        forger.receive_data(ours.data_to_send())
        assert forger.alert is not None, name


def test_what_is_wrong_with_our_certificate_is_told_by_the_first_record_behind_the_handshake() -> None:
    """A dialler is done before the listener has seen its certificate (tls.md, "Note for clients")."""
    link = pair(expected=(None, PeerId.of(SECOND.public)))
    with pytest.raises(PeerIdMismatch):
        link.run()
    (finished,) = link.first_events
    with pytest.raises(SecurityError, match="the peer ended the connection: unknown certificate authority"):
        opened(finished.session, link.second.data_to_send())


def test_a_dialler_that_offers_tls_1_2_is_refused() -> None:
    with pytest.raises(SecurityError, match="unsupported protocol"):
        meet(Show(certificates=[GOOD], key=CERTIFIED, version=0x0303), outbound=False)


def test_a_listener_that_answers_with_tls_1_2_is_refused() -> None:
    ours = handshake(FIRST, outbound=True)
    body = b"\3\3" + bytes(32) + b"\0" + b"\xc0\x2b\0"
    with pytest.raises(SecurityError, match="unsupported protocol"):
        ours.receive_data(record(22, message(2, body)), 0.0)


@pytest.mark.parametrize("protocols", [(b"h2",), (b"/mplex/6.7.0", b"http/1.1"), (b"\xff\xfe",)])
def test_a_dialler_that_offers_no_protocol_of_ours_is_refused(protocols: tuple[bytes, ...]) -> None:
    with pytest.raises(NegotiationError, match="no muxer in common"):
        meet(Show(certificates=[GOOD], key=CERTIFIED, protocols=protocols), outbound=False)


def test_a_listener_that_chooses_a_protocol_we_did_not_offer_is_refused() -> None:
    with pytest.raises(SecurityError, match="bad extension"):
        meet(Show(certificates=[GOOD], key=CERTIFIED, protocols=[b"h2"]), outbound=True)


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x13/multistream/1.0.0\n" + bytes(300),
        b"\0" * 100,
        b"\xff" * 100,
        record(23, bytes(100)),
        record(21, b"\x02\x28"),
        record(22, b"\xff" * 100),
    ],
)
def test_garbage_is_refused(garbage: bytes, outbound: bool) -> None:
    machine = handshake(FIRST, outbound=outbound)
    with pytest.raises(SecurityError):
        machine.receive_data(garbage + b"\0" * 40_000, 0.0)
    assert machine.next_event() is None
    with pytest.raises(SecurityError, match="failed before"):
        machine.receive_data(b"\0", 0.0)


def test_a_hello_in_many_records_ends_at_32_KiB() -> None:
    machine = handshake(FIRST, outbound=False)
    hello = message(1, bytes(1 << 17))
    with pytest.raises(SecurityError, match=f"more than {HANDSHAKE_BYTES_MAX} bytes|excessive"):
        for start in range(0, len(hello), 1000):
            machine.receive_data(record(22, hello[start : start + 1000]), 0.0)


@pytest.mark.parametrize("outbound", [True, False])
def test_a_peer_that_closes_in_the_middle_is_reported(outbound: bool) -> None:
    with pytest.raises(SecurityError, match="closed during"):
        handshake(FIRST, outbound=outbound).receive_data(b"", 0.0)


def test_every_flipped_byte_of_every_message_is_refused() -> None:
    """But for what RFC 8446 says to ignore: versions of records, and the records that old routers want to see."""
    link = pair()
    link.run()
    for at in range(0, len(link.second_sent) - 160, 41):
        machine = handshake(FIRST, outbound=True)
        with pytest.raises(SecurityError):
            machine.receive_data(flipped(link.second_sent, at), 0.0)
            machine.receive_data(b"", 0.0)


def test_bytes_behind_the_handshake_are_handed_on() -> None:
    ours = handshake(FIRST, outbound=True)
    forger = Forger(Show(certificates=[GOOD], key=CERTIFIED, protocols=()), outbound=False)
    forger.receive_data(ours.data_to_send())
    behind = forger.data_to_send() + forger.say(b"hello") + b"\x17\x03"
    ours.receive_data(behind, 0.0)
    finished = ours.next_event()
    assert finished is not None and ours.next_event() is None
    ours.receive_data(b"\x03", 0.0)
    assert ours.leftover[-3:] == b"\x17\x03\x03"
    assert opened(finished.session, ours.leftover[:-3]) == b"hello"


def test_nothing_that_belongs_to_a_handshake_outlives_it() -> None:
    link = pair()
    link.run()
    for machine in (link.first, link.second):
        assert isinstance(machine, TlsHandshake)
        machine.close()
        assert machine._secrets == {} and machine._tls.get_app_data() is None


def test_a_handshake_has_no_deadline_of_its_own_and_shows_no_key() -> None:
    machine = handshake(FIRST, outbound=True)
    assert machine.next_timeout() is None
    machine.handle_timeout(0.0)
    assert repr(machine) == "<TlsHandshake outbound, going on>"
    link = pair()
    link.run()
    assert repr(link.second) == "<TlsHandshake inbound, over>"
