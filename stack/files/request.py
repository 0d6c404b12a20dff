"""What a fetch is asked for."""

from dataclasses import field
from pathlib import Path

from stack.bitswap.interfaces import Provider
from stack.files.watch import Patience
from stack.multiformats.cid import Cid
from stack.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What to fetch, and where it goes."""

    root: Cid
    path: str = ""
    """Below the root; the entry that it leads to is fetched."""
    name: str = ""
    """What a ticket calls it; hostile text like any other. The path's last name counts more."""
    directory: Path
    """Where relative names end up."""
    out: Path | None = None
    """The name to write to, or a directory to write into."""
    into_directory: bool = False
    """`out` is a directory, made if need be."""
    contents: bool = False
    """`out` is the tree itself, also where it exists, and may have more in it than is fetched; what is no tree goes into it."""
    include: tuple[str, ...] = ()
    """Patterns of paths in a tree; everything is fetched without any."""
    exclude: tuple[str, ...] = ()
    """Patterns of paths in a tree that are not fetched."""
    unsafe_links: bool = False
    """Make symbolic links of a tree that lead out of it too."""
    update: bool = False
    """What is at the target with other content is brought to this version: `out` is the tree itself, also where it exists."""
    delete: bool = False
    """An update deletes what is not part of this version."""
    dry_run: bool = False
    """An update only tells what it would do: nothing is written, and of files only what is needed to tell them apart is fetched."""
    providers: tuple[Provider, ...] = ()
    waited: float = 0.0
    """Seconds that those who are named have had to answer already, before others are asked."""
    patience: Patience = field(default_factory=Patience)
    broadcast: bool = False
    """It is no secret what is sought: ask others at once, and connected peers for the CID itself while no provider is known. Else
    others are asked by a key, once those named bring nothing."""
    secret: bytes = field(default=b"", repr=False)
    """That of the ticket: only who proves to know it gives the blocks, and gets them from here."""
    options: str = "{}"
    """Kept with the job, for whoever starts it again."""

    @property
    def is_partial(self) -> bool:
        """Whether not all of a tree is wanted."""
        return bool(self.include or self.exclude)
