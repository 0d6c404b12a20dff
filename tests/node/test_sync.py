"""The node without `await`."""

import os
from pathlib import Path

from stack import SyncNode
from stack.files.events import FetchFinished


def test_a_script_shares_and_fetches(tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "f.bin").write_bytes(data)
    with SyncNode.open() as one, SyncNode.open(backend="trio") as two:
        ticket = one.share(tmp_path / "f.bin")
        assert two.get(ticket, tmp_path / "out").read_bytes() == data
        with two.fetch(ticket, tmp_path / "again") as events:
            assert isinstance(list(events)[-1], FetchFinished)
        cid = one.add(tmp_path / "f.bin")
        two.connect(one.addresses()[0])
        assert two.cat(cid, offset=10, length=5) == data[10:15]
        assert one.peer_id != two.peer_id
