"""An end of QUIC that shows what it should not: the rows of the table for TLS, in the handshake of QUIC."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from aioquic import tls
from aioquic.buffer import Buffer

from stack.transports.quic.library import Address, LibraryConnection
from stack.transports.quic.machine import QuicMachine
from tests.security.tls.forger import Show, sign
from tests.transports.quic.ends import CREDENTIALS, KEYS, SERVER


class Forging(LibraryConnection):
    """Believes everybody, and writes what `show` says into its handshake."""

    def __init__(self, show: Show, *, outbound: bool, original_id: bytes | None = None) -> None:
        super().__init__(CREDENTIALS[0], lambda shown: KEYS[1].public, outbound=outbound, original_id=original_id)
        self._show = show

    def connect(self, addr: Address, now: float) -> None:
        with self._forged():
            super().connect(addr, now)

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        with self._forged():
            super().receive_datagram(data, addr, now)

    @contextmanager
    def _forged(self) -> Iterator[None]:
        show = self._show
        push_certificate, push_finished = tls.push_certificate, tls.push_finished

        def certificate(buf: Buffer, shown: tls.Certificate) -> None:
            shown.certificates = [(data, b"") for data in show.certificates]
            push_certificate(buf, shown)

        def verify(buf: Buffer, proof: tls.CertificateVerify) -> None:
            side = "client" if self._is_client else "server"
            said = (show.context or f"TLS 1.3, {side} CertificateVerify").encode()
            transcript = self.tls.key_schedule.certificate_verify_data(b"")[65:]  # behind 64 blanks and a zero
            sent = show.verify(*sign(show.key, b" " * 64 + said + b"\0" + transcript))
            if sent is None:  # then there is no such message
                return
            scheme, signature = sent
            body = scheme.to_bytes(2) + len(signature).to_bytes(2) + signature
            buf.push_bytes(bytes((tls.HandshakeType.CERTIFICATE_VERIFY,)) + len(body).to_bytes(3) + body)

        def finished(buf: Buffer, end: tls.Finished) -> None:
            end.verify_data = show.finished or end.verify_data
            push_finished(buf, end)

        with (
            patch.object(tls, "push_certificate", certificate),
            patch.object(tls, "push_certificate_verify", verify),
            patch.object(tls, "push_finished", finished),
            patch("aioquic.quic.connection.CRYPTO_BUFFER_SIZE", 1 << 18),
        ):
            yield


def forger(show: Show, *, outbound: bool, original_id: bytes | None = None) -> QuicMachine:
    """A machine around it; one that dials has begun."""
    library = Forging(show, outbound=outbound, original_id=original_id)
    if outbound:
        library.connect(SERVER, 0.0)
    return QuicMachine(library, outbound=outbound, now=0.0)
