"""Whole nodes over lines that fail at any moment: who dials again has the file."""

from pathlib import Path

import pytest

from stack import Config, Node
from stack.multiformats.multiaddr import Multiaddr
from stack.node import build
from stack.sansio.budget import Resource
from stack.streams.supervision import TaskFailed
from stack.testing.conformance.faults import FaultConformance
from stack.testing.lines import Line, LineTransport, RawLineStream, Wire, line_stream_pair
from stack.trace import TraceEvent

CONTENT = (bytes(range(256)) * 1024 + bytes(256 * 1024)) * 2 + bytes(range(256)) * 1024 + b"end"
"""Equal blocks, zeros, and a short last one."""


class OnceBad(LineTransport):
    """Its first connection runs over the line that was asked for, the others over one that only takes its time."""

    def _make_pair(self, first: Multiaddr, second: Multiaddr) -> tuple[RawLineStream, RawLineStream]:
        line = Line() if self.wires else self.line
        ends = line_stream_pair(first, second, line, number=len(self.wires))
        self.wires.append(ends[0].wire)
        return ends


class TestNodes(FaultConformance):
    moments = 3
    security: tuple[str, ...] = ("noise",)

    @pytest.fixture(autouse=True)
    def _prepare(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = tmp_path, monkeypatch
        (tmp_path / "film").write_bytes(CONTENT)
        self.number = 0

    async def talk(self, line: Line, wires: list[Wire]) -> None:
        self.number += 1
        target = self.folder / f"copy {self.number}"
        transport = OnceBad(line)
        transport.wires = wires
        self.patch.setattr(build, "transports", lambda: [transport])
        config = Config(listen=("/memory/0",), pubsub=False, security=self.security)
        self.faults: list[TaskFailed] = []

        def trace(event: TraceEvent) -> None:
            if isinstance(event, TaskFailed):
                self.faults.append(event)

        async with Node.open(config) as sharer, Node.open(config) as receiver:
            self.nodes = sharer, receiver
            for node in self.nodes:
                node.trace.add(trace)
            ticket = await sharer.share(self.folder / "film")
            got = await receiver.get(ticket, target)
            assert got.read_bytes() == CONTENT

    def check(self) -> None:
        assert self.faults == []
        for node in self.nodes:
            assert [node.host.budget.used(resource) for resource in Resource] == [0] * len(Resource)


class TestNodesByTls(TestNodes):
    moments = 1
    security = ("tls",)
