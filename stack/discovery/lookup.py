"""TXT records of a domain name, asked of the system's name servers over UDP, and over TCP when the answer is long.

For `/dnsaddr` addresses. Nothing is validated (DNSSEC) or kept: what it leads to proves its identity by its key.
"""

import os
from ipaddress import ip_address
from pathlib import Path

import anyio

from stack.discovery.dns import MESSAGE_BYTES_MAX, TXT, Message, Question, decode, encode, name_of
from stack.errors import DecodeError

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLV_CONF_BYTES_MAX = 64 * 1024
SERVERS_MAX = 3
"""As many as the C library asks."""
TRIES = 2
SERVER_SECONDS = 1.2
"""For one server; the resolver gives the whole look-up 5 s."""
UDP_BYTES = 1232
"""What fits any path without fragments (DNS flag day 2020)."""
DNS_PORT = 53
NAME_ERROR = 3


def name_servers(text: str) -> list[str]:
    """The servers that a resolv.conf names; this machine when it names none, as resolv.conf(5) has it."""
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            servers.append(words[1])
    return servers[:SERVERS_MAX] or ["127.0.0.1"]


def _resolv_conf() -> str:
    try:
        with RESOLV_CONF.open(errors="replace") as file:
            return file.read(RESOLV_CONF_BYTES_MAX)
    except FileNotFoundError:
        return ""


async def lookup_text(name: str, *, servers: list[str] | None = None, port: int = DNS_PORT) -> list[str]:
    """The TXT records of `name`, each with its strings joined. Raises OSError, DecodeError for a name that is none."""
    question = Question(name_of(name), TXT)
    error: Exception = OSError("no name server answered")
    for server in (servers or name_servers(_resolv_conf())) * TRIES:
        try:
            with anyio.fail_after(SERVER_SECONDS):
                message = await _ask(server, port, question)
        except TimeoutError:
            error = OSError(f"no answer from the name server {server}")
        except (OSError, DecodeError, anyio.EndOfStream, anyio.BrokenResourceError) as fault:
            error = OSError(f"the name server {server}: {fault}")
        else:
            if message.code not in (0, NAME_ERROR):
                error = OSError(f"the name server {server} refused (code {message.code})")
                continue
            # Of aliases only the end matters: a name server sends the whole chain, and TXT records are at its end.
            values = [record.value for record in message.answers if record.kind == TXT]
            texts = [b"".join(value).decode("utf-8", "replace") for value in values if isinstance(value, tuple)]
            if not texts:
                raise OSError("there is no such name" if message.code else "it has no TXT record")
            return texts
    raise error


async def _ask(server: str, port: int, question: Question) -> Message:
    identifier = int.from_bytes(os.urandom(2), "big")
    query = encode(Message(id=identifier, recursion=True, questions=(question,)), udp_size=UDP_BYTES)
    async with await anyio.create_connected_udp_socket(server, port) as udp:
        await udp.send(query)
        while True:
            answer = decode(await udp.receive())
            # From a connected socket; id, question and a random port of ours are what a forger has to guess.
            if answer.response and answer.id == identifier and answer.questions == (question,):
                break
    if not answer.truncated:
        return answer
    async with await anyio.connect_tcp(server, port) as tcp:
        await tcp.send(len(query).to_bytes(2, "big") + query)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            if len(data) > 2 + MESSAGE_BYTES_MAX:
                raise DecodeError("a longer answer than is read")
            data += await tcp.receive()
    answer = decode(data[2 : 2 + int.from_bytes(data[:2], "big")])
    if not answer.response or answer.id != identifier or answer.questions != (question,):
        raise DecodeError("an answer to another question")
    return answer
