"""What the environment says to a command besides settings, and what in it is a slip of the pen."""

import os
from collections.abc import Mapping

from stack.cli.output import note
from stack.errors import ConfigError

PREFIX = "STACK_"

ALONE = {
    "STACK_HOME": "the home",
    "STACK_LOG": "`debug`, `info`, `warning` or `error`; what is logged on stderr, and by a daemon in `daemon.log` of its home",
    "STACK_TICKET": "what `stack get` fetches, so that a ticket is not seen in the list of processes",
    "STACK_BACKEND": "`asyncio` or `trio`",
}
"""In the environment only."""

OTHERS = frozenset(
    f"{PREFIX}{name}"
    for name in (
        # the tests, benches and interop runs of this project
        *("KUBO", "CROC", "WORMHOLE", "LIBTORRENT", "INTEROP_ALL", "INTEROP_CACHE", "INTEROP_MIB"),
        *("SIM_JOBS", "LAB_SEEDS", "START_SLACK", "FUZZ_SECONDS", "GOSSIPSUB_FUZZ_STEPS"),
        # the build tool of Haskell, which has the same name
        *("ROOT", "WORK", "YAML", "XDG", "GLOBAL_CONFIG"),
    )
)
"""Not for a command, and no mistake either; `STACK_PEER_` and the name of an implementation is one more."""

SHOWN_MAX = 5
"""Of such names, in one sentence."""


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def asked_level(environment: Mapping[str, str] = os.environ) -> str | None:
    """What `STACK_LOG` says; None where it says nothing. Raises ConfigError for what is none of `LEVELS`."""
    asked = environment.get("STACK_LOG", "")
    if not asked or asked.upper() in LEVELS:
        return asked.upper() or None
    from difflib import get_close_matches

    names = [level.lower() for level in LEVELS]
    close = get_close_matches(asked.lower(), names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"STACK_LOG: {asked[:80]!r} is not one of {', '.join(names)}{hint}")


def warn(environment: Mapping[str, str] = os.environ) -> None:
    """Say on stderr which variables look as if they were for a command, and are not."""
    names = [name for name in environment if name.startswith(PREFIX) and name not in ALONE and name not in OTHERS]
    if names:
        unknown = _unknown(names)
        more = f" and {len(unknown) - SHOWN_MAX} more" if len(unknown) > SHOWN_MAX else ""
        if unknown:
            note(f"warning: not heeded in the environment: {', '.join(unknown[:SHOWN_MAX])}{more}")


def _unknown(names: list[str]) -> list[str]:
    """Those that are none, each with the nearest that is one."""
    from stack.node.settings import SETTINGS, variable

    known = [*ALONE, *map(variable, SETTINGS)]
    unknown: list[str] = []
    for name in sorted(names):
        if name not in known and not name.startswith(f"{PREFIX}PEER_"):
            from difflib import get_close_matches  # here: most names are right

            close = get_close_matches(name, known, n=1, cutoff=0.8)
            shown = name if len(name) <= 80 else f"{name[:80]}..."
            unknown.append(f"{shown} (did you mean {close[0]}?)" if close else shown)
    return unknown
