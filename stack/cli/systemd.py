"""What a daemon and systemd say to each other: the unit that runs it, and that it is ready (`sd_notify(3)`, one datagram)."""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

RESTART_SECONDS = 10
CARRIED = ("STACK_HOME", "PYTHONPATH")
"""Variables without which the daemon of the unit would be another one than that of the shell that asked for it."""


def unit(flags: Sequence[str]) -> list[str]:
    """Lines of a unit for `systemctl --user` that runs the daemon of this home with these flags."""
    command = " ".join(map(_word, (sys.executable, "-P", "-m", "stack", "daemon", *flags))).replace("$", "$$")
    kept = [f"Environment={_word(f'{name}={_absolute(name)}')}" for name in CARRIED if os.environ.get(name)]
    return [
        "[Unit]",
        "Description=stack: shares and fetches files, peer to peer",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={command}",
        *kept,
        "Restart=on-failure",
        f"RestartSec={RESTART_SECONDS}",
        "# A mistake in the settings does not mend itself.",
        "RestartPreventExitStatus=2",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]


def _absolute(name: str) -> str:
    return os.pathsep.join(os.path.abspath(os.path.expanduser(part)) for part in os.environ[name].split(os.pathsep))


def _word(text: str) -> str:
    """As systemd reads it back."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if escaped.replace("/", "").replace("-", "").replace(".", "").isalnum() else f'"{escaped}"'


def tell(state: str) -> None:
    """Tell whoever started this process as a service; without one, nobody."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), place.replace("@", "\0", 1) if place.startswith("@") else place)
