"""What people type, paste or pipe to name content: a ticket or a CID, with a path below it. Pure.

What stands around it in mail, chat and links is undone in `pasted.py`, in one place, so that every command and program reads the same.
"""

from stack.dag.unixfs.names import printable
from stack.errors import DecodeError
from stack.files.ticket import SCHEME, Ticket, decode_ticket
from stack.multiformats.cid import Cid
from stack.values import dataclass

SOURCE_MAX = 64 * 1024
"""Characters that are looked at: a whole mail with a ticket in it, or a path of 4,096 bytes with all of them escaped."""

SHOWN_MAX = 60
"""Characters of what was typed that an error repeats."""

LIBP2P_KEY = 0x72
"""The codec of an IPNS name."""


class NotASource(DecodeError):
    """This text names no content; the message is made for whoever typed it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Content that was named. `str` gives the plain form, which reads as the same again."""

    root: Cid
    path: str = ""
    """Names below the root with slashes between them, as they are in the directories."""
    ticket: Ticket | None = None
    ticket_text: str = ""

    def __str__(self) -> str:
        whole = self.ticket_text or self.root.text
        return f"{whole}/{self.path}" if self.path else whole


def read_source(text: str) -> Source:
    """What this text names: `TICKET`, `CID`, either with `/PATH`, `/ipfs/...`, `ipfs://...`, a gateway's URL, a link with a ticket
    behind its `#`; bare, or as it comes out of a mail. Raises TicketError for a damaged ticket, else NotASource."""
    plain = _plain(text)
    if plain is not None:
        return plain
    from stack.files.pasted import read_pasted  # here: most of what is read is plain

    return read_pasted(text)


def _plain(text: str) -> Source | None:
    """A ticket or a CID with nothing around it and no path; None for anything else."""
    letters = text.removeprefix(SCHEME)
    if len(text) > SOURCE_MAX or not (letters.isascii() and letters.isalnum()):
        return None
    try:
        if letters != text:
            ticket = decode_ticket(text)
            return Source(ticket.root, "", ticket, text.lower())
        cid = Cid.parse(text)
    except DecodeError:
        return None
    return Source(cid) if cid.codec != LIBP2P_KEY else None


def shown(text: str) -> str:
    """What was typed, for an error: not too long, and with nothing in it that a terminal would obey."""
    return printable(text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "...")
