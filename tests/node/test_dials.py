"""What is known of the last dial of a peer."""

from stack.multiformats.multiaddr import Multiaddr
from stack.net.events import DialAttempted, DialOutcome
from stack.node.dials import Dials
from tests.bitswap.simulation import peer_named

BOB = peer_named("bob")


def attempt(address: str, reason: str = "") -> DialAttempted:
    outcome = DialOutcome.TRANSPORT if reason else DialOutcome.CONNECTED
    return DialAttempted(peer=BOB, address=Multiaddr.parse(address), outcome=outcome, seconds=0.0, reason=reason)


def test_what_another_computer_calls_itself_says_nothing_of_it() -> None:
    dials = Dials()
    dials(attempt("/ip4/127.0.0.1/tcp/7", "connection refused"))
    last = dials.last(BOB)
    assert last is not None and (last.address, last.failure) == ("127.0.0.1:7", "connection refused")
    dials(attempt("/ip4/10.77.0.1/tcp/7"))
    dials(attempt("/ip4/127.0.0.1/tcp/7", "connection refused"))
    last = dials.last(BOB)
    assert last is not None and (last.address, last.failure) == ("10.77.0.1:7", "")
    dials(attempt("/ip4/10.77.0.1/tcp/7", "no route to host"))
    last = dials.last(BOB)
    assert last is not None and last.failure == "no route to host"
