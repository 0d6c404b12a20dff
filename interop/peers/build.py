"""The peers of other implementations, each built once from its registry into `.cache/`, again when its source changes.

| kind | cold on two cores | what is kept |
|---|---|---|
| go | 35 s of CPU after Kubo (its modules are mostly the same), else 2 minutes | one program |
| js | 10 s | node_modules |
| py | 1 minute | a virtual environment |
| rust | 5 minutes | the target folder |
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache"
BUILD_SECONDS = 1500

PY_REQUIREMENTS = ("libp2p==0.8.1", "protobuf<7", "zeroconf<0.151")
"""With newer ones of the latter two it does not start."""

KINDS = ("ours", "go", "js", "py", "rust")
NEEDS = {"ours": (), "go": ("go",), "js": ("node", "npm"), "py": (), "rust": ("cargo",)}
"""Programs that a machine must have to build and run a kind."""
LONG = frozenset({"rust"})
"""Kinds that are only run with STACK_INTEROP_ALL=1, unless they have been built already: they take minutes to build."""


def why_not(kind: str) -> str | None:
    """Why a kind cannot be run here, None when it can."""
    if os.environ.get(variable(kind)):
        return None
    missing = [program for program in NEEDS[kind] if shutil.which(program) is None]
    if missing:
        return (
            f"NOT TESTED: {kind}; there is no {' and no '.join(missing)} on this machine to build the {kind} peer with"
        )
    if kind in LONG and os.environ.get("STACK_INTEROP_ALL") != "1":
        return (
            f"NOT TESTED: {kind}; the peer takes five minutes to build: `tox -e interop` runs it (STACK_INTEROP_ALL=1)"
        )
    return None


def variable(kind: str) -> str:
    """The environment variable that names a finished peer."""
    return f"STACK_PEER_{kind.upper()}"


def command(kind: str) -> tuple[str, ...]:
    """How a peer of a kind is started; builds it when need be."""
    given = os.environ.get(variable(kind))
    return (given,) if given else _BUILDERS[kind]()


def _ours() -> tuple[str, ...]:
    return sys.executable, str(HERE / "ours" / "peer.py")


def _go() -> tuple[str, ...]:
    built = _place("go")
    _once(built, ["go", "build", "-o", str(built / "peer"), "."])
    return (str(built / "peer"),)


def _js() -> tuple[str, ...]:
    built = _place("js")
    _once(built, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    return "node", str(built / "peer.js")


def _py() -> tuple[str, ...]:
    built = _place("py")
    python = str(built / "venv" / "bin" / "python")
    _once(
        built,
        [sys.executable, "-m", "venv", "venv"],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PY_REQUIREMENTS],
    )
    return python, str(built / "peer.py")


def _rust() -> tuple[str, ...]:
    built = _place("rust")
    target = CACHE / "rust-target"
    _once(built, ["cargo", "build", "--release", "--target-dir", str(target)])
    return (str(target / "release" / "peer"),)


_BUILDERS: dict[str, Callable[[], tuple[str, ...]]] = {"ours": _ours, "go": _go, "js": _js, "py": _py, "rust": _rust}


def _place(kind: str) -> Path:
    """A folder for what is built from this very source."""
    digest = hashlib.sha256(" ".join(PY_REQUIREMENTS).encode() if kind == "py" else b"")
    for path in sorted(path for path in (HERE / kind).rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(path.read_bytes())
    return CACHE / f"{kind}-{digest.hexdigest()[:12]}"


def _once(built: Path, *commands: Sequence[str]) -> None:
    """Run commands in a copy of the source, unless they have all succeeded before."""
    done = built / "built"
    if done.exists():
        return
    kind = built.name.partition("-")[0]
    shutil.copytree(HERE / kind, built, dirs_exist_ok=True)
    for one in commands:
        outcome = subprocess.run(one, cwd=built, capture_output=True, text=True, timeout=BUILD_SECONDS)
        if outcome.returncode:
            said = (outcome.stdout + outcome.stderr)[-3000:]
            raise RuntimeError(f"the {kind} peer could not be built: {' '.join(one)}: {said}")
    done.touch()
