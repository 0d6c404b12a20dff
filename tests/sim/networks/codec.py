"""RPCs of gossipsub travel as bytes. The same bytes are read once, and a message that is passed on is written once: what
1,000 nodes would each do is done once for all of them, with the real encoder and decoder.
"""

from stack.gossipsub.decoding import decode_rpc
from stack.gossipsub.messages import Message, Rpc, encode_rpc

CACHED_MAX = 50_000
"""Entries of each table; then it starts anew. About 50 MB."""


class RpcCodec:
    """Commands: `encode`, `decode`."""

    def __init__(self) -> None:
        self._decoded: dict[bytes, Rpc] = {}
        self._written: dict[int, tuple[Message, bytes]] = {}
        """By identity; the message is kept beside its bytes, so that no other one can take its place in memory."""
        self._last: tuple[Rpc, bytes] = (Rpc(), b"")

    def encode(self, rpc: Rpc) -> bytes:
        """The bytes of an RPC."""
        last, data = self._last
        if rpc is last:
            return data
        if len(rpc.publish) == 1 and rpc.control is None and not rpc.subscriptions:
            message = rpc.publish[0]
            known = self._written.get(id(message))
            if known is None:
                if len(self._written) >= CACHED_MAX:
                    self._written.clear()
                known = self._written[id(message)] = (message, encode_rpc(rpc))
            data = known[1]
        else:
            data = encode_rpc(rpc)
        self._last = (rpc, data)
        return data

    def decode(self, data: bytes) -> Rpc:
        """The RPC in these bytes. Raises RemoteProtocolError."""
        rpc = self._decoded.get(data)
        if rpc is None:
            if len(self._decoded) >= CACHED_MAX:
                self._decoded.clear()
            rpc = self._decoded[data] = decode_rpc(data)
        return rpc
