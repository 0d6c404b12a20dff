"""The process that forks nodes: it holds nothing that a child should not inherit, no event loop, no connection."""

import json
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stack.node.config import Config
from tests.lab import node
from tests.lab.switch import die_with_parent


class Mother:
    """Forks nodes and waits for them. To be made before anything else is opened."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            ours.close()
            try:
                die_with_parent()
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._lines = ours.makefile("rw")
        ours.close()

    def start(self, config: Config, namespace: str, backend: str, log: Path) -> int:
        """Fork a node; its process id."""
        form = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
        return int(self._ask(["start", form, namespace, backend, str(log)]))

    def exits(self) -> dict[int, int]:
        """How nodes ended that have since the last call: exit code, or minus the signal."""
        return {int(pid): code for pid, code in self._ask(["exits"]).items()}

    def close(self) -> None:
        """End, and with it all nodes that live."""
        self._lines.close()
        os.waitpid(self._pid, 0)

    def _ask(self, question: list[object]) -> Any:
        self._lines.write(json.dumps(question) + "\n")
        self._lines.flush()
        return json.loads(self._lines.readline())


def _serve(end: socket.socket) -> None:
    lines = end.makefile("rw")
    for line in lines:
        question = json.loads(line)
        if question[0] == "start":
            form = question[1]
            for name in ("home", "swarm_key"):
                form[name] = Path(form[name]) if form[name] else None
            config = Config(
                **{name: tuple(value) if isinstance(value, list) else value for name, value in form.items()}
            )
            sys.stdout.flush()
            answer: object = node.start(config, question[2], question[3], Path(question[4]))
        else:
            answer = {}
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if not pid:
                    break
                answer[pid] = os.waitstatus_to_exitcode(status)  # type: ignore[index]
        lines.write(json.dumps(answer) + "\n")
        lines.flush()
