"""Every parser of foreign bytes and every machine that reads a stream, with recorded inputs to begin from."""

import json
import re
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec

from stack.announce.messages import decode_request, decode_response
from stack.announce.records import decode_record
from stack.bitswap.counting import BlockBytes
from stack.bitswap.messages import decode_message, decode_prefix
from stack.blocks.records import decode_head
from stack.control.frames import dump, load
from stack.dag import dag_cbor, dag_json, dag_pb
from stack.dag.car import CarReader
from stack.dag.unixfs.chunkers import parse_chunker
from stack.dag.unixfs.data import decode_data
from stack.dag.unixfs.reader import decode_node
from stack.discovery.dns import decode as decode_dns
from stack.discovery.saved import decode_saved
from stack.errors import DecodeError, RemoteProtocolError
from stack.files.ticket import decode_ticket
from stack.gossipsub.decoding import decode_rpc
from stack.identity.envelope import Envelope
from stack.identity.keys import decode_private, decode_public, generate
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import open_peer_record
from stack.multiformats import multibase, multihash, varint
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.multiformats.multicodec import DAG_PB
from stack.multiformats.peer_text import decode_peer_text
from stack.muxers.yamux.connection import YamuxMachine
from stack.muxers.yamux.parameters import YamuxParameters
from stack.net.multistream import Proposer, Responder
from stack.node import api
from stack.node.home import ControlAddress
from stack.node.schema import from_tagged, to_tagged
from stack.portmap import igd
from stack.portmap import messages as portmap
from stack.protocols.autonat import messages as autonat
from stack.protocols.identify.messages import IdentifyReader, decode_identify
from stack.protocols.providers.messages import decode_update
from stack.protocols.providers.ranges import LeafRanges
from stack.sansio.budget import Scope
from stack.sansio.delimited import DelimitedReader
from stack.security.noise.handshake import NoiseHandshake, decode_payload, encode_payload, static_public_key
from stack.security.pnet.key import decode_swarm_key
from stack.security.tls.certificate import check_certificate
from stack.security.tls.handshake import TlsContext, TlsHandshake
from stack.security.tls.records import TlsSession
from stack.transports.websocket.frames import Upgrade
from tests.fuzz.engine import Target

VECTORS = Path(__file__).parent.parent / "vectors"
HEX = re.compile(r"(?:[0-9a-f]{2}){2,}")
REQUESTS = {name: kind for name, kind in vars(api).items() if isinstance(kind, type)}


def _texts(form: object) -> Iterator[str]:
    if isinstance(form, str):
        yield form
    elif isinstance(form, dict):
        yield from chain.from_iterable(map(_texts, form.values()))
    elif isinstance(form, list):
        yield from chain.from_iterable(map(_texts, form))


def _recorded(name: str) -> list[str]:
    return [text for text in _texts(json.loads((VECTORS / name).read_text())) if 1 < len(text) < 20_000]


def recorded_bytes(*names: str) -> list[bytes]:
    """All that a file of vectors has in hexadecimal."""
    return sorted({bytes.fromhex(text) for name in names for text in _recorded(name) if HEX.fullmatch(text)})


def recorded_texts(*names: str) -> list[bytes]:
    """All other texts in it."""
    return sorted({text.encode() for name in names for text in _recorded(name) if not HEX.fullmatch(text)})


def _fixtures(codec: str) -> list[bytes]:
    fixtures = json.loads((VECTORS / "ipld-codec-fixtures.json").read_text())["fixtures"]
    return [bytes.fromhex(record["forms"][codec]["hex"]) for record in fixtures if codec in record["forms"]]


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode("utf-8", "replace"))


# --- there and back


def dag_pb_there_and_back(data: bytes) -> None:
    canonical = dag_pb.encode(dag_pb.decode(data))
    assert dag_pb.encode(dag_pb.decode(canonical)) == canonical


def dag_cbor_there_and_back(data: bytes) -> None:
    assert dag_cbor.encode(dag_cbor.decode(data)) == data


def dag_json_there_and_back(data: bytes) -> None:
    canonical = dag_json.encode(dag_json.decode(data))
    assert dag_json.encode(dag_json.decode(canonical)) == canonical


def cid_there_and_back(data: bytes) -> None:
    cid = Cid.decode(data)
    assert Cid.decode(bytes(cid)) == cid == Cid.parse(str(cid))


def multiaddr_there_and_back(data: bytes) -> None:
    address = Multiaddr.decode(data)
    assert Multiaddr.decode(bytes(address)) == address
    if "/unix" not in str(address):  # a path takes the rest of the text, whatever stood behind it in the bytes
        assert Multiaddr.parse(str(address)) == address


# --- machines: the bytes come in pieces, as from a socket


def pieces(data: bytes) -> Iterator[bytes]:
    """The same bytes, cut by chance that the bytes themselves decide."""
    chance = Random(len(data))
    start = 0
    while start < len(data):
        stop = start + chance.choice((1, 2, 7, 50, 1000))
        yield data[start:stop]
        start = stop
    yield b""


def read_archive(data: bytes) -> None:
    reader = CarReader()
    for piece in pieces(data):
        reader.receive_data(piece)
        while reader.next_event() is not None:
            pass


def read_delimited(data: bytes) -> None:
    reader = DelimitedReader(4096)
    for piece in pieces(data):
        reader.receive_data(piece)
        while reader.next_message() is not None:
            pass


def read_identify(data: bytes) -> None:
    reader = IdentifyReader()
    for piece in pieces(data):
        reader.receive_data(piece)
    reader.finish()


def negotiate(machine: Proposer | Responder, data: bytes) -> None:
    for piece in pieces(data):
        machine.receive_data(piece, 0.0)
        machine.data_to_send()
        if machine.next_event() is not None:
            return


def shake_hands(data: bytes) -> None:
    machine = NoiseHandshake(
        outbound=bool(len(data) % 2), static_key=KEY, ephemeral_key=OTHER_KEY, payload=PAYLOAD, muxers=("/yamux/1.0.0",)
    )
    for piece in pieces(data):
        machine.receive_data(piece, 0.0)
        machine.data_to_send()


def shake_hands_by_tls(data: bytes) -> None:
    machine = TlsHandshake(TLS, outbound=bool(len(data) % 2), wall=1.8e9, muxers=("/yamux/1.0.0",))
    for piece in pieces(data):
        machine.receive_data(piece, 0.0)
        machine.data_to_send()


def open_records(data: bytes) -> None:
    """Pieces as the contents of good records, of the kinds that their first bytes name."""
    sender, receiver = TlsSession(SUITE, KEY, OTHER_KEY), TlsSession(SUITE, OTHER_KEY, KEY)
    for piece in pieces(data):
        record = memoryview(bytearray(len(piece) + 22))
        record[5:-17] = piece
        sender._seal(record, len(piece), len(piece) % 4 + 20)
        receiver.open(record)


def mux(data: bytes) -> None:
    """A connection with a reader that reads some and closes some."""
    machine = YamuxMachine(outbound=bool(len(data) % 2), parameters=YamuxParameters(), scope=Scope("a", {}), now=0.0)
    out, room = memoryview(bytearray(65536)), memoryview(bytearray(1000))
    chance = Random(len(data))
    ids = [machine.open(), machine.open()]
    try:
        for index, piece in enumerate(pieces(data)):
            machine.receive_data(memoryview(piece), float(index))
            while (event := machine.next_event()) is not None:
                if (id := getattr(event, "stream", None)) is not None:
                    ids.append(id)
            for id in ids[-20:]:
                what = chance.randrange(6)
                if what == 0:
                    machine.accept(id)
                elif what == 1:
                    machine.read_into(id, room)
                elif what == 2:
                    machine.close_stream(id)
                elif what == 3:
                    machine.reset(id)
            while machine.write_to(out):
                pass
    except RemoteProtocolError:
        while machine.write_to(out):
            pass


def upgrade(server: bool, data: bytes) -> None:
    machine = Upgrade() if server else Upgrade(host="a.example")
    reader = None
    out = memoryview(bytearray(1000))
    for piece in pieces(data):
        if reader is None:
            machine.receive_data(piece)
            machine.data_to_send()
            reader = machine.frames
        else:
            reader.receive_data(piece, 0.0)
            reader.data_to_send()
            reader.read_into(out)


def control_address(text: str) -> None:
    try:
        ControlAddress.decode(text)
    except ValueError:
        raise DecodeError("no control address") from None  # as its caller does


KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
IDENTITY = generate("ed25519")
PAYLOAD = encode_payload(IDENTITY, static_public_key(KEY), ["/yamux/1.0.0"])
HTTP = [
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x82\x85abcdefghi\x89\x80abcd\x88\x80abcd",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x82\x05hello\x89\x00",
]
YAMUX = [
    bytes.fromhex("000100010000000100000000" + "000000000000000100000004" + "61626364"),
    bytes.fromhex("000000010000000200000003" + "616263" + "000000040000000200000000"),
    bytes.fromhex("000200010000000000000007" + "000100000000000100010000" + "000000080000000100000000"),
    bytes.fromhex("000300000000000000000000"),
]
DNS = [
    bytes.fromhex("0000840000000001000000000470327031075f746f6373056c6f63616c00000c0001000000780004016ac00c"),
    bytes.fromhex("000000000001000000000000045f703270045f756470056c6f63616c00000c0001"),
    bytes.fromhex("00008400000000010000000003616263c00c00100001000000780009" + "08646e73616464723d"),
]
AUTONAT = [
    bytes.fromhex("0a130a080409010101060fa1110807060504030201"),
    bytes.fromhex("1a06080110b0ea01"),
    bytes.fromhex("120708c80110021864"),
    bytes.fromhex("080012100a0e0a02000112080409010101060fa1"),
    bytes.fromhex("08011a0c08001a080409010101060fa1"),
]
ROUTER = [
    bytes.fromhex("008000000000000709010101"),
    bytes.fromhex("00820000000000070fa10fa200000258"),
    bytes.fromhex("028100000000025800000007")
    + bytes(24)
    + bytes.fromhex("060000000fa10fa2")
    + bytes(12)
    + b"\x09\x01\x01\x01",
]
PAGES = [
    b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/d.xml\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 500 No\r\n\r\n<errorCode>718</errorCode>",
    b"<URLBase>http://192.168.1.1/</URLBase><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
    b"<controlURL>/ctl</controlURL></service><NewExternalIPAddress>9.1.1.1</NewExternalIPAddress>",
]
SAVED = [
    b'{"version": 1, "peers": []}',
    b'{"version": 1, "peers": [{"id": "12D3KooW", "addresses": ["/ip4/1.2.3.4/tcp/1"], "seen": 1.5}]}',
]
CONTROL = [
    dump(to_tagged(request))
    for request in (
        api.Cat(source="bafy", offset=7, length=9),
        api.Ping(target="a", count=10),
        api.Fetch(source="a", directory=Path("/a"), include=("x", "y"), timeout=1.5),
        api.Share(paths=(Path("/a"),), flags=api.ImportFlags(chunker="size-1", mode=0o644, mtime=-5)),
    )
]


def count_blocks(data: bytes) -> None:
    """What is counted of a message that comes in pieces grows, and is never more than has come."""
    counted, come, before = BlockBytes(), memoryview(data), 0
    for end in (*range(0, len(data), 1 + len(data) // 8), len(data)):
        now = counted.look(come[:end])
        assert before <= now <= end, (before, now, end)
        before = now


WIRE = [f"wire/{name}.json" for name in ("bitswap", "gossipsub", "identify", "noise", "multistream")]
CARS = [path.read_bytes() for path in sorted((VECTORS / "car").glob("*.car"))]
TICKETS = recorded_texts("ticket.json")
MULTI = recorded_bytes("multiformats.json")
TEXTS = recorded_texts("multiformats.json", "multibase-spec.json")
IDENTITIES = recorded_bytes("identity.json")
ANNOUNCED = recorded_bytes("announce/announce.json")
BITSWAP = recorded_bytes("wire/bitswap.json")
CERTIFICATES = recorded_bytes("libp2p-spec.json")
SUITE = "TLS_AES_128_GCM_SHA256"
TLS = TlsContext(generate(), ec.generate_private_key(ec.SECP256R1()))
HELLOS = [TlsHandshake(TLS, outbound=True, wall=1.8e9, muxers=("/a",) * count).data_to_send() for count in (0, 1, 9)]
NODES = _fixtures("dag-pb") + recorded_bytes("unixfs-dirs.json", "ipld.json")[:2000]

TARGETS: tuple[Target, ...] = (
    Target("varint", MULTI, varint.decode),
    Target("multihash", MULTI, multihash.decode),
    Target("multibase", TEXTS, _text(multibase.decode)),
    Target("cid", MULTI, cid_there_and_back),
    Target("cid text", TEXTS, _text(Cid.parse)),
    Target("multiaddr", MULTI, multiaddr_there_and_back),
    Target("multiaddr text", TEXTS, _text(Multiaddr.parse)),
    Target("peer text", TEXTS, _text(decode_peer_text)),
    Target("peer id", IDENTITIES, PeerId.decode),
    Target("peer id text", recorded_texts("identity.json"), _text(PeerId.parse)),
    Target("public key", IDENTITIES, decode_public),
    Target("private key", IDENTITIES, decode_private, slow=5.0),
    Target("envelope", IDENTITIES, lambda data: Envelope.open(data, "libp2p-peer-record")),
    Target("peer record", IDENTITIES, open_peer_record),
    Target("dag-pb", _fixtures("dag-pb"), dag_pb_there_and_back),
    Target("dag-cbor", _fixtures("dag-cbor"), dag_cbor_there_and_back),
    Target("dag-json", _fixtures("dag-json"), dag_json_there_and_back),
    Target("car", CARS, read_archive),
    Target("unixfs data", NODES, decode_data),
    Target("unixfs node", NODES, lambda data: decode_node(Cid.of(data, codec=DAG_PB), data)),
    Target("chunker", [b"size-262144", b"rabin-16-32-64", b"buzhash", b"size-0"], _text(parse_chunker)),
    Target("ticket", TICKETS, _text(decode_ticket)),
    Target("delimited", recorded_bytes(*WIRE), read_delimited),
    Target(
        "multistream proposer",
        recorded_bytes("wire/multistream.json"),
        lambda data: negotiate(Proposer(["/a", "/b"]), data),
    ),
    Target(
        "multistream responder",
        recorded_bytes("wire/multistream.json"),
        lambda data: negotiate(Responder({"/a"}), data),
    ),
    Target("noise payload", [*recorded_bytes("wire/noise.json"), PAYLOAD], lambda data: decode_payload(data, KEY)),
    Target("noise handshake", recorded_bytes("wire/noise.json"), shake_hands),
    Target("tls certificate", CERTIFICATES, lambda data: check_certificate(data, 1.8e9)),
    Target("tls handshake", HELLOS, shake_hands_by_tls),
    Target("tls records", [b"\x16\x18\0\0\1\1", b"\x15\1\0", b"\x16\x04\0\0\5hello", b"\x17data"], open_records),
    Target("swarm key", [b"/key/swarm/psk/1.0.0/\n/base16/\n" + b"ab" * 32 + b"\n"], decode_swarm_key),
    Target("yamux", YAMUX, mux),
    Target("websocket server", HTTP, lambda data: upgrade(True, data)),
    Target("websocket client", HTTP, lambda data: upgrade(False, data)),
    Target("identify", recorded_bytes("wire/identify.json"), decode_identify),
    Target("identify stream", recorded_bytes("wire/identify.json"), read_identify),
    Target("autonat", AUTONAT, autonat.decode),
    Target("autonat 1", AUTONAT, autonat.decode_v1),
    Target("nonce of autonat", AUTONAT, autonat.decode_nonce),
    Target("router", ROUTER, lambda data: portmap.decode(data, portmap.Transport.TCP, 4001, bytes(12))),
    Target("upnp search", PAGES, lambda data: igd.description_at(data, "192.168.1.1")),
    Target("upnp page", PAGES, igd.page_of),
    Target("upnp description", PAGES, lambda data: igd.control_at(data, "/d.xml", "192.168.1.1", 80)),
    Target("upnp address", PAGES, igd.external_address),
    Target("bitswap", BITSWAP, lambda data: decode_message(memoryview(data))),
    Target("bitswap blocks", BITSWAP, count_blocks),
    Target("bitswap prefix", [*BITSWAP, b"\x01\x55\x12\x20"], decode_prefix),
    Target("gossipsub", recorded_bytes("wire/gossipsub.json"), decode_rpc),
    Target("announce record", ANNOUNCED, decode_record),
    Target("announce request", ANNOUNCED, decode_request),
    Target("announce response", ANNOUNCED, decode_response),
    Target("providers update", [*ANNOUNCED, *IDENTITIES], decode_update),
    Target("leaf ranges", MULTI, lambda data: LeafRanges.decode(8 * len(data), data)),
    Target("dns", DNS, decode_dns),
    Target("saved peers", SAVED, decode_saved),
    Target("control request", CONTROL, lambda data: from_tagged(load(data), REQUESTS)),
    Target("control address", [b"unix /a/b", b"tcp 127.0.0.1 1234 abcd"], _text(control_address)),
    Target("pack record", [*MULTI, *CARS], decode_head),
)
"""In the order in which a byte meets them."""
