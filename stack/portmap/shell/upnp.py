"""A router that speaks UPnP: found, asked to open ports and to shut them."""

import random
import socket
from contextlib import suppress
from ipaddress import IPv4Address

import anyio

from stack.errors import DecodeError
from stack.portmap.igd import (
    GIVES_ANOTHER,
    PAGE_MAX,
    SEARCHED,
    TAKEN,
    Control,
    RouterRefuses,
    call,
    control_at,
    description_at,
    external_address,
    get,
    is_whole,
    page_of,
    reserved_port,
    search,
)
from stack.portmap.messages import Transport

SEARCH_WAITS = (0.3, 0.6, 1.0)
"""After each search; packets to all may be lost."""
CALL_SECONDS = 3.0
"""For one page of a router."""
OTHER_PORTS, OTHERS_TRIED = range(49152, 65536), 3
"""What is asked for when ours is another computer's outside; that three of these are taken too is most unlikely."""
NAME = "stack"
"""What a router's own pages call the port."""


async def find(router: str, ours: str, search_at: tuple[str, int]) -> Control:
    """Where the router at `router` is told to open ports, for us at `ours`; it is looked for at the multicast group `search_at`.

    Raises DecodeError (it opens none), TimeoutError (it does not answer), OSError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.bind((ours, 0))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ours))
        for wait in SEARCH_WAITS:
            for kind in SEARCHED:
                asking.sendto(search(kind), search_at)
            with anyio.move_on_after(wait) as silence:
                port, path = await _answer(asking, router)
            if not silence.cancelled_caught:
                return control_at(page_of(await _page(router, port, get(router, port, path))), path, router, port)
    raise TimeoutError


async def _answer(asking: socket.socket, router: str) -> tuple[int, str]:
    """Others may answer too; only the router counts."""
    while True:
        await anyio.wait_readable(asking)
        data, sender = asking.recvfrom(4096)
        if sender[0] == router:
            with suppress(DecodeError):
                return description_at(data, router)


async def _page(host: str, port: int, request: bytes) -> bytes:
    """An answer, until it is whole or the router ends the connection. Raises DecodeError when it is too long, TimeoutError, OSError."""
    answer = b""
    with anyio.fail_after(CALL_SECONDS):
        async with await anyio.connect_tcp(host, port) as stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.send(request)
                while len(answer) <= PAGE_MAX and not is_whole(answer):
                    answer += await stream.receive()
    if len(answer) > PAGE_MAX:
        raise DecodeError(f"a page of more than {PAGE_MAX} bytes")
    return answer


async def open_port(
    control: Control, transport: Transport, port: int, ours: str, seconds: int, outside: int
) -> tuple[IPv4Address, int]:
    """Open it, as the port `outside` if nobody else has that, else as another; returns the router's address and the port there.

    Raises DecodeError with the reason, TimeoutError, OSError.
    """
    for other in (*random.sample(OTHER_PORTS, OTHERS_TRIED), None):
        try:
            outside = await _open_as(control, transport, port, ours, seconds, outside)
            break
        except RouterRefuses as refusal:
            if refusal.code not in TAKEN or other is None:
                raise
            outside = other
    return external_address(await _call(control, "GetExternalIPAddress")), outside


async def _open_as(control: Control, transport: Transport, port: int, ours: str, seconds: int, outside: int) -> int:
    arguments = {
        "NewRemoteHost": "",
        "NewExternalPort": outside,
        "NewProtocol": transport.name,
        "NewInternalPort": port,
        "NewInternalClient": ours,
        "NewEnabled": 1,
        "NewPortMappingDescription": NAME,
        "NewLeaseDuration": seconds,
    }
    if not control.service.endswith(GIVES_ANOTHER):
        await _call(control, "AddPortMapping", **arguments)
        return outside
    return reserved_port(await _call(control, "AddAnyPortMapping", **arguments), outside)


async def shut_port(control: Control, transport: Transport, port: int) -> None:
    """Shut what is this port outside. Raises as `open_port`."""
    await _call(control, "DeletePortMapping", NewRemoteHost="", NewExternalPort=port, NewProtocol=transport.name)


async def _call(control: Control, action: str, **arguments: object) -> bytes:
    return page_of(await _page(control.host, control.port, call(control, action, **arguments)))
