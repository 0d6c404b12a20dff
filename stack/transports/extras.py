"""What is not there unless it was asked for at installation."""

from stack.multiformats.multiaddr import Multiaddr

QUIC = "QUIC is not installed: pip install 'p2p-stack[quic]'"


def has_quic() -> bool:
    """The extra `quic` is there."""
    from importlib.util import find_spec

    return find_spec("aioquic") is not None


def lacking(address: Multiaddr) -> str:
    """Why no transport knows this address, in words for users."""
    if address.protocols[-1:] == ("quic-v1",) and not has_quic():
        return QUIC
    return "no transport for this address"
