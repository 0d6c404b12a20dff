"""Power cuts: what a node wrote is recorded, and played back up to a moment with what was not synced lost, torn or out of order.

    python -m tests.lab.powercuts --count 500

A child does what people do (adds, fetches, pins, collects garbage) under `strace` and says what it was told is done. The recording has
every write, name and sync of files, SQLite's among them. For each cut a disk is made as it may be after it: of each file some of the
writes since its last sync, of each directory a beginning of the changes since its own. A node is started on it, and whatever had been
acknowledged before the cut must be there and right.
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from stack.multiformats.cid import Cid
from stack.node.api import ListPins, RemovePin, VerifyRepo
from stack.node.api.store import CollectGarbage
from stack.node.config import Config
from stack.node.node import Node
from tests.lab.faults import preload, trace
from tests.lab.switch import die_with_parent

CALLS = (
    "openat,open,creat,close,write,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,fsync,fdatasync,syncfs,lseek"
)
TORN_BYTES = 4096
"""A write is torn at these borders."""
ROUNDS = 12
NEW_INODES = ("file changed", "file gone")
"""What `verify` says of files in place, whose inodes and times are new on a disk that was played back; their bytes are compared here."""
KIB = 1024

# --- what is recorded


async def _work(home: Path, folder: Path, seed: int) -> None:
    """What people do; each thing that is done is said on standard output, before it is taken back too."""
    chance = random.Random(seed)
    pinned: list[str] = []
    async with Node.open() as other, Node.open(Config(home=home, role="daemon", pubsub=False)) as node:
        for number in range(ROUNDS):
            what = chance.choice(("add", "add", "put", "get", "tree", "gc", "unpin"))
            data = chance.randbytes(chance.choice((10, 3000, 300 * KIB))) + bytes(chance.choice((0, 600 * KIB)))
            source = folder.parent / f"source{number}"
            if what == "add":
                source.write_bytes(data)
                cid = await node.add(source, copy=True)
                pinned.append(str(cid))
                _say("block", str(cid), hashlib.sha256(data).hexdigest())
            elif what == "put":
                leaf = data[: 200 * KIB]
                cid = Cid.of(leaf)
                await node.put([(cid, leaf)])
                _say("loose", str(cid), hashlib.sha256(leaf).hexdigest())
            elif what == "get":
                source.write_bytes(data)
                target = await node.get(await other.share(source), folder)
                _say("file", str(target), hashlib.sha256(data).hexdigest())
            elif what == "tree":
                source.mkdir()
                for name in range(8):
                    (source / f"{name}").write_bytes(chance.randbytes(100) if name % 2 else b"the same")
                target = await node.get(await other.share(source), folder)
                for file in source.iterdir():
                    _say("file", str(target / file.name), hashlib.sha256(file.read_bytes()).hexdigest())
            elif what == "unpin" and pinned:
                gone = pinned.pop(0)
                _say("drop", gone, "-")
                await node.ask(RemovePin(cid=Cid.parse(gone)))
            elif what == "gc":
                _say("collect", "-", "-")
                await node.ask(CollectGarbage())


def _say(*words: str) -> None:
    os.write(1, (" ".join(("ACK", *words)) + "\n").encode())


def record(place: Path, seed: int) -> list[str]:
    """Run the work under strace; its lines. `place` keeps what was there when it began: an empty folder."""
    log = place.parent / "log"
    pid = os.fork()
    if not pid:
        try:
            die_with_parent()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.kill(os.getpid(), signal.SIGSTOP)
            (place / "folder").mkdir()
            anyio.run(_work, place / "home", place / "folder", seed)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must never go on in its parent's code
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    os.waitpid(pid, os.WUNTRACED)
    options = ["-f", "-y", "-xx", "-qq", "-s", "8000000", "-e", "signal=none", "-e", f"trace={CALLS}", "-o", str(log)]
    tracer = trace(pid, options)
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    tracer.wait()
    if status:
        raise RuntimeError("the work itself failed")
    return log.read_text(encoding="latin-1").splitlines()


# --- what it means


@dataclass
class Inode:
    """A file: what is surely on the disk, and what was done to it since."""

    data: bytes = b""
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)

    def after(self, changes: Sequence[tuple[str, int, bytes]]) -> bytes:
        out = bytearray(self.data)
        for kind, offset, data in changes:
            if kind == "size":
                del out[offset:]
                out.extend(bytes(offset - len(out)))
            else:
                out.extend(bytes(max(0, offset - len(out))))
                out[offset : offset + len(data)] = data
        return bytes(out)

    def sync(self) -> None:
        self.data = self.after(self.pending)
        self.pending.clear()


Change = tuple[str, Inode | str | None]
"""Of a directory: a name, and what it names from then on: a file, the target of a symbolic link, nothing; `dir` for a directory."""


@dataclass
class Folder:
    """A directory: names that are surely on the disk, and changes since."""

    names: dict[str, Inode | str] = field(default_factory=dict)
    pending: list[list[Change]] = field(default_factory=list)

    def now(self) -> dict[str, Inode | str]:
        return self.after(len(self.pending))

    def after(self, count: int) -> dict[str, Inode | str]:
        names = dict(self.names)
        for changes in self.pending[:count]:
            for name, what in changes:
                if what is None:
                    names.pop(name, None)
                else:
                    names[name] = what
        return names

    def sync(self) -> None:
        self.names = self.now()
        self.pending.clear()


DIRECTORY = "\0directory"
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
FD = re.compile(r"^(-?\d+|AT_FDCWD)<([^>]*)>")


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if "\\x" in text else text.encode("latin-1")


class Disk:
    """What a recording has made of a folder so far."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.folders: dict[str, Folder] = {self.root: Folder()}
        self.open: dict[int, tuple[Inode | None, str]] = {}
        self.position: dict[int, int] = {}
        self.said: list[list[str]] = []

    def step(self, name: str, arguments: str, result: str) -> bool:
        """One call; whether it changed anything."""
        if name == "write" and arguments.startswith("1<"):
            text = _unescaped(STRING.search(arguments).group(1)).decode()  # type: ignore[union-attr]
            self.said += [line.split()[1:] for line in text.splitlines() if line.startswith("ACK ")]
            return True
        if result.startswith("-1"):
            return False
        strings = [_unescaped(found) for found in STRING.findall(arguments)]
        paths = list(self._paths(name, arguments, strings))
        number = int(match.group(1)) if (match := FD.match(arguments)) and match.group(1).lstrip("-").isdigit() else -1
        inode = self.open.get(number, (None, ""))[0]
        match name:
            case "openat" | "open" | "creat":
                return self._open(paths[0], arguments, int(result.split("<")[0]))
            case "close":
                self.open.pop(number, None)
                return False
            case "mkdir" | "mkdirat":
                if self._change(paths[0], DIRECTORY):
                    self.folders[paths[0]] = Folder()
                    return True
            case "pwrite64" | "pwritev" | "pwritev2" | "write":
                if inode is not None:
                    data = b"".join(strings)[: int(result)]
                    if name == "write":
                        offset = self.position.get(number, 0)
                        self.position[number] = offset + len(data)
                    else:
                        tail = re.search(r", (-?\d+)(?:, [^,\]]*)?$", arguments) if name == "pwritev2" else None
                        offset = int((tail or re.search(r", (\d+)$", arguments)).group(1))  # type: ignore[union-attr]
                    inode.pending.append(("data", offset, data))
                    return True
            case "ftruncate":
                if inode is not None:
                    inode.pending.append(("size", int(arguments.rsplit(", ", 1)[1]), b""))
                    return True
            case "fallocate":
                if inode is not None and ", 0, " in arguments:
                    size = sum(map(int, arguments.rsplit(", ", 2)[1:]))
                    if size > len(inode.after(inode.pending)):
                        inode.pending.append(("size", size, b""))
                    return True
            case "fsync" | "fdatasync":
                path = self.open.get(number, (None, ""))[1]
                if inode is not None:
                    inode.sync()
                elif path in self.folders:
                    self.folders[path].sync()
                return True
            case "syncfs":
                for folder in self.folders.values():
                    folder.sync()
                    for what in folder.names.values():
                        if isinstance(what, Inode):
                            what.sync()
                return True
            case "link" | "linkat":
                return self._change(paths[1], self._at(paths[0]))
            case "symlink" | "symlinkat":
                return self._change(paths[-1], strings[0].decode())
            case "unlink" | "unlinkat" | "rmdir":
                return self._change(paths[0], None)
            case "rename" | "renameat" | "renameat2":
                return self._rename(paths[0], paths[1])
        return False

    def _open(self, path: str, arguments: str, number: int) -> bool:
        self.position[number] = 0
        if not path.startswith(self.root):
            self.open[number] = None, path
            return False
        changed = False
        inode = self._at(path)
        if inode is None and path not in self.folders and "O_CREAT" in arguments:
            inode = Inode()
            changed = self._change(path, inode)
        if isinstance(inode, Inode) and "O_TRUNC" in arguments:
            inode.pending.append(("size", 0, b""))
            changed = True
        self.open[number] = inode if isinstance(inode, Inode) else None, path
        return changed

    def _at(self, path: str) -> Inode | str | None:
        folder, _, name = path.rpartition("/")
        return self.folders[folder].now().get(name) if folder in self.folders else None

    def _change(self, path: str, what: Inode | str | None) -> bool:
        folder, _, name = path.rpartition("/")
        if folder not in self.folders:
            return False
        self.folders[folder].pending.append([(name, what)])
        return True

    def _rename(self, old: str, new: str) -> bool:
        what = self._at(old)
        if what is None:
            return False
        (one, _, name), (other, _, goal) = old.rpartition("/"), new.rpartition("/")
        if one == other:
            self.folders[one].pending.append([(name, None), (goal, what)])
        else:
            self.folders[other].pending.append([(goal, what)])
            self.folders[one].pending.append([(name, None)])
        if what == DIRECTORY:
            for path in [path for path in self.folders if path == old or path.startswith(old + "/")]:
                self.folders[new + path[len(old) :]] = self.folders.pop(path)
        return True

    def _paths(self, name: str, arguments: str, strings: Sequence[bytes]) -> Iterator[str]:
        """The paths that a call names, absolute."""
        if name in ("pwrite64", "write", "pwritev", "pwritev2"):
            return
        anchors = [
            _unescaped(found[1]).decode() for found in re.findall(r"(AT_FDCWD|\d+)<([^>]*)>", arguments.split(") =")[0])
        ]
        for index, text in enumerate(strings):
            path = text.decode("utf-8", "surrogateescape")
            if not path.startswith("/"):
                anchor = anchors[min(index, len(anchors) - 1)] if anchors else os.getcwd()
                path = f"{anchor}/{path}"
            yield os.path.normpath(path)

    def cut(self, chance: random.Random) -> None:
        """Make the folder as it may be when the power goes now."""
        shutil.rmtree(self.root, ignore_errors=True)
        manner = chance.choice(("nothing", "everything", "some", "some", "beginning"))
        kept: dict[int, bytes] = {}
        self._make(self.root, chance, manner, kept)

    def _make(self, path: str, chance: random.Random, manner: str, kept: dict[int, bytes]) -> None:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o700)
        folder = self.folders[path]
        pending = len(folder.pending)
        count = {"nothing": 0, "everything": pending}.get(manner, chance.randint(0, pending))
        linked: dict[int, str] = {}
        for name, what in folder.after(count).items():
            below = f"{path}/{name}"
            if what == DIRECTORY:
                if below in self.folders:
                    self._make(below, chance, manner, kept)
                else:
                    os.makedirs(below, exist_ok=True)
            elif isinstance(what, Inode):
                if id(what) in linked:
                    os.link(linked[id(what)], below)
                    continue
                if id(what) not in kept:
                    kept[id(what)] = what.after(_survivors(what.pending, chance, manner))
                with open(os.open(below, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(kept[id(what)])
                linked[id(what)] = below
            else:
                os.symlink(str(what), below)


def _survivors(
    pending: Sequence[tuple[str, int, bytes]], chance: random.Random, manner: str
) -> list[tuple[str, int, bytes]]:
    if manner in ("nothing", "everything"):
        return list(pending) if manner == "everything" else []
    if manner == "beginning":
        return list(pending[: chance.randint(0, len(pending))])
    out = []
    for kind, offset, data in pending:
        if kind == "size":
            if chance.random() < 0.5:
                out.append((kind, offset, data))
            continue
        start = 0
        while start < len(data):
            stop = min(len(data), (offset + start) // TORN_BYTES * TORN_BYTES + TORN_BYTES - offset)
            if chance.random() < 0.5:
                out.append((kind, offset + start, data[start:stop]))
            start = stop
    return out


# --- what is checked


async def _check(home: Path, said: Sequence[Sequence[str]]) -> list[str]:
    wrong: list[str] = []
    blocks = {words[1]: words[2] for words in said if words[0] == "block"}
    loose: dict[str, str] = {}
    for words in said:
        if words[0] == "loose":
            loose[words[1]] = words[2]
        elif words[0] == "collect":
            loose.clear()
        elif words[0] == "drop":
            blocks.pop(words[1], None)
    async with Node.open(Config(home=home, role="command", pubsub=False)) as node:
        pins = {str(pin.cid) for pin in await node.ask(ListPins())}
        for cid, digest in (blocks | loose).items():
            with anyio.move_on_after(5) as scope:
                try:
                    if hashlib.sha256(await node.cat(cid)).hexdigest() != digest:
                        wrong.append(f"{cid} is wrong")
                except Exception as error:  # noqa: BLE001 - whatever it is, what was acknowledged is not there
                    wrong.append(f"{cid} is lost: {error!r}")
            if scope.cancelled_caught:
                wrong.append(f"{cid} is lost: nobody has it")
            if cid in blocks and cid not in pins:
                wrong.append(f"{cid} is pinned no more")
        async with node.watch(VerifyRepo()) as events:
            async for event in events:
                if event.problem is not None and not event.problem.startswith(NEW_INODES):
                    wrong.append(f"verify: {event.problem}")
    for words in said:
        if words[0] == "file":
            path = Path(words[1])
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != words[2]:
                wrong.append(f"{path.name} is not as it was fetched")
    return wrong


def check(home: Path, said: Sequence[Sequence[str]]) -> str:
    """In a process of its own; what is wrong, or nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        die_with_parent()
        try:
            text = "; ".join(anyio.run(_check, home, said))
        except BaseException as error:  # noqa: BLE001 - that a node does not start is what is looked for
            text = f"the node does not start: {error!r}"
        os.write(writer, text.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


def steps(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Name, arguments and result of each call, at the moment at which it ended."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if found := re.match(r"<\.\.\. \w+ resumed>(.*)", rest):
            rest = begun.pop(pid, "") + found.group(1)
        if found := re.match(r"(\w+)\((.*)\)\s+= (\S.*)$", rest):
            yield found.group(1), found.group(2).rstrip().removesuffix(","), found.group(3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Cut the power; 1 when something acknowledged was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    preload()
    bad = done = 0
    seed = options.seed
    manners: Counter[str] = Counter()
    while done < options.count:
        place = Path(tempfile.mkdtemp(prefix="cuts-")).resolve()
        root = place / "disk"
        root.mkdir()
        try:
            calls = list(steps(record(root, seed)))
            chance = random.Random(seed)
            moments = sorted(chance.sample(range(len(calls)), min(50, options.count - done)))
            disk = Disk(root)
            for index, call in enumerate(calls):
                disk.step(*call)
                if moments and index == moments[0]:
                    moments.pop(0)
                    disk.cut(chance)
                    done += 1
                    manners["after " + call[0]] += 1
                    if (root / "home").exists() and (wrong := check(root / "home", disk.said)):
                        bad += 1
                        print(f"work {seed}, cut after call {index} ({call[0]}): {wrong}", flush=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        seed += 1
    print(f"{done} power cuts, {bad} with something lost; {dict(manners)}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
