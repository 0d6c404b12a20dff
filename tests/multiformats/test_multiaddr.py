import ipaddress
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import DecodeError
from stack.multiformats import varint
from stack.multiformats.multiaddr import BYTES_MAX, TEXT_MAX, Multiaddr
from stack.multiformats.multiaddr_protocols import BY_NAME, PROTOCOLS
from stack.multiformats.peer_text import check_peer_multihash, decode_peer_text
from tests.flooding import quickest

PEER = "12D3KooWLS5s8EtEo9ugm5vwqtxzQQBTcQGRKcLBzGjyhx83tyzD"
OTHER = "QmZ662gHb8vRgqMQCE4ZdjWaqXJb1PSSF1C1FgQL45MXeC"
TCP = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")

ports = st.integers(0, 65535)
labels = st.text(alphabet="abcXYZ0189-_", min_size=1, max_size=63)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
parts = st.one_of(
    st.builds("/ip4/{}".format, st.ip_addresses(v=4)),
    st.builds("/ip6/{}".format, st.ip_addresses(v=6)),
    st.builds("/tcp/{}".format, ports),
    st.builds("/udp/{}".format, ports),
    st.builds("/dns/{}".format, names),
    st.builds("/memory/{}".format, st.integers(0, 2**64 - 1)),
    st.sampled_from(["/ws", "/tls", "/quic-v1", "/p2p-circuit", f"/p2p/{PEER}", f"/p2p/{OTHER}"]),
)


@given(st.lists(parts, min_size=1, max_size=8))
def test_an_address_comes_back_from_bytes_and_text(pieces: list[str]) -> None:
    address = Multiaddr.parse("".join(pieces))
    assert Multiaddr.decode(bytes(address)) == address
    assert Multiaddr.parse(str(address)) == address
    assert str(Multiaddr.decode(bytes(address))) == str(address)
    assert list(Multiaddr.decode(memoryview(bytes(address)))) == list(address)
    assert pickle.loads(pickle.dumps(address)) == address


@given(st.binary(max_size=60))
def test_any_bytes_are_an_address_or_a_decode_error(data: bytes) -> None:
    try:
        address = Multiaddr.decode(data)
    except DecodeError:
        return
    assert bytes(Multiaddr.parse(str(address))) == bytes(address)


@given(st.sampled_from(PROTOCOLS), st.text(max_size=30))
def test_any_value_is_read_or_a_decode_error(protocol: object, value: str) -> None:
    try:
        address = Multiaddr.parse(f"/{protocol.name}/{value}")  # type: ignore[attr-defined]
    except DecodeError:
        return
    assert Multiaddr.decode(bytes(address)) == address


@given(st.ip_addresses(v=6))
def test_ip6_is_written_as_the_standard_library_compresses_it(address: ipaddress.IPv6Address) -> None:
    value = Multiaddr.parse(f"/ip6/{address.exploded}").get("ip6")
    assert value is not None
    assert ipaddress.IPv6Address(value) == address


def test_parts_can_be_asked_for() -> None:
    address = Multiaddr.parse(f"/dns/a.example/tcp/443/tls/ws/p2p/{OTHER}/p2p-circuit/p2p/{PEER}")
    assert address.protocols == ("dns", "tcp", "tls", "ws", "p2p", "p2p-circuit", "p2p")
    assert address.get("tcp") == "443"
    assert address.get("ws") == ""
    assert address.get("p2p") == OTHER
    assert address.get("udp") is None
    assert dict(TCP) == {"ip4": "127.0.0.1", "tcp": "4001"}
    assert len(address) == 7
    assert repr(TCP) == "<Multiaddr /ip4/127.0.0.1/tcp/4001>"


def test_addresses_are_joined_and_taken_apart() -> None:
    relay = TCP.with_peer(OTHER)
    circuit = relay.encapsulate(Multiaddr.parse("/p2p-circuit")).with_peer(PEER)
    assert str(circuit) == f"/ip4/127.0.0.1/tcp/4001/p2p/{OTHER}/p2p-circuit/p2p/{PEER}"
    assert circuit.split_peer() == (relay.encapsulate(Multiaddr.parse("/p2p-circuit")), PEER)
    assert circuit.decapsulate("p2p-circuit") == relay
    assert circuit.decapsulate("p2p").decapsulate("p2p") == relay.encapsulate(
        Multiaddr.parse("/p2p-circuit")
    ).decapsulate("p2p")
    assert circuit.decapsulate("quic") == circuit
    assert TCP.split_peer() == (TCP, None)
    assert circuit.with_peer(OTHER).split_peer()[1] == OTHER


def test_a_peer_id_alone_leaves_an_address_of_nothing() -> None:
    rest, peer = Multiaddr.parse(f"/p2p/{PEER}").split_peer()
    assert peer == PEER
    assert not rest
    assert (str(rest), bytes(rest), rest.protocols) == ("", b"", ())
    assert rest.split_peer() == (rest, None)
    assert str(rest.with_peer(PEER)) == f"/p2p/{PEER}"


@pytest.mark.parametrize("peer", [f"{PEER}/tcp/1", "", "xyz"])
def test_only_a_peer_id_is_appended_as_one(peer: str) -> None:
    with pytest.raises(DecodeError):
        TCP.with_peer(peer)


def test_addresses_are_ordered_by_their_bytes_and_hash_by_them() -> None:
    other = Multiaddr.parse("/ip4/127.0.0.1/tcp/4002")
    assert other > TCP
    assert len({TCP, Multiaddr.decode(bytes(TCP)), other}) == 2
    assert str(TCP) != TCP


def test_an_address_cannot_be_changed_or_made_by_hand() -> None:
    with pytest.raises(AttributeError):
        TCP.protocols = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        Multiaddr()


def test_a_socket_path_keeps_its_percent_signs() -> None:
    assert str(Multiaddr.parse("/unix/tmp%2Fa.sock")) == "/unix/tmp%2Fa.sock"
    with pytest.raises(DecodeError, match="ends without"):
        Multiaddr.decode(b"\x90\x03\x03/a/")


@pytest.mark.parametrize(
    "text",
    [
        "/onion/timaq4ygg2iegci7:0",
        "/onion/timaq4ygg2iegci7",
        "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:70000",
        "/garlic64/AAAA",
        "/garlic64/!!",
        "/garlic32/aaaa",
        "/ip4/1.2.3.4.5",
        "/ip4/١.2.3.4",
        "/tcp/٣",
        "/tcp/1_0",
        "/tcp/99999999999999999999999",
        "/dns/a\ud800",
        "/http-path/%",
    ],
)
def test_values_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        Multiaddr.parse(text)


@pytest.mark.parametrize(
    "data", ["bc03" + "00" * 12, "be0304" + "00" * 4, "bf0304" + "00" * 4, "3501ff", "d20300", "e10300"]
)
def test_bytes_that_are_no_value_are_refused(data: str) -> None:
    with pytest.raises(DecodeError):
        Multiaddr.decode(bytes.fromhex(data))


@pytest.mark.parametrize("size", [386, 400])
def test_i2p_destinations_come_back(size: int) -> None:
    address = Multiaddr.decode(
        b"\xbe\x03" + bytes([size & 0x7F | 0x80, size >> 7]) + bytes(range(193)) * 2 + bytes(size - 386)
    )
    assert Multiaddr.parse(str(address)) == address
    encrypted = Multiaddr.decode(b"\xbf\x03\x23" + bytes(35))
    assert Multiaddr.parse(str(encrypted)) == encrypted


def test_text_and_bytes_have_a_longest_length() -> None:
    text, data = "/ip4/" + "1" * 10_000_000, bytes(10_000_000)

    def work() -> None:
        with pytest.raises(DecodeError, match="at most"):
            Multiaddr.parse(text)
        with pytest.raises(DecodeError, match="at most"):
            Multiaddr.decode(data)

    assert quickest(work) < 0.05
    with pytest.raises(DecodeError, match=f"at most {BYTES_MAX} bytes"):
        Multiaddr.parse("/unix/" + "ü" * (TEXT_MAX // 2 + 5))


def test_the_worst_address_of_full_length_is_read_quickly() -> None:
    def work() -> None:
        Multiaddr.decode(b"\xdd\x03" * (BYTES_MAX // 2))
        Multiaddr.decode((b"\xa5\x03\x03\0\x01x") * (BYTES_MAX // 6))
        with pytest.raises(DecodeError):
            Multiaddr.decode(b"\xd2\x03\xf8\x1f" + b"\x80" * 4088)

    assert quickest(work) < 0.1


@pytest.mark.parametrize(
    "data", [b"", b"\x12\x20", b"\0\0", b"\0\x2b" + bytes(43), b"\x13\x40" + bytes(64), b"\x12\x1f" + bytes(31)]
)
def test_A15_a_malformed_multihash_is_no_peer_id(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check_peer_multihash(data)
    with pytest.raises(DecodeError):
        Multiaddr.decode(b"\xa5\x03" + bytes([len(data)]) + data)


def test_a_peer_id_as_text_has_a_longest_length() -> None:
    for start in ("1", "Qm", "b"):
        with pytest.raises(DecodeError, match="at most"):
            decode_peer_text(start * 1_000_000)


@pytest.mark.parametrize("protocol", ["dns", "dns4", "dns6", "dnsaddr", "sni"])
@pytest.mark.parametrize(
    "name",
    ["a\x1b[2Jb", "a\u202eb", "a\x9bb", "a b", "a..b", ".a", "ü.example", "a\nb", "x" * 64, "x." * 127 + "x", "%41"],
)
def test_attack_8_a_name_in_an_address_is_a_name(protocol: str, name: str) -> None:
    """Attack 8: any bytes passed for a DNS name, and were printed."""
    with pytest.raises(DecodeError):
        Multiaddr.parse(f"/{protocol}/{name}")
    value = name.encode()
    with pytest.raises(DecodeError):
        Multiaddr.decode(varint.encode(BY_NAME[protocol].code) + varint.encode(len(value)) + value)


def test_names_of_computers_are_taken() -> None:
    for name in ("a", "_dnsaddr.bootstrap.libp2p.io", "xn--bcher-kva.example", "a-b.example.", "1.2.3.4"):
        assert str(Multiaddr.parse(f"/dnsaddr/{name}")) == f"/dnsaddr/{name}"
    assert str(Multiaddr.parse("/ip6zone/eth0.1@if3/ip6/fe80::1")) == "/ip6zone/eth0.1@if3/ip6/fe80::1"
    for zone in ("a\x1bb", "ü", "a b"):
        with pytest.raises(DecodeError):
            Multiaddr.parse(f"/ip6zone/{zone}/ip6/fe80::1")
