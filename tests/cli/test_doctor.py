"""`doctor` says ok only of what it looked at (point 51)."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.cli import doctor as module
from stack.cli.doctor import _home, _network, _of_discovery
from stack.node.api import DiscoveryFact
from stack.node.config import Config


def verdicts(addresses: list[str]) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in _network(addresses)}


def test_a_computer_that_has_no_network_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was `ok` twice for a machine with loopback only."""
    monkeypatch.setattr(module, "_bind", lambda family, host: None)
    assert verdicts(["127.0.0.1", "::1", "fe80::1"]) == {"IPv4": "warning", "IPv6": "warning", "network": "warning"}
    assert verdicts([]) == {"IPv4": "warning", "IPv6": "warning", "network": "warning"}
    assert verdicts(["127.0.0.1", "192.168.1.5", "::1"]) == {"IPv4": "ok", "IPv6": "ok"}
    (four, six) = _network(["192.168.1.5"])
    assert "192.168.1.5" in four.detail and "was not tried" in four.detail
    assert "peers that have only IPv6 cannot be reached" in six.detail


def test_a_system_without_ipv6_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(family: int, host: str) -> None:
        if ":" in host:
            raise OSError(97, "Address family not supported")

    monkeypatch.setattr(module, "_bind", bind)
    assert verdicts(["10.0.0.1"]) == {"IPv4": "ok", "IPv6": "warning"}


@pytest.mark.parametrize(("ok", "verdict"), [(True, "ok"), (False, "warning"), (None, "unknown")])
def test_what_nobody_looked_at_is_unknown(ok: bool | None, verdict: str) -> None:
    assert _of_discovery(DiscoveryFact(what="mdns", subject="", ok=ok, detail="switched off")).verdict == verdict


@pytest.mark.parametrize(
    ("writable", "make", "verdict", "words"),
    [
        (True, Path.mkdir, "ok", "can be written"),
        (True, lambda path: None, "ok", "first run"),
        (False, Path.mkdir, "problem", "cannot be written"),
        (True, Path.touch, "problem", "cannot be written"),
    ],
)
def test_a_home_that_cannot_be_written_is_a_problem(
    writable: bool,
    make: Callable[[Path], object],
    verdict: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`doctor --quick` called a read-only home ok."""
    make(tmp_path / "home")
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    finding = _home(Config(home=tmp_path / "home"))
    assert finding.verdict == verdict and words in finding.detail


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [("version", "99", "newer version"), ("version", "x", "damaged"), ("identity.key", "x", "damaged")],
)
def test_a_home_that_no_command_can_use_is_a_problem(tmp_path: Path, file: str, content: str, said: str) -> None:
    """`doctor --quick` called it ok, as it could be written."""
    (tmp_path / file).write_text(content)
    (tmp_path / file).chmod(0o600)
    finding = _home(Config(home=tmp_path))
    assert finding.verdict == "problem" and said in finding.detail
