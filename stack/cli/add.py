"""`stack add`: from files to CIDs, with the flags of Kubo and the same results."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from stack.cli import output
from stack.cli.answers import answers
from stack.cli.app import run_async
from stack.cli.choosing import LeftOut, selecting
from stack.cli.completing import profiles
from stack.cli.home import prepare
from stack.cli.session import open_api
from stack.cli.sources import at_a_place, sources_of
from stack.cli.types import PathType, config
from stack.node.api import Add, Added, AddProgress, Api, EntryAdded, EntrySkipped, ImportFlags
from stack.node.exit_codes import PARTIAL
from stack.node.home import Home


class OctalType(click.ParamType[int]):
    """File permissions, as `0644`."""

    name = "OCTAL"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises click's usage error."""
        try:
            mode = int(str(value), 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o7777:
            self.fail(f"{str(value)[:40]!r} is no octal mode such as 0644", param, ctx)
        return mode


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...", type=PathType(readable=False, allow_dash=True))
@click.option("--only-hash", is_flag=True, help="Compute the CID, keep nothing.")
@click.option("--copy", is_flag=True, help="Copy the data into the repository instead of serving the file in place.")
@click.option("--rehash", is_flag=True, help="Read files too that have not changed since they were last read.")
@click.option(
    "--profile",
    metavar="NAME",
    help="unixfs-v1-2025, unixfs-v0-2015, or default (Kubo's own default).",
    shell_complete=profiles,
)
@click.option("--cid-version", type=click.IntRange(0, 1))
@click.option("--raw-leaves/--no-raw-leaves", default=None)
@click.option("--chunker", metavar="NAME", help="size-BYTES, rabin, rabin-MIN-AVG-MAX or buzhash.")
@click.option("--trickle", is_flag=True, default=None, help="Trickle layout instead of balanced.")
@click.option("--hash", "hash_", metavar="NAME", help="Hash function, as sha2-256.")
@click.option("--inline", is_flag=True, default=None, help="Small blocks inside of CIDs.")
@click.option("--inline-limit", type=click.IntRange(0, 128))
@click.option("--max-file-links", type=click.IntRange(2, 8192))
@click.option("--max-directory-links", type=click.IntRange(0, 1 << 31))
@click.option("--max-hamt-fanout", type=click.IntRange(8, 1024))
@click.option("-w", "--wrap-with-directory", is_flag=True, help="A directory around it that keeps its name.")
@click.option("--mode", type=OctalType(), help="Permissions to record.")
@click.option("--mtime", type=int, help="Modification time to record, in Unix seconds.")
@click.option("--mtime-nsecs", type=click.IntRange(0, 999_999_999))
@click.option("--preserve-mode", is_flag=True, help="Record the permissions of the files.")
@click.option("--preserve-mtime", is_flag=True, help="Record the modification times of the files.")
@selecting
@click.option("-r", "--recursive", is_flag=True, help="Accepted for Kubo's users; directories are always recursive.")
@click.option("-q", "--quiet", is_flag=True, help="Print the root CID and nothing else.")
@answers(Added, many=True)
def add(
    paths: tuple[str, ...],
    only_hash: bool,
    copy: bool,
    rehash: bool,
    hash_: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    ignore_files: tuple[Path, ...],
    gitignore: bool,
    recursive: bool,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Add files or directories and print the root CID of each (last line). - is what is piped in, which is copied."""

    async def work() -> int:
        options = ImportFlags(hash=hash_, **{**flags, "profile": flags["profile"] or settings.profile})
        left_out = LeftOut()
        roots = []
        assert settings.home is not None
        prepare(Home(settings.home))
        async with AsyncExitStack() as while_it_runs:
            # What is piped in may come of a command of this home, which ends when nobody needs it: it is read before the home is asked for.
            places = [await while_it_runs.enter_async_context(at_a_place(each, settings.home)) for each in sources]
            api = await while_it_runs.enter_async_context(open_api(settings))
            for source, place in zip(sources, places, strict=True):
                request = Add(
                    paths=(place,),
                    flags=options,
                    include=include,
                    exclude=exclude,
                    ignore_files=ignore_files,
                    gitignore=gitignore,
                    only_hash=only_hash,
                    copy=copy or source.stream is not None,
                    rehash=rehash,
                )
                roots.append(await _add(api, request, left_out))
        if as_json:
            output.json_line(roots)
        elif not quiet:
            left_out.conclude()
        return PARTIAL if left_out.lost else 0

    async def _add(api: Api, request: Add, left_out: LeftOut) -> Added:
        root: Added | None = None
        async with api.watch(request) as events:
            with output.progress(request.paths[0].name, wanted=not (quiet or as_json)) as bar:
                async for event in events:
                    match event:
                        case AddProgress():
                            bar.update(event.bytes_done, event.bytes_total, event.path)
                        case EntrySkipped():
                            left_out.skipped(event, bar)
                        case EntryAdded() if not (quiet or as_json):
                            output.data(f"added {event.cid.text} {event.path}")
                        case Added():
                            root = event
        assert root is not None
        if not as_json:
            output.data(str(root.cid))
        return root

    sources = sources_of(paths)
    settings = config("command")
    return run_async(work)
