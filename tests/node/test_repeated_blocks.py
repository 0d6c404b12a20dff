"""Content with equal blocks and equal files, fetched into a node without a home: nothing is found in a store meanwhile."""

from pathlib import Path
from random import Random

import anyio
import pytest

from stack.node.api import Cat
from stack.node.config import Config
from stack.node.node import Node

pytestmark = pytest.mark.anyio
ANYWHERE = ("/ip4/127.0.0.1/tcp/0",)


def config() -> Config:
    return Config(listen=ANYWHERE, announce=False, pubsub=False)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("**/*") if path.is_file()}


async def test_finding_2_a_file_of_few_different_blocks_is_read_to_its_end(tmp_path: Path) -> None:
    random = Random(1)
    blocks = [random.randbytes(1 << 20), bytes(1 << 20), random.randbytes(1 << 20)]
    content = b"".join(random.choice(blocks) for _ in range(48))
    (tmp_path / "image").write_bytes(content)
    async with Node.open(config()) as sharer, Node.open(config()) as reader:
        ticket = await sharer.share(tmp_path / "image")
        read = bytearray()
        with anyio.fail_after(60):
            async with reader.read(Cat(source=ticket)) as pieces:
                async for piece in pieces:
                    read += piece
        assert read == content
        assert len(reader.exchange.wanted) == 0


async def test_finding_2_a_tree_of_equal_files_is_fetched_to_its_end(tmp_path: Path) -> None:
    random = Random(5)
    pool = [random.randbytes(random.randrange(500, 5000)) for _ in range(12)] + [b"", bytes(3000)]
    tree = tmp_path / "tree"
    for number in range(20):
        (tree / str(number)).mkdir(parents=True)
        for index, content in enumerate(random.sample(pool, 10)):
            (tree / str(number) / str(index)).write_bytes(content)
    async with Node.open(config()) as sharer, Node.open(config()) as receiver:
        ticket = await sharer.share(tree)
        with anyio.fail_after(60):
            async with receiver.fetch(ticket, tmp_path / "out") as events:
                async for _ in events:
                    pass
        assert files(tmp_path / "out" / "tree") == files(tree)
        assert len(receiver.exchange.wanted) == 0
