"""Where others can dial us, put together from all who know something of it."""

from stack.identity.peer_record import open_peer_record
from stack.multiformats.multiaddr import Multiaddr
from stack.net.observed import IP_WITNESSES_MIN, WITNESSES_MIN
from stack.net.our_addresses import ADDRESSES_MAX, SOURCE_MAX, AddressSource, OurAddresses
from tests.net.identities import key

RELAY = "/ip4/9.9.9.8/tcp/4001/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/p2p-circuit"


def address(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


class Place:
    """Addresses of a computer that the test moves about."""

    def __init__(self, *interfaces: str, external: str = "") -> None:
        self.interfaces = list(interfaces)
        self.changes = 0
        given = [address(external)] if external else []
        self.listening = [address("/ip4/0.0.0.0/tcp/4001")]
        self.ours = OurAddresses(key(0), lambda: self.listening, lambda: list(self.interfaces), given, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def told(self) -> list[str]:
        return [str(each) for each in self.ours.all()]

    def seen_at(self, text: str, witnesses: int, *, dialled_us: bool = True) -> None:
        for number in range(witnesses):
            self.ours.observe(address(f"/ip4/8.8.{number}.1/tcp/9"), address(text), dialled_us=dialled_us)


def test_every_source_has_its_place_and_what_is_near_comes_last() -> None:
    place = Place("127.0.0.1", "192.168.1.5", "9.1.1.1", external="/dns/cloud.example/tcp/7")
    place.ours.tell(AddressSource.RELAYED, [address(RELAY)])
    place.ours.tell(AddressSource.OBSERVED, [address("/ip4/9.9.9.9/tcp/3")])
    place.ours.tell(AddressSource.MAPPED, [address("/ip4/9.9.9.9/tcp/2")])
    place.seen_at("/ip4/9.9.9.9/tcp/4", WITNESSES_MIN)
    assert place.told() == [
        "/dns/cloud.example/tcp/7",
        "/ip4/9.1.1.1/tcp/4001",
        "/ip4/9.9.9.9/tcp/2",
        "/ip4/9.9.9.9/tcp/3",
        "/ip4/9.9.9.9/tcp/4",
        RELAY,
        "/ip4/192.168.1.5/tcp/4001",
        "/ip4/127.0.0.1/tcp/4001",
    ]


def test_a_source_replaces_what_it_knew_and_a_change_is_told_once() -> None:
    place = Place("192.168.1.5")
    for _ in range(2):
        place.ours.tell(AddressSource.MAPPED, [address("/ip4/9.9.9.9/tcp/2")])
    assert place.changes == 1
    place.ours.tell(AddressSource.MAPPED, ())
    assert place.changes == 2 and place.told() == ["/ip4/192.168.1.5/tcp/4001"]


def test_no_source_can_push_out_the_others() -> None:
    place = Place(*(f"10.0.0.{number}" for number in range(40)))
    for source in (AddressSource.MAPPED, AddressSource.OBSERVED, AddressSource.RELAYED):
        place.ours.tell(source, [address(f"/ip4/9.9.9.9/tcp/{number + 1}") for number in range(100)])
        assert len(place.ours.of(source)) == SOURCE_MAX
    assert len(place.told()) == ADDRESSES_MAX


def test_in_another_network_what_was_seen_of_the_old_one_is_forgotten() -> None:
    place = Place("192.168.1.5")
    moves: list[str] = []
    place.ours.on_move(lambda: moves.append(place.told()[0]))
    place.seen_at("/ip4/9.9.9.9/tcp/4", WITNESSES_MIN)
    place.ours.tell(AddressSource.OBSERVED, [address("/ip4/9.9.9.9/tcp/3")])
    assert not place.ours.look()
    place.interfaces = ["10.0.0.7"]
    assert place.ours.look()
    assert moves == ["/ip4/10.0.0.7/tcp/4001"]
    assert place.ours.has_lost(address("/ip4/192.168.1.5/tcp/7"))
    assert not place.ours.has_lost(address("/ip4/10.0.0.7/tcp/7")) and not place.ours.has_lost(address("/memory/1"))
    assert place.told() == ["/ip4/10.0.0.7/tcp/4001"] and not place.ours.ips()


def test_a_record_follows_the_addresses() -> None:
    place = Place("192.168.1.5")
    first = open_peer_record(place.ours.signed_record(5.0))
    place.ours.tell(AddressSource.MAPPED, [address("/ip4/9.9.9.9/tcp/2")])
    second = open_peer_record(place.ours.signed_record(5.0))
    assert second.sequence > first.sequence and list(second.addresses) == place.ours.all()


def test_whom_we_dialled_tells_our_ip_and_no_port() -> None:
    """The port of a connection that goes out leads nobody in."""
    place = Place("192.168.1.5")
    place.seen_at("/ip4/9.9.9.9/tcp/50123", IP_WITNESSES_MIN - 1, dialled_us=False)
    assert place.ours.ips() == []
    place.seen_at("/ip4/9.9.9.9/tcp/50124", WITNESSES_MIN, dialled_us=False)
    assert list(map(str, place.ours.ips())) == ["9.9.9.9"]
    assert place.told() == ["/ip4/192.168.1.5/tcp/4001"]


def test_what_is_seen_over_a_relay_is_not_where_we_are() -> None:
    place = Place("192.168.1.5")
    place.seen_at(RELAY, WITNESSES_MIN)
    for number in range(WITNESSES_MIN):
        over = address(RELAY.replace("9.9.9.8", f"9.9.{number}.8"))
        place.ours.observe(over, address("/ip4/9.9.9.9/tcp/4"), dialled_us=True)
    assert place.told() == ["/ip4/192.168.1.5/tcp/4001"] and not place.ours.ips()


def test_a_place_at_a_relay_that_is_listened_on_is_one_of_the_relayed() -> None:
    place = Place("192.168.1.5")
    place.listening.append(address(RELAY))
    place.ours.tell(AddressSource.MAPPED, [address("/ip4/9.9.9.9/tcp/2")])
    assert place.told() == ["/ip4/9.9.9.9/tcp/2", RELAY, "/ip4/192.168.1.5/tcp/4001"]
    assert place.ours.bound() == place.listening[:1]
