"""What a person sees of a share: how others get it, and who is where."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from stack.cli import output
from stack.cli.live import columns_of, rows_of
from stack.multiformats.cid import Cid
from stack.multiformats.multiaddr import Multiaddr
from stack.node.api import Api, GetTicket, SendProgress, ShareProgress, SourceLost

RECEIVERS_SHOWN = 4
"""Lines for receivers; more would push away what stands above."""

ROWS_KEPT = 12
"""Of a screen, for what is said besides a QR code."""

INK, PAPER = "38;5;16", "48;5;231"
"""Black on white, whatever the terminal's colours are: readers do not take the opposite."""


async def who_keeps(api: Api, root: Cid) -> str:
    """A sentence about what goes on being served when the command ends that serves it; empty where that ends it."""
    if not any(info.kept for info in await api.ask(GetTicket(target=root.text, path=Path(root.text)))):
        return ""
    where = ", and the node that runs serves it" if api.is_elsewhere else " for its next node"
    return f"The home keeps the share{where}: `stack shares rm` ends it."


def serving(begun: str, kept: str, *, once: bool = False) -> str:
    """What a command says that stays, and what Ctrl-C ends: `kept` is of `who_keeps`."""
    ends = "this command" if kept else "it"
    line = (
        f"{begun} until a receiver has all of it; Ctrl-C ends {ends} sooner."
        if once
        else f"{begun}; Ctrl-C ends {ends}."
    )
    return f"{line} {kept}".rstrip()


def show_qr(ticket: str, *, always: bool) -> None:
    """A QR code on stderr, where it fits beside the rest, or in any case."""
    import segno

    code = segno.make(ticket.upper(), error="l")
    modules = [list(row) for row in code.matrix_iter(border=2)]
    rows, columns = (len(modules) + 1) // 2, len(modules[0])
    terminal = sys.stderr.fileno()
    if not always and (columns >= columns_of(terminal) or rows + ROWS_KEPT > rows_of(terminal)):
        return
    for line in qr_lines(modules):
        sys.stderr.write(f"{line}\n")


def qr_lines(modules: Sequence[Sequence[int]]) -> list[str]:
    """Two rows of modules in a line of text."""
    blank = [0] * len(modules[0])
    lines = []
    for top in range(0, len(modules), 2):
        below = modules[top + 1] if top + 1 < len(modules) else blank
        text = "".join(" ▄▀█"[2 * bool(upper) + bool(lower)] for upper, lower in zip(modules[top], below, strict=True))
        lines.append(f"\x1b[{INK};{PAPER}m{text}\x1b[0m")
    return lines


class ServingScreen:
    """Facts: `met` for connections, `show` for each step."""

    def __init__(self, bar: output.Progress, size: int) -> None:
        self.bar = bar
        self._size = size
        self._names: dict[str, str] = {}
        self._hosts: dict[str, str] = {}
        self._sent: dict[str, int] = {}
        self._complete: set[str] = set()
        self._had: set[str] = set()
        bar.wait("nobody has asked yet")

    @property
    def has_begun(self) -> bool:
        """Something went out to somebody, or he has it already."""
        return bool(self._sent or self._had)

    def is_new(self, peer_id: str) -> bool:
        """Whether nothing is known of this receiver yet."""
        return peer_id not in self._names

    def met(self, peer_id: str, address: Multiaddr | None) -> None:
        """Where a receiver is."""
        host = None if address is None else address.get("ip4") or address.get("ip6")
        self._hosts[peer_id] = host or ""
        self._names[peer_id] = f"{host} ({output.short_peer(peer_id)})" if host else output.short_peer(peer_id)

    def show(self, step: ShareProgress) -> None:
        """Something has changed."""
        if isinstance(step, SourceLost):
            self.bar.say(_lost(step))
            return
        if step.needless and self._size and step.peer_id not in self._sent:
            self._show_needless(step)
            return
        self._sent[step.peer_id] = step.bytes_sent
        if step.complete and step.peer_id not in self._complete:
            self._complete.add(step.peer_id)
            self.bar.say(f"{time.strftime('%H:%M')} a whole copy is at {self._names.get(step.peer_id, step.peer_id)}")
        copies = len(self._complete)
        whole = f", {copies} whole cop{'y' if copies == 1 else 'ies'}" if copies else ""
        rows = [self._row(peer) for peer in list(self._sent)[-RECEIVERS_SHOWN:] if peer not in self._complete]
        self.bar.sent(sum(self._sent.values()), f"to {output.count(len(self._sent), 'peer')}{whole}", rows)

    def _show_needless(self, step: SendProgress) -> None:
        if step.peer_id in self._had:
            return
        self._had.add(step.peer_id)
        what = "all of it" if step.complete else "all that it wanted"
        self.bar.say(f"{time.strftime('%H:%M')} {self._names.get(step.peer_id, step.peer_id)} has {what} already")
        if not self._sent:
            self.bar.wait("nothing was asked for yet")

    def farewell(self) -> str:
        """What went out, when it is over."""
        had = f"{output.count(len(self._had), 'peer')} had all that was wanted already" if self._had else ""
        copies = len(self._complete)
        whole = f"{copies} whole cop{'y' if copies == 1 else 'ies'}" if copies else "no whole copy"
        sent = f"sent {output.size(sum(self._sent.values()))} to {output.count(len(self._sent), 'peer')}, {whole}"
        if not self._sent:
            return f"nothing was sent: {had}" if had else "nobody has fetched it"
        return f"{sent}; {had}" if had else sent

    def _row(self, peer: str) -> str:
        part = min(99, 100 * self._sent[peer] // self._size) if self._size else 0
        host = self._hosts.get(peer, "")
        is_alone = list(self._hosts.values()).count(host) == 1
        return f"  {part} % sent to {host if host and is_alone else self._names.get(peer, peer)}"


def _lost(step: SourceLost) -> str:
    if step.gone:
        return f"{step.path} is gone; it is no longer served. If it has moved, `stack share` its new place."
    return f"{step.path} changed after it was shared; it is no longer served. Run `stack share` on it again."
