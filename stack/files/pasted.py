"""A ticket or a CID out of what stands around it. Pure.

Mail and chat wrap lines, quote, put brackets and full stops around a ticket, and hide characters in it; a browser escapes paths.
"""

import re
from contextlib import suppress
from itertools import islice
from urllib.parse import unquote, urlsplit

from stack.errors import DecodeError
from stack.files.sources import LIBP2P_KEY, SOURCE_MAX, NotASource, Source, shown
from stack.files.ticket import SCHEME, TEXT_MAX, TicketCutOff, TicketError, TicketMistyped, decode_ticket
from stack.multiformats.cid import Cid

CANDIDATES_MAX = 16
"""Places in a text where a ticket seems to begin that are tried."""

WRAPPERS_MAX = 8
"""Pairs of brackets and quotes around each other."""

CID_LETTERS_MIN = 46
"""Of a CID that is found in a longer text: the shortest of those that name what people share."""

TICKET_LIKE = 60
"""Letters from which a text without `stack:` is taken for a damaged ticket, if it begins as all tickets do."""

_HIDDEN = "\u00ad\u180e\u2010-\u2015\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_HIDDEN_CHARACTERS = re.compile(f"[{_HIDDEN}]")
_COLON = "(?::|\uff1a|[%=]3a)"
_SCHEME = re.compile(
    f"[{_HIDDEN}]*".join(SCHEME.removesuffix(":")) + rf"[\s{_HIDDEN}]*{_COLON}[{_HIDDEN}]*(?://|(?:%2f){{2}})?",
    re.IGNORECASE,
)
"""Also with its colon escaped, as in a link, or in the width of Chinese letters."""
_BARE = re.compile(r"(?<![a-z2-7])a[a-z2-7]{7}", re.IGNORECASE)
"""Where a ticket may begin without `stack:`: its first five bits are zero, as the version is a small number."""
_RUN = re.compile(rf"[a-z2-7\s{_HIDDEN}-]*", re.IGNORECASE)
"""What may be a ticket, with the blanks, hyphens and hidden characters that do not matter in one."""
_QUOTED = re.compile(r"^[ \t]*(?:[>|][ \t]?)+", re.MULTILINE)
_SOFT_BREAK = re.compile(r"=\r?\n")
"""How quoted-printable mail breaks a long line."""
_COMMAND = re.compile(r"(?:[$%#]\s*)?(?:stack|ipfs)\s+(?:get|cat|ls|receive)\s+", re.IGNORECASE)
_PAIRS = {"<": ">", '"': '"', "'": "'", "`": "`", "(": ")", "[": "]", "{": "}", "“": "”", "„": "“", "«": "»", "‘": "’"}
_BEHIND = ".,;:!?"
_AROUND = "".join({*_PAIRS, *_PAIRS.values(), *_BEHIND})
_BLANKS = " \t\r\n\v\f\u00a0\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2060\ufeff"
_IPFS_URL = re.compile(r"(?:web\+|dweb:/)?(?P<space>ip[fn]s):/*(?:(?P<inner>ip[fn]s)/)?", re.IGNORECASE)
_IPFS_PATH = re.compile(r"(?:dweb:)?/?(?P<space>ip[fn]s)/", re.IGNORECASE)
_BARE_HOST = re.compile(r"[\w.-]+(?::\d+)?/ip[fn]s/\w{46}|[\w-]{46,}\.ip[fn]s\.", re.IGNORECASE)
"""A gateway's URL as browsers show it, without `https://`."""
_ESCAPED_URL = re.compile(r"(?:https?|ip[fn]s)%3a%2f%2f", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s<>()\[\]{}\"'`|,;]+")
_GATEWAY_HOST = re.compile(r"(?P<name>[^.]+)\.(?P<space>ipfs|ipns)\.", re.IGNORECASE)


def read_pasted(text: str) -> Source:
    """As `read_source`, also for what is not plain."""
    if len(text) > SOURCE_MAX:
        raise NotASource(f"{len(text)} characters are no ticket and no CID")
    text = _unquoted(text)
    bare = _unwrapped(text)
    if not bare:
        raise NotASource("no ticket and no CID was given")
    return _of_whole(bare) or _of_ticket(bare) or _of_part(text) or _refuse(bare)


def _of_whole(bare: str) -> Source | None:
    """A CID, or what has one in a known place; None for anything else."""
    if _ESCAPED_URL.match(bare):
        bare = _unescaped(bare)
    if bare[:8].lower().startswith(("http://", "https://")):
        return _of_url(bare)
    if found := _IPFS_PATH.match(bare):
        return _of_cid(bare[found.end() :], found["space"])
    if found := _IPFS_URL.match(bare):
        return _of_ipfs_url(bare, bare[found.end() :], found["inner"] or found["space"])
    if _BARE_HOST.match(bare):
        return _of_url("https://" + bare)
    try:
        return _of_cid(bare)
    except NotASource:
        raise
    except DecodeError:
        return None


def _of_part(text: str) -> Source | None:
    """The first CID in a longer text, or the first URL with one."""
    words = [word.strip(_AROUND) for word in _BETWEEN.split(text) if len(word) >= CID_LETTERS_MIN]
    for word in words[:CANDIDATES_MAX]:
        try:
            found = _of_whole(word)
        except DecodeError:
            continue
        if found is not None:
            return found
    return None


def _unquoted(text: str) -> str:
    """Without the marks and soft line breaks of mail."""
    return (
        _QUOTED.sub("", _SOFT_BREAK.sub("", text)) if "\n" in text or text.lstrip(_BLANKS)[:1] in (">", "|") else text
    )


def _unwrapped(text: str) -> str:
    """Without what stands around the whole: blanks, brackets, quotes, the command that it was pasted with. Blanks at the end stay, as
    a name may have them."""
    text = text.lstrip(_BLANKS).rstrip("\r\n")
    for _ in range(WRAPPERS_MAX):
        closer = _PAIRS.get(text[:1])
        command = _COMMAND.match(text)
        if closer is not None:
            inner = text[1:].rstrip(_BLANKS + _BEHIND)
            text = (inner[: -len(closer)] if inner.endswith(closer) else text[1:]).lstrip(_BLANKS)
        elif command is not None:
            text = text[command.end() :].lstrip(_BLANKS)
        else:
            break
    return text


def _of_cid(text: str, space: str = "ipfs") -> Source:
    """`CID` or `CID/path`. Raises NotASource for an IPNS name, DecodeError for what is no CID."""
    head, slash, path = text.partition("/")
    bare = "".join(_HIDDEN_CHARACTERS.sub("", head).split())
    cid = Cid.parse(bare if slash else bare.rstrip(_AROUND)) if space.lower() != "ipns" else None
    if cid is None or cid.codec == LIBP2P_KEY:
        raise NotASource(f"{shown(head)} is an IPNS name; fetching is by CID, which does not change: ask for that one")
    return Source(cid, path.strip("/"))


def _of_ipfs_url(text: str, rest: str, space: str) -> Source:
    """`ipfs://CID/path`: the path is escaped, as in every URL."""
    try:
        return _of_cid(_unescaped(re.split(r"[?#]", rest, maxsplit=1)[0]), space)
    except NotASource:
        raise
    except DecodeError as error:
        raise NotASource(f"{shown(text)} names no CID") from error


def _of_url(text: str) -> Source | None:
    """A gateway's URL, by path or by host name; None for another one."""
    address, _, fragment = text.partition("#")
    if _SCHEME.search(fragment) is not None:
        return None  # a link to a ticket, whatever the page is
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return None
    named = _GATEWAY_HOST.match(host)
    segments = parts.path.split("/", 3)
    if named is not None:
        space, rest = named["space"], named["name"] + parts.path
    elif len(segments) > 2 and segments[1] in ("ipfs", "ipns"):
        space, rest = segments[1], "/".join(segments[2:])
    else:
        return None
    try:
        return _of_cid(_unescaped(rest), space)
    except NotASource:
        raise
    except DecodeError as error:
        raise NotASource(f"{shown(text)} names no CID") from error


def _unescaped(text: str) -> str:
    """Raises NotASource when what is escaped is no text."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise NotASource(f"{shown(text)} has an escape in it that is no text") from error


def _of_ticket(text: str) -> Source | None:
    """The whole ticket in a text, with or without `stack:`; None where there is nothing like one. Raises TicketError, and NotASource
    where there are several, of different contents."""
    problem: TicketError | None = None
    tickets: dict[Cid, Source] = {}
    for found in islice(_SCHEME.finditer(text), CANDIDATES_MAX):
        closer = _PAIRS.get(text[found.start() - 1 : found.start()], "")
        rest = text[found.end() :]
        try:
            source = _ticket_at(rest.partition(closer)[0] if closer else rest)
            tickets.setdefault(source.root, source)
        except TicketError as error:
            problem = problem or error
    if not tickets and problem is None:
        bare = _bare_ticket(text)
        if bare is None:
            return None
        tickets[bare.root] = bare
    if not tickets:
        assert problem is not None
        raise problem
    for found in islice(_BARE.finditer(text), CANDIDATES_MAX):
        with suppress(TicketError):
            source = _ticket_at(text[found.start() :])
            tickets.setdefault(source.root, source)
    if len(tickets) > 1:
        raise NotASource(f"these are {len(tickets)} tickets: one at a time")
    return next(iter(tickets.values()))


def _bare_ticket(text: str) -> Source | None:
    """The ticket with which a text begins, without `stack:`; None where it begins with nothing like one. Raises TicketError."""
    try:
        return _ticket_at(text)
    except TicketError:
        letters = "".join(_HIDDEN_CHARACTERS.sub("", text.partition("/")[0]).split()).rstrip(_AROUND)
        # The first five bits of a ticket are zero: the version is a small number.
        if len(letters) >= TICKET_LIKE and letters[0] in "aA" and _RUN.fullmatch(letters) is not None:
            raise
        return None


def _ticket_at(text: str) -> Source:
    """The ticket whose letters stand at the start of a text, and the path behind them. Raises TicketError."""
    run = _RUN.match(text)
    assert run is not None  # it matches nothing, too
    words = _HIDDEN_CHARACTERS.sub("", run[0]).split()
    letters = ""
    for number, word in enumerate(words, start=1):
        letters += word.replace("-", "").lower()
        if len(letters) > TEXT_MAX:
            break
        try:
            ticket = decode_ticket(SCHEME + letters)
        except (TicketCutOff, TicketMistyped):
            continue  # there may be more of it behind the next blank
        path = _path_behind(text[run.end() :]) if number == len(words) else ""
        return Source(ticket.root, path, ticket, SCHEME + letters)
    first = _HIDDEN_CHARACTERS.sub("", text.split("\n\n")[0].partition("/")[0]).strip(_BLANKS).rstrip(_AROUND)
    ticket = decode_ticket(SCHEME + first)  # says what is wrong with it
    return Source(ticket.root, "", ticket, SCHEME + first)


def _path_behind(text: str) -> str:
    """What follows a ticket: a path if a slash does, else nothing of ours."""
    if not text.startswith("/"):
        return ""
    return text.rstrip("\r\n").strip("/")


def _refuse(text: str) -> Source:
    """Raises NotASource, always."""
    head = text.partition("/")[0]
    why = ""
    if len(head) >= TICKET_LIKE // 2 and head.isalnum():
        try:
            Cid.parse(head)
        except DecodeError as error:
            why = f": {error}"
    raise NotASource(f"{shown(text)} is no ticket (those begin with {SCHEME}) and no CID{why}")
