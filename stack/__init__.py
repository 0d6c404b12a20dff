"""stack: a peer-to-peer network in Python that speaks the wire protocols of libp2p and IPFS.

The names below are what we promise; each is loaded when it is first used, so that `import stack` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.blocks.interfaces import BlockNotFound
    from stack.control.running import RunningNode
    from stack.errors import DecodeError, FetchError, NodeClosed, ProtocolError, StackError
    from stack.files.ticket import Ticket
    from stack.identity.peer_id import PeerId
    from stack.multiformats.cid import Cid
    from stack.multiformats.multiaddr import Multiaddr
    from stack.node.config import Config
    from stack.node.node import Node
    from stack.node.surface import AnyNode
    from stack.node.sync import SyncNode

__version__ = "0.1.0"

_HOMES = {
    "AnyNode": "stack.node.surface",
    "BlockNotFound": "stack.blocks.interfaces",
    "Cid": "stack.multiformats.cid",
    "Config": "stack.node.config",
    "DecodeError": "stack.errors",
    "FetchError": "stack.errors",
    "Multiaddr": "stack.multiformats.multiaddr",
    "Node": "stack.node.node",
    "NodeClosed": "stack.errors",
    "PeerId": "stack.identity.peer_id",
    "ProtocolError": "stack.errors",
    "RunningNode": "stack.control.running",
    "StackError": "stack.errors",
    "SyncNode": "stack.node.sync",
    "Ticket": "stack.files.ticket",
}

__all__ = [
    "AnyNode",
    "BlockNotFound",
    "Cid",
    "Config",
    "DecodeError",
    "FetchError",
    "Multiaddr",
    "Node",
    "NodeClosed",
    "PeerId",
    "ProtocolError",
    "RunningNode",
    "StackError",
    "SyncNode",
    "Ticket",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'stack' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
