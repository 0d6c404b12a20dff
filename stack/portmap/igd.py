"""What is said to a router by UPnP: where it is spoken to, and the calls that open and shut a port. Pure.

Sources: UPnP Device Architecture 1.1 (search, description, control), InternetGatewayDevice, WANIPConnection:1 and :2. What comes is a
page of XML from the local network. It is not parsed as such: the few texts that are needed are looked for in it, so that entities and
nesting are nothing but text.
"""

import re
from ipaddress import IPv4Address, ip_address
from urllib.parse import urljoin, urlsplit

from stack.errors import DecodeError
from stack.values import dataclass

SEARCH_GROUP, SEARCH_PORT = "239.255.255.250", 1900
PAGE_MAX = 64 * 1024
"""Of a description or an answer; those seen have 2 to 20 KiB."""
SEARCHED = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
SERVICE = re.compile(r"urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[12]")
GIVES_ANOTHER = ":2"
"""The end of the name of a service that gives another port when the one wanted is taken."""
TAKEN = frozenset({718, 729})
ONLY_FOR_EVER = 725
ERRORS = {
    402: "it cannot read the request",
    501: "it could not",
    606: "its owner does not permit it",
    713: "it has no such port",
    714: "it has no such port",
    718: "the port is another computer's",
    724: "it wants the same port on both sides",
    ONLY_FOR_EVER: "it opens ports for ever only, which would stay open when this node is killed",
    728: "it has no room for more",
    729: "the port is another computer's",
}

SERVICES_MAX = 64
"""Of a description that are looked at; routers have five or so."""
CHUNKS_MAX = 256
"""Of an answer in pieces that are put together."""
TEXT_MAX = 500
"""Characters of one text that is looked for."""

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,5})[^\r\n]{0,100}\r\n")


@dataclass(frozen=True, slots=True)
class Control:
    """Where a router is told to open ports."""

    host: str
    port: int
    path: str
    service: str


class RouterRefuses(DecodeError):
    """The router's own no. `code` is that of UPnP, or of HTTP where it told none."""

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS.get(code, f"error {code}"))
        self.code = code


def search(kind: str) -> bytes:
    """To be sent to SEARCH_GROUP: who is one of these?"""
    return (
        f"M-SEARCH * HTTP/1.1\r\nHOST: {SEARCH_GROUP}:{SEARCH_PORT}\r\n"
        f'MAN: "ssdp:discover"\r\nMX: 1\r\nST: {kind}\r\n\r\n'
    ).encode()


def description_at(answer: bytes, router: str) -> tuple[int, str]:
    """Port and path of the description that an answer to `search` names. Raises DecodeError when it is not at the router itself: nobody
    is asked for a page because a neighbour said so."""
    found = re.search(rb"^location:[ \t]*(\S{1,500})\s*$", answer[:4096], re.IGNORECASE | re.MULTILINE)
    if found is None or not answer.startswith(b"HTTP/1.1 200"):
        raise DecodeError("this answers no search")
    return _at_router(found[1].decode("ascii", "replace"), router)


def control_at(page: bytes, path: str, router: str, port: int) -> Control:
    """Of a description that was got from there. Raises DecodeError when the router opens no ports."""
    text = page.decode("utf-8", "replace")
    base = _text(text, "URLBase") or f"http://{router}:{port}{path}"
    for part in text.split("<service>", SERVICES_MAX)[1:]:
        described = part.partition("</service>")[0]
        service, where = _text(described, "serviceType"), _text(described, "controlURL")
        if SERVICE.fullmatch(service) and where:
            at, control = _at_router(where, router, base)
            return Control(router, at, control, service)
    raise DecodeError("it has no service that opens ports")


def get(router: str, port: int, path: str) -> bytes:
    """A request for a description."""
    return f"GET {path} HTTP/1.1\r\nHost: {router}:{port}\r\nConnection: close\r\n\r\n".encode()


def call(control: Control, action: str, **arguments: object) -> bytes:
    """A call of the router's service; the arguments are our own numbers and words."""
    given = "".join(f"<{name}>{value}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{control.service}">{given}</u:{action}></s:Body></s:Envelope>'
    )
    return (
        f"POST {control.path} HTTP/1.1\r\nHost: {control.host}:{control.port}\r\nConnection: close\r\n"
        f'Content-Type: text/xml; charset="utf-8"\r\nSOAPAction: "{control.service}#{action}"\r\n'
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def is_whole(answer: bytes) -> bool:
    """Whether nothing more is to come of an HTTP answer that says its length: not every router ends the connection after it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(
        rb"^content-length:[ \t]*(\d{1,9})[ \t]*$", head.replace(b"\r", b""), re.IGNORECASE | re.MULTILINE
    )
    return bool(end) and length is not None and len(body) >= int(length[1])


def page_of(answer: bytes) -> bytes:
    """What an HTTP answer carries, whole as it came until the connection ended. Raises DecodeError, RouterRefuses."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if status is None:
        raise DecodeError("this is no answer of HTTP")
    if re.search(rb"^transfer-encoding:[ \t]*chunked\s*$", head, re.IGNORECASE | re.MULTILINE):
        body = _unchunked(body)
    if status[1] != b"200":
        code = _text(body.decode("utf-8", "replace"), "errorCode")
        number = int(code) if re.fullmatch(r"\d{1,5}", code) else 0
        raise RouterRefuses(number or int(status[1]))
    return body


def external_address(page: bytes) -> IPv4Address:
    """The router's address outside. Raises DecodeError."""
    text = _text(page.decode("utf-8", "replace"), "NewExternalIPAddress")
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if not isinstance(address, IPv4Address):
        raise DecodeError("it has no address outside")
    return address


def reserved_port(page: bytes, wanted: int) -> int:
    """The port outside that the router gave when it might have been another than the wanted one."""
    text = _text(page.decode("utf-8", "replace"), "NewReservedPort")
    return int(text) if re.fullmatch(r"\d{1,5}", text) and 0 < int(text) < 65536 else wanted


def _at_router(url: str, router: str, base: str = "") -> tuple[int, str]:
    try:
        parts = urlsplit(urljoin(base, url))
        port = parts.port or 80
    except ValueError as error:
        raise DecodeError("this is no address of a page") from error
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    if parts.scheme != "http" or parts.hostname != router or not re.fullmatch(r"[!-~]{1,500}", path):
        raise DecodeError("the page is not at the router")
    return port, path


def _text(page: str, name: str) -> str:
    """What stands between these tags the first time; empty when it is not there, or is not plain text of a bearable length."""
    _, _, rest = page.partition(f"<{name}>")
    text, end, _ = rest.partition(f"</{name}>")
    if not end or len(text) > TEXT_MAX or "<" in text:
        return ""
    from html import unescape  # here: most networks have no such router, and its table of names is half a MiB

    return unescape(text.strip())


def _unchunked(body: bytes) -> bytes:
    pieces: list[bytes] = []
    position = 0
    while (chunk := _CHUNK.match(body, position)) is not None and len(pieces) < CHUNKS_MAX:
        size = int(chunk[1], 16)
        pieces.append(body[chunk.end() : chunk.end() + size])
        position = chunk.end() + size + 2
    return b"".join(pieces)
