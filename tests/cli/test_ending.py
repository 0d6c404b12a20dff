"""How the process of a command ends."""

import atexit
import os
import sys

import pytest

import stack.cli
import stack.cli.app


class Ended(BaseException):
    """The process would be gone."""


@pytest.mark.parametrize(("said", "code"), [(4, 4), (None, 0), ("some words", 1)])
def test_a_command_ends_at_once_with_its_code_after_what_others_want_done_at_the_end(
    monkeypatch: pytest.MonkeyPatch, said: object, code: int
) -> None:
    done: list[object] = []

    def end(code: int) -> None:
        done.append(code)
        raise Ended

    def run() -> None:
        raise SystemExit(said)

    monkeypatch.setattr(sys, "argv", ["stack", "id"])
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: done.append("exit functions"))
    monkeypatch.setattr(stack.cli.app, "run", run)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr("gc.set_threshold", lambda number: None)
    with pytest.raises(Ended):
        stack.cli.main()
    assert done == ["exit functions", code]
