"""Floods over QUIC: each costs a bounded amount of memory, whatever its author spends."""

import gc
import secrets
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aioquic._buffer import Buffer
from aioquic.quic.connection import NEW_CONNECTION_ID_FRAME_CAPACITY
from aioquic.quic.packet import QuicFrameType

from stack.muxers.yamux.windows import WINDOW_INITIAL
from stack.sansio.budget import Resource
from stack.transports.quic.front import HANDSHAKES_MAX, RETRY_ABOVE, Answer, Beginning, Front
from stack.transports.quic.library import CONNECTION_WINDOW, HANDSHAKE_BYTES_MAX
from stack.transports.quic.machine import ConnectionEnded, QuicMachine
from tests.transports.quic.ends import CLIENT, CREDENTIALS, SERVER, WALL, Pair, connected_pair

KIB = 1024
MIB = 1024 * KIB


class Cost:
    """Of memory, in bytes."""

    bytes = 0


@contextmanager
def cost(what: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Cost]:
    """What is held at the end, beyond what was at the beginning; printed."""
    held = Cost()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield held
        gc.collect()
        held.bytes = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    with capsys.disabled():
        print(f"\n{what}: {held.bytes / KIB:,.0f} KiB held")


def a_first_datagram() -> bytes:
    client = QuicMachine.dial(CREDENTIALS[0], SERVER, expected=None, wall=WALL, now=0.0)
    return client.datagrams(0.0)[0][0]


def test_first_datagrams_from_made_up_addresses_cost_as_much_as_so_many_handshakes_may(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = a_first_datagram()
    front: Front[object] = Front(lambda: secrets.token_bytes(8))
    front.listening = True
    kept: list[object] = []
    answered = 0
    with cost("600 first datagrams from made-up addresses", capsys) as held:
        for number in range(600):
            fake = first[:6] + number.to_bytes(8) + first[14:]
            address = (f"198.51.{number % 250}.{number // 250}", 1 + number % 60_000)
            verdict = front.sort(fake, address, number / 1000)
            if isinstance(verdict, Beginning):
                machine = QuicMachine.accept(
                    CREDENTIALS[1], original_id=verdict.original_id, retry_id=None, wall=WALL, now=number / 1000
                )
                machine.receive_datagram(fake, address, number / 1000)
                front.began(address)
                front.add(verdict.id, machine)
                kept.append(machine)
            elif isinstance(verdict, Answer):
                answered += 1
                assert len(verdict.data) < len(fake) / 3
    assert len(kept) == RETRY_ABOVE
    assert answered == 600 - RETRY_ABOVE
    assert held.bytes < RETRY_ABOVE * 256 * KIB


def test_a_handshake_that_is_not_gone_on_with_costs_little(capsys: pytest.CaptureFixture[str]) -> None:
    machines = []
    with cost("twenty handshakes that nobody goes on with", capsys) as held:
        for _ in range(20):
            client = QuicMachine.dial(CREDENTIALS[0], SERVER, expected=None, wall=WALL, now=0.0)
            server = QuicMachine.accept(CREDENTIALS[1], original_id=client.remote_id, retry_id=None, wall=WALL, now=0.0)
            for data, _ in client.datagrams(0.0):
                server.receive_datagram(data, CLIENT, 0.01)
            server.datagrams(0.01)
            machines.append(server)
            del client
    assert held.bytes / 20 * HANDSHAKES_MAX < 64 * MIB


def test_gaps_in_a_handshake_cost_less_than_it_may_be_long(capsys: pytest.CaptureFixture[str]) -> None:
    client = QuicMachine.dial(CREDENTIALS[0], SERVER, expected=None, wall=WALL, now=0.0)
    library = client._library
    [stream] = [each for epoch, each in library._crypto_streams.items() if epoch.name == "INITIAL"]
    hello = bytes(stream.sender._buffer)
    server = QuicMachine.accept(CREDENTIALS[1], original_id=client.remote_id, retry_id=None, wall=WALL, now=0.0)
    ends = Pair(client, server)
    with cost("a handshake with gaps up to the bound", capsys) as held:
        stream.sender.write(bytes(HANDSHAKE_BYTES_MAX - len(hello)))
        stream.sender._pending.subtract(0, HANDSHAKE_BYTES_MAX - 100)
        for data, _ in client.datagrams(0.0):
            server.receive_datagram(data, CLIENT, 0.01)
    assert not server.ended
    assert held.bytes < 8 * HANDSHAKE_BYTES_MAX
    stream.sender.write(bytes(100))
    for data, _ in client.datagrams(10.0):
        server.receive_datagram(data, CLIENT, 10.0)
    ends.run(0.1)
    [ended] = ends.told(1, ConnectionEnded)
    assert isinstance(ended, ConnectionEnded)
    assert "a handshake of more than 32768 bytes" in str(ended.reason)


def test_gaps_in_streams_cost_less_than_the_window_of_a_connection(capsys: pytest.CaptureFixture[str]) -> None:
    ends, scopes = connected_pair()
    library = ends.client._library
    with cost("a hundred streams with gaps", capsys) as held:
        for _ in range(100):
            id = ends.client.streams.open()
            library.send_stream_data(id, b"!")
            ends.run(0.05)
            if ends.server.ended:
                break
            sender = library._streams[id].sender
            sender.write(bytes(WINDOW_INITIAL - 1))
            sender._pending.subtract(1, WINDOW_INITIAL - 1)
            library._remote_max_data_used = 0  # it does not care what it was allowed
        ends.run(0.2)
        for stream in library._streams.values():
            stream.sender._buffer.clear()  # what the author of the flood spends is not the matter
    assert ends.server._library.out_of_order <= CONNECTION_WINDOW
    assert scopes[1].used(Resource.BYTES) <= CONNECTION_WINDOW + 100 * 4 * KIB  # and the first bytes of each
    assert held.bytes < 3 * CONNECTION_WINDOW


def test_endless_connection_ids_are_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    ends, _ = connected_pair()
    library = ends.client._library
    write = library._write_connection_limits
    sequence = 8

    def flood(builder: object, space: object) -> None:
        nonlocal sequence
        for _ in range(10):
            buf: Buffer = builder.start_frame(  # type: ignore[attr-defined] # the library's
                QuicFrameType.NEW_CONNECTION_ID, capacity=NEW_CONNECTION_ID_FRAME_CAPACITY
            )
            buf.push_uint_var(sequence)
            buf.push_uint_var(sequence)
            buf.push_uint8(8)
            buf.push_bytes(secrets.token_bytes(8))
            buf.push_bytes(bytes(16))
            sequence += 1
        write(builder, space)  # type: ignore[arg-type] # passed on

    library._write_connection_limits = flood  # type: ignore[method-assign] # the flood
    rounds = 0
    with cost("connection ids without end", capsys) as held:
        while not ends.server.ended and rounds < 500:
            rounds += 1
            library.send_ping(0)
            for data, _ in library.datagrams_to_send(ends.now):
                ends.server.receive_datagram(data, CLIENT, ends.now)
            ends.now += 0.001
    assert held.bytes < 256 * KIB
    assert len(ends.server._library._peer_cid_sequence_numbers) <= 8
    assert len(ends.server._library._retire_connection_ids) <= 64
    assert ends.server.ended
