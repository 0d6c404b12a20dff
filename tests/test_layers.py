"""The architecture as two literal lists: who may import whom, and which files may do I/O. To change it, change them in review."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "stack"

LAYERS: tuple[str, ...] = (
    "errors",
    "values",
    "trace",
    "platform",
    "multiformats",
    "pb",
    "identity",
    "sansio",
    "dag",
    "blocks",
    "streams",
    "muxers",
    "security",
    "transports",
    "net",
    "protocols",
    "portmap",
    "discovery",
    "gossipsub",
    "bitswap",
    "announce",
    "files",
    "node",
    "control",
    "http",
    "fsspec",
    "cli",
    "testing",
)
"""Imports point up this list, never down; each room may import itself and what stands before it."""

IMPURE_ROOMS = frozenset(
    {
        "platform",
        "streams",
        "transports",
        "net",
        "discovery",
        "files",
        "node",
        "control",
        "http",
        "fsspec",
        "cli",
        "testing",
    }
)
IMPURE_FILE_NAMES = frozenset({"service.py", "shell.py"})
"""The impure part of a protocol is one file of these names or, once it is more than one, a folder `shell/`."""
IMPURE_BLOCK_FILES = frozenset(
    f"blocks/{name}.py"
    for name in (
        "core",
        "database",
        "disk",
        "ending",
        "hashed",
        "index",
        "named",
        "packs",
        "partfile",
        "claims",
        "partopen",
        "reads",
        "rebuild",
        "recovery",
        "segments",
        "sparse",
        "sqlite",
        "store",
        "sweeps",
        "verify",
        "warm",
        "wholefiles",
        "writer",
    )
)
"""What reads and writes the disk, or runs in worker threads; records, hashing and garbage collection are pure."""

IMPURE_MODULES = frozenset(
    {"anyio", "asyncio", "trio", "socket", "ssl", "threading", "time", "random", "secrets", "os", "logging"}
)
LOGGING_ALLOWED = frozenset({"trace.py"})
"""The trace logs a sink it removes; nothing else that is pure writes a log."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package but the generated ones, with its path below `stack/`."""
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT).as_posix()
        if not relative.startswith("pb/"):
            yield relative, ast.parse(path.read_text())


def imported(relative: str, tree: ast.Module) -> Iterator[str]:
    """Absolute names of all modules a file imports, also inside functions."""
    package = ["stack", *relative.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                yield ".".join([*base, node.module] if node.module else base)
            else:
                assert node.module
                yield node.module
                if node.module == "stack":
                    yield from (f"stack.{alias.name}" for alias in node.names)


def room(relative: str) -> str:
    """The layer a file belongs to."""
    return relative.split("/")[0].removesuffix(".py")


def test_imports_point_up_the_list_of_layers() -> None:
    wrong = []
    for relative, tree in sources():
        here = room(relative)
        if here in ("__init__", "__main__"):
            continue
        assert here in LAYERS, f"{relative}: no such layer"
        for name in imported(relative, tree):
            parts = name.split(".")
            ours = parts[0] == "stack" and len(parts) > 1 and parts[1] in LAYERS
            if ours and LAYERS.index(parts[1]) > LAYERS.index(here):
                wrong.append(f"{relative} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_testing_kit() -> None:
    wrong = [
        f"{relative} imports {name}"
        for relative, tree in sources()
        if room(relative) != "testing"
        for name in imported(relative, tree)
        if name.startswith("stack.testing")
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_listed_files_do_io() -> None:
    wrong = []
    for relative, tree in sources():
        name = relative.split("/")[-1]
        in_shell = "shell" in relative.split("/")[:-1]
        if room(relative) in IMPURE_ROOMS or in_shell or name in IMPURE_FILE_NAMES or relative in IMPURE_BLOCK_FILES:
            continue
        for module in imported(relative, tree):
            top = module.split(".")[0]
            if top in IMPURE_MODULES and not (top == "logging" and relative in LOGGING_ALLOWED):
                wrong.append(f"{relative} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_files_stay_under_400_lines() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in ROOT.rglob("*.py")
        if "pb" not in path.relative_to(ROOT).parts and (count := len(path.read_text().splitlines())) > 400
    }
    assert not long, long


def test_who_catches_everything_raises_again_or_says_why() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        source = path.read_text()
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else {"all"}
            catches_all = bool(names & {"all", "Exception", "BaseException"})
            if catches_all and not isinstance(node.body[-1], ast.Raise) and "#" not in lines[node.lineno - 1]:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, wrong


def test_dataclasses_are_those_of_stack_values() -> None:
    """Those of the standard library take a third of the start of a command. The kit for tests is loaded by none."""
    wrong = [
        relative
        for relative, tree in sources()
        if relative != "values.py" and room(relative) != "testing"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        if any(alias.name == "dataclass" for alias in node.names)
    ]
    assert not wrong, f"`from stack.values import dataclass` in {wrong}"
