"""A TCP relay on loopback: it makes a fetch last long enough to be disturbed, and it can cut connections."""

import socket
import threading
from types import TracebackType

PIECE = 64 * 1024


class Relay:
    """Passes connections on to `host:port`, each direction of all together at most `rate` bytes a second. A context."""

    def __init__(self, port: int, rate: float, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._rate = rate
        self._stop = threading.Event()
        self._turn = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed = 0
        """Bytes that went from the target to those who connected."""

    def address(self, peer_id: str) -> str:
        """The multiaddr at which the peer behind the relay is dialled."""
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{peer_id}"

    def __enter__(self) -> "Relay":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections; new ones are accepted."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for item in sockets:
            try:
                item.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already, which is what was wanted

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for end in (near, far):
                # small buffers, so that what is sent has nearly arrived when it is counted
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
            with self._lock:
                self._sockets |= {near, far}
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        try:
            while data := source.recv(PIECE):
                if limited:
                    with self._turn:
                        self._stop.wait(len(data) / self._rate)
                        self.passed += len(data)
                sink.sendall(data)
        except OSError:
            pass  # one end has gone: the other is told below
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed by the other direction already
        source.close()
        with self._lock:
            self._sockets -= {source, sink}
