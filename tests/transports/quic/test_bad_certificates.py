"""What no peer may show, over QUIC: every row of the table for TLS is refused at both ends, before there is a stream."""

import re

import pytest

from stack.errors import RemoteProtocolError, SecurityError
from stack.muxers.yamux.events import StreamOpened
from stack.sansio.budget import Scope
from stack.transports.quic.machine import ConnectionEnded, HandshakeFinished, QuicMachine
from tests.security.tls.bad_certificates import BAD, CERTIFIED, GOOD, OPENSSL, WALL
from tests.security.tls.forger import Show
from tests.transports.quic.ends import CREDENTIALS, LIMITS, SERVER, Pair
from tests.transports.quic.forging import forger


def play(show: Show, *, forger_dials: bool) -> Pair:
    """A forger meets one of ours; as soon as its own handshake is over it opens a stream, as if all were well."""
    if forger_dials:
        client = forger(show, outbound=True)
        ours = QuicMachine.accept(CREDENTIALS[1], original_id=client.remote_id, retry_id=None, wall=WALL, now=0.0)
        ends, bad = Pair(client, ours), client
    else:
        ours = QuicMachine.dial(CREDENTIALS[1], SERVER, expected=None, wall=WALL, now=0.0)
        bad = forger(show, outbound=False, original_id=ours.remote_id)
        ends = Pair(ours, bad)
    for _ in range(10):
        ends.run(0.03)
        if not bad.adopted and any(isinstance(event, HandshakeFinished) for event in ends.events[not forger_dials]):
            bad.adopt(Scope("forger", LIMITS), ends.now)
            bad.streams.send(bad.streams.open(), b"as if all were well")
        if not ours.adopted and any(isinstance(event, HandshakeFinished) for event in ends.events[forger_dials]):
            ours.adopt(Scope("ours", LIMITS), ends.now)
    return ends


@pytest.mark.parametrize("forger_dials", [True, False], ids=["dialler", "listener"])
def test_a_good_certificate_is_taken(forger_dials: bool) -> None:
    ends = play(Show(certificates=[GOOD], key=CERTIFIED), forger_dials=forger_dials)
    assert ends.told(int(forger_dials), StreamOpened)


@pytest.mark.parametrize("forger_dials", [True, False], ids=["dialler", "listener"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_opens_no_stream(name: str, forger_dials: bool) -> None:
    ends = play(BAD[name].show(), forger_dials=forger_dials)
    ours = int(forger_dials)
    assert not ends.told(ours, StreamOpened)
    assert not ends.told(ours, HandshakeFinished)
    [ended] = ends.told(ours, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert isinstance(ended.reason, (SecurityError, RemoteProtocolError))
    # What OpenSSL says in its own words is found by our own check here, which comes first.
    assert OPENSSL in BAD[name].says or re.search(BAD[name].says, str(ended.reason)), ended.reason
