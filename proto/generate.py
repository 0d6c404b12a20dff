"""Writes `stack/pb` from `proto/*.proto`; with `--check`, says whether it is what it should be and changes nothing.

    python proto/generate.py [--check]

Needs grpcio-tools and mypy-protobuf. Each file is registered as `stack/pb/NAME.proto` with the package `stack.pb.NAME`:
the names in protobuf's one pool of a process are ours alone, so that other libp2p packages can be imported beside us.
"""

import argparse
import importlib.resources
import re
import shutil
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
ROOT = SOURCE.parent
PACKAGE = "stack/pb"

VERSION_CHECK = re.compile(
    r"^from google\.protobuf import runtime_version .*\n"
    r"|^_runtime_version\.Validate\w+\((?:.|\n)*?^\)\n"
    r"|^# Protobuf Python .*\n",
    re.MULTILINE,
)
"""What protoc writes to refuse a protobuf older than itself. It is left out: the descriptors of proto2 and proto3 have
not changed, and with it the newest protoc would keep our users from protobuf 6, which py-libp2p still needs."""


def check_names(source: Path) -> None:
    """Every schema lives in a package of its own name. Exits with a message when one does not."""
    wanted = f"package {PACKAGE.replace('/', '.')}.{source.stem};"
    if wanted not in re.split(r"\n", source.read_text()):
        sys.exit(f"{source.name}: the line {wanted!r} is missing")


def generate(target: Path) -> None:
    """Write the modules and their type stubs below `target`. Exits with protoc's message when it fails."""
    from grpc_tools import protoc  # type: ignore[import-untyped]  # it has no types

    plugin = shutil.which("protoc-gen-mypy", path=str(Path(sys.executable).parent)) or shutil.which("protoc-gen-mypy")
    if plugin is None:
        sys.exit("protoc-gen-mypy is not installed (package mypy-protobuf)")
    sources = sorted(SOURCE.glob("*.proto"))
    for source in sources:
        check_names(source)
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"--proto_path={PACKAGE}={SOURCE}",
        f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={plugin}",
        f"--python_out={target}",
        f"--mypy_out=quiet:{target}",
        *(f"{PACKAGE}/{source.name}" for source in sources),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")


def files(folder: Path) -> dict[str, str]:
    """The generated files below `folder`, by name."""
    found = [*folder.glob("*_pb2.py"), *folder.glob("*_pb2.pyi")]
    return {path.name: path.read_text() for path in found}


def main() -> int:
    """0 when the tree is what the schemas give, or has been made so; 1 when `--check` found a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        new = {name: VERSION_CHECK.sub("", text) for name, text in files(Path(scratch) / PACKAGE).items()}
    old = files(ROOT / PACKAGE)
    different = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    for name in different:
        if check:
            print(f"{PACKAGE}/{name} is not what proto/ gives; run proto/generate.py", file=sys.stderr)
        elif name in new:
            (ROOT / PACKAGE / name).write_text(new[name])
        else:
            (ROOT / PACKAGE / name).unlink()
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
