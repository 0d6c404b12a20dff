"""What we use of aioquic by private names is still there, and does what we think."""

import pytest
from aioquic import tls
from aioquic.quic.connection import QuicConnection
from aioquic.quic.stream import QuicStream

from stack.transports.quic.library import STREAMS_MAX, LibraryConnection
from tests.transports.quic.ends import CREDENTIALS, KEYS, SERVER, connected_pair

NAMES = {
    QuicConnection: (
        "_initialize",
        "_handle_crypto_frame",
        "_write_connection_limits",
        "_write_stream_limits",
        "_on_connection_limit_delivery",
        "_on_max_stream_data_delivery",
    ),
    tls.Context: ("_set_peer_certificate", "_server_handle_certificate"),
}


@pytest.mark.parametrize("owner", NAMES, ids=lambda owner: owner.__name__)
def test_the_methods_we_replace_are_those_of_the_library(owner: type) -> None:
    for name in NAMES[owner]:
        assert callable(getattr(owner, name)), name


def test_the_fields_we_read_are_those_of_the_library() -> None:
    connection = LibraryConnection(CREDENTIALS[0], lambda shown: KEYS[1].public, outbound=True)
    connection.connect(SERVER, 0.0)
    for name in (
        "_close_event", "_state", "_local_max_data", "_local_max_streams_bidi", "_local_max_streams_uni", "_loss",
        "_streams", "_remote_max_data", "_remote_max_data_used", "_network_paths", "_is_client",
    ):  # fmt: skip
        assert name in vars(connection), name
    assert connection.tls._request_client_certificate is False
    stream = QuicStream(stream_id=0)
    for name in ("is_blocked", "max_stream_data_remote", "max_stream_data_local", "max_stream_data_local_sent"):
        assert name in vars(stream), name
    for name in (
        "_buffer",
        "_buffer_stop",
        "_buffer_fin",
        "_acked",
        "_reset_error_code",
        "highest_offset",
        "is_finished",
    ):
        assert name in vars(stream.sender), name
    for name in ("_buffer", "highest_offset", "is_finished"):
        assert name in vars(stream.receiver), name


def test_a_server_asks_for_the_clients_certificate() -> None:
    ends, _ = connected_pair()
    assert ends.server._library.tls._request_client_certificate is True
    assert ends.server._library.tls._peer_certificate is not None
    assert ends.server._library.remote_key == KEYS[0].public


def test_no_more_is_granted_than_was_read() -> None:
    ends, _ = connected_pair()
    id = ends.client.streams.open()
    ends.client.streams.send(id, bytes(1 << 20))
    ends.run(1)
    assert ends.server._library._streams[id].max_stream_data_local == 256 * 1024
    assert ends.server._library._local_max_streams_bidi.value == STREAMS_MAX
    assert ends.server._library._local_max_streams_uni.value == 0
