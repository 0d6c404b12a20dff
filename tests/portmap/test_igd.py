"""What is said to a router by UPnP, and what it may answer."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address

import pytest

from stack.errors import DecodeError
from stack.portmap.igd import (
    SEARCHED,
    Control,
    call,
    control_at,
    description_at,
    external_address,
    get,
    page_of,
    reserved_port,
    search,
)
from tests.flooding import quickest

ROUTER = "192.168.1.1"
IP_SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
CONTROL = Control(ROUTER, 5000, "/ctl/IPConn", IP_SERVICE)
OK = b"HTTP/1.1 200 OK\r\n\r\n"


def description(service: str = IP_SERVICE, url: str = "/ctl/IPConn", base: str = "") -> bytes:
    other = "<service><serviceType>urn:x:Layer3Forwarding:1</serviceType><controlURL>/l3</controlURL></service>"
    ours = f"<service>\n<serviceType>{service}</serviceType><controlURL> {url} </controlURL></service>"
    return f"<root>{base}<device><serviceList>{other}{ours}</serviceList></device></root>".encode()


def answer(location: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\nEXT:\r\n\r\n".encode()


def test_a_search_names_what_is_sought() -> None:
    lines = search(SEARCHED[0]).decode().split("\r\n")
    assert lines[0] == "M-SEARCH * HTTP/1.1" and f"ST: {SEARCHED[0]}" in lines and 'MAN: "ssdp:discover"' in lines


def test_the_description_is_where_the_router_says_if_that_is_the_router() -> None:
    assert description_at(answer(f"http://{ROUTER}:5000/rootDesc.xml?x=1"), ROUTER) == (5000, "/rootDesc.xml?x=1")
    assert description_at(answer(f"http://{ROUTER}"), ROUTER) == (80, "/")


@pytest.mark.parametrize(
    "data",
    [
        answer("http://192.168.1.77:5000/rootDesc.xml"),
        answer(f"https://{ROUTER}:5000/rootDesc.xml"),
        answer(f"http://{ROUTER}:99999/"),
        answer(f"http://{ROUTER}:5000/\x01"),
        answer("http://[::1/"),
        answer(""),
        b"NOTIFY * HTTP/1.1\r\nLocation: http://192.168.1.1:5000/\r\n\r\n",
        b"",
    ],
)
def test_a_description_elsewhere_is_not_asked_for(data: bytes) -> None:
    with pytest.raises(DecodeError):
        description_at(data, ROUTER)


@pytest.mark.parametrize(
    "page",
    [
        description(),
        description(url="IPConn"),
        description(url=f"http://{ROUTER}:5000/ctl/IPConn"),
        description(base=f"<URLBase>http://{ROUTER}:5000/</URLBase>"),
    ],
)
def test_the_service_that_opens_ports_is_found(page: bytes) -> None:
    assert control_at(page, "/ctl/rootDesc.xml", ROUTER, 5000) == CONTROL


def test_a_service_of_another_kind_or_at_another_computer_is_not_taken() -> None:
    for page in (
        description(service="urn:x:service:Other:1"),
        description(url=""),
        description(url="http://192.168.1.77/ctl"),
        description(base="<URLBase>http://192.168.1.77/</URLBase>"),
        b"<root>",
        b"\xff" * 100,
    ):
        with pytest.raises(DecodeError):
            control_at(page, "/rootDesc.xml", ROUTER, 5000)


def test_what_stands_in_a_description_cannot_get_into_a_request() -> None:
    evil = description(url="/x&#13;&#10;Host:evil&#13;&#10;")
    control = control_at(evil, "/rootDesc.xml", ROUTER, 5000)
    assert call(control, "X").startswith(b"POST /xHost:evil HTTP/1.1\r\n")


def test_requests_are_whole() -> None:
    assert get(ROUTER, 5000, "/d.xml").startswith(b"GET /d.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n")
    head, body = call(CONTROL, "DeletePortMapping", NewExternalPort=4001, NewProtocol="TCP").split(b"\r\n\r\n")
    assert f'SOAPAction: "{IP_SERVICE}#DeletePortMapping"'.encode() in head.split(b"\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"<NewExternalPort>4001</NewExternalPort><NewProtocol>TCP</NewProtocol></u:DeletePortMapping>" in body


def test_an_answer_is_read_in_chunks_too() -> None:
    assert page_of(OK + b"abc") == b"abc"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert page_of(head + b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n") == b"abcde"
    assert page_of(head + b"3\r\nab") == b"ab"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no answer of HTTP"),
        (b"SSH-2.0", "no answer of HTTP"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "error 404"),
        (b"HTTP/1.1 500 X\r\n\r\n<errorCode>718</errorCode>", "another computer's"),
        (b"HTTP/1.1 500 X\r\n\r\n<errorCode>725</errorCode>", "for ever only"),
        (b"HTTP/1.1 500 X\r\n\r\n<errorCode>9999</errorCode>", "error 9999"),
        (b"HTTP/1.1 500 X\r\n\r\n<errorCode>x</errorCode>", "error 500"),
    ],
)
def test_why_it_is_not_done_is_told_in_words(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        page_of(data)


@pytest.mark.parametrize(("text", "port"), [("50000", 50_000), ("0", 4001), ("65536", 4001), ("x", 4001), ("", 4001)])
def test_the_port_that_the_router_gives_is_one_or_ours(text: str, port: int) -> None:
    assert reserved_port(f"<NewReservedPort>{text}</NewReservedPort>".encode(), 4001) == port


def test_the_address_outside() -> None:
    page = b"<a><NewExternalIPAddress>%s</NewExternalIPAddress></a>"
    assert external_address(page % b"9.1.1.1") == IPv4Address("9.1.1.1")
    for wrong in (b"", b"::1", b"x"):
        with pytest.raises(DecodeError):
            external_address(page % wrong)


@pytest.mark.parametrize(
    "page",
    [
        b"<service>" * 7000,
        b"<service><serviceType>" * 3000,
        b"<URLBase>" * 7000,
        (b"<URLBase>" + b" " * 490) * 130,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 9000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:" + b" " * 60_000 + b"x\r\n\r\n",
    ],
)
def test_no_page_takes_long_to_read(page: bytes) -> None:
    """Found by reading mean pages: patterns that looked at the rest again at each place took seconds."""
    for read in (lambda data: control_at(data, "/", ROUTER, 80), page_of, external_address):

        def work(read: Callable[[bytes], object] = read) -> None:
            with suppress(DecodeError):
                read(page)

        assert quickest(work) < 0.1
