"""Reads matrix.toml and runs what it says."""

import secrets
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from interop.cells import CELLS, Pair, connect, made_up, say
from interop.driver import Peer
from tests.transports import certificates

HERE = Path(__file__).parent
SECRET_BYTES = 16
BELIEVED = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
"""Variables that name whose certificates a WebSocket over TLS believes: OpenSSL and Go, node."""
WITHOUT_HANDLERS = ("kubo",)
"""Kinds that cannot make up a protocol."""


class Direction(StrEnum):
    """Who dials."""

    OUT = "we dial"
    IN = "they dial"


class Outcome(StrEnum):
    """What became of a cell."""

    PASSED = "passed"
    FAILED = "failed"
    THEIRS = "their fault"
    """It failed as matrix.toml says that it does, with whose fault it is and the evidence."""
    ABSENT = "absent"
    """The peer has nothing of the kind."""


RED = frozenset({Outcome.FAILED})


@dataclass(frozen=True)
class Result:
    """A cell that was run, or why it was not."""

    peer: str
    line: str
    variant: str
    cell: str
    direction: str
    outcome: str
    seconds: float
    note: str = ""


class Matrix:
    """matrix.toml."""

    def __init__(self, path: Path = HERE / "matrix.toml") -> None:
        table: dict[str, Any] = tomllib.loads(path.read_text())
        self.peers: dict[str, Any] = table["peers"]
        self.lines: dict[str, Any] = table["lines"]
        self.variants: dict[str, Any] = table["variants"]
        self.sizes: dict[str, dict[str, int]] = table["sizes"]
        self._absent: list[dict[str, Any]] = table.get("absent", [])
        self._faults: list[dict[str, Any]] = table.get("faults", [])

    def absent(self, peer: str, line: str, variant: str, cell: str, direction: str) -> str | None:
        """Why there is nothing to run."""
        row = _about(self._absent, peer, line, variant, cell, direction)
        return None if row is None else str(row["why"])

    def fault(self, peer: str, line: str, variant: str, cell: str, direction: str) -> dict[str, Any] | None:
        """Why a cell fails, and what it shows then, if it is known to."""
        return _about(self._faults, peer, line, variant, cell, direction)

    def sizes_of(self, peer: str, line: str, form: str) -> dict[str, int]:
        """How much is moved in the cells of a peer: what `form` says, unless the peer is too slow for it, on all lines or on this."""
        row = self.peers[peer]
        return self.sizes[row.get("sizes_of", {}).get(line) or row.get("sizes", form)]

    def groups(self, peers: Sequence[str], *, short: bool = False) -> Iterator[tuple[str, str, str]]:
        """Peer, line, variant: both peers are started anew for each, and for each direction."""
        for peer in peers:
            row = self.peers[peer]
            for line in row.get("short", row["lines"]) if short else row["lines"]:
                how = self.lines[line]
                chosen = how.get("variants", row["variants"])
                if short:
                    chosen = how.get("short", chosen)
                for variant in row["variants"]:
                    if variant in chosen:
                        yield peer, line, variant


def _about(
    rows: list[dict[str, Any]], peer: str, line: str, variant: str, cell: str, direction: str
) -> dict[str, Any] | None:
    """The first row that speaks of this cell; what a row leaves out it says of all, and it may name several."""
    here = {"peer": peer, "line": line, "variant": variant, "direction": direction}

    def speaks(row: dict[str, Any]) -> bool:
        said = {key: row.get(key, here[key]) for key in here}
        return cell in row["cells"] and all(
            here[key] in value if isinstance(value, list) else here[key] == value for key, value in said.items()
        )

    return next((row for row in rows if speaks(row)), None)


class Run:
    """One pass over some groups of the matrix. `run` is called once for each, in any thread; the results are in `results`."""

    def __init__(self, matrix: Matrix, folder: Path, *, form: str, tell: Callable[[Result], None]) -> None:
        self._matrix = matrix
        self._folder = folder
        self._form = form
        self._tell = tell
        self.results: list[Result] = []

    def run(
        self,
        peer: str,
        line: str,
        variant: str,
        cells: Sequence[str] | None = None,
        directions: Sequence[Direction] = tuple(Direction),
    ) -> None:
        """All cells of one group, or those of them that are named."""
        row = self._matrix.variants[variant]
        chosen = [cell for cell in row["cells"] if cells is None or cell in cells]
        for direction in directions:
            todo = []
            for cell in chosen:
                why = self._matrix.absent(peer, line, variant, cell, direction)
                if why is None:
                    todo.append(cell)
                else:
                    self._add(Result(peer, line, variant, cell, direction, Outcome.ABSENT, 0.0, why))
            while todo:
                todo = self._run_some(peer, line, variant, direction, todo)

    def _run_some(self, kind: str, line: str, variant: str, direction: Direction, cells: list[str]) -> list[str]:
        """Cells one after the other between two fresh peers, until one fails; returns those that are left, for the next two."""
        began = time.monotonic()
        done = 0

        def judge(error: Exception | None) -> None:
            nonlocal done, began
            now = time.monotonic()
            self._judge(kind, line, variant, cells[done], direction, now - began, error)
            done, began = done + 1, now

        with ExitStack() as stack:
            try:
                pair = self._start(kind, line, variant, direction, stack)
                began = time.monotonic()
                connect(pair)
            except Exception as error:  # noqa: BLE001 - whatever it is, this cell is red, and the others are run
                while done < len(cells):
                    judge(error)
                return []
            try:
                while done < len(cells):
                    if cells[done] != "connect":
                        CELLS[cells[done]](pair)
                    judge(None)
            except Exception as error:  # noqa: BLE001 - whatever it is, this cell is red, and the others are run
                judge(error)
        return cells[done:]

    def _start(self, kind: str, line: str, variant: str, direction: Direction, stack: ExitStack) -> Pair:
        row, how = self._matrix.variants[variant], self._matrix.lines[line]
        options = ["--security", how["security"], "--muxer", how["muxer"]]
        environment = {}
        if "/tls/ws" in how["listen"]:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            certificates.write(folder)
            options += ["--certificates", str(folder)]
            environment = dict.fromkeys(BELIEVED, str(folder / "authority.pem"))
        known = {name: secrets.token_bytes(SECRET_BYTES) for name in ("ours", kind)}

        def start(name: str, *more: str) -> Peer:
            every = (*options, "--secret", known[name].hex())
            peer = Peer(name, name, *every, *more, listen=how["listen"], environment=environment)
            stack.callback(peer.quit)
            return peer

        other = start(kind, *row.get("options", ()))
        ours = start("ours")
        ours.ask("trace", answer="tracing")
        dialler, listener = (ours, other) if direction is Direction.OUT else (other, ours)
        name = "" if listener.kind in WITHOUT_HANDLERS else made_up()
        if name:
            say(listener, "handle", name, answer="handling")
        sizes = self._matrix.sizes_of(kind, line, self._form)
        return Pair(dialler, listener, ours, sizes, self._folder, name, row.get("speaks", ""), known)

    def _judge(
        self, peer: str, line: str, variant: str, cell: str, direction: str, seconds: float, error: Exception | None
    ) -> None:
        fault = self._matrix.fault(peer, line, variant, cell, direction)
        if error is None:
            outcome = Outcome.PASSED if fault is None else Outcome.FAILED
            note = "" if fault is None else f"it passes, but matrix.toml says that it fails: {fault['why']}"
        elif fault is None or fault["shows"] not in str(error):
            outcome, note = Outcome.FAILED, str(error) or repr(error)
        else:
            outcome, note = Outcome.THEIRS, f"{fault['why']} (here: {error})"
        self._add(Result(peer, line, variant, cell, direction, outcome, round(seconds, 3), note[:2000]))

    def _add(self, result: Result) -> None:
        self.results.append(result)
        self._tell(result)
