"""What we promise to users is listed by hand, and nothing else."""

import subprocess
import sys

import pytest

import stack

PROMISED = {
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
}


def test_the_promised_names_are_there_and_no_others() -> None:
    assert set(stack.__all__) == PROMISED
    for name in stack.__all__:
        assert getattr(stack, name) is not None


@pytest.mark.usefixtures("unmeasured")
def test_importing_the_package_loads_no_heavy_module() -> None:
    heavy = "anyio,google.protobuf,cryptography,multihash,cid,click,sqlite3,trio,asyncio,segno,wsproto"
    code = f"import sys, stack; print([m for m in {heavy.split(',')!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
