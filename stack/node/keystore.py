"""The identity of a home: one private key in a file that only its owner can read."""

import stat
from contextlib import suppress
from itertools import count
from pathlib import Path

from stack.blocks.disk import NO_SPACE, open_regular, read_regular, write_whole
from stack.errors import ConfigError, DecodeError, NoSpace, Refused
from stack.identity.keys import PrivateKey, decode_private, generate

KEY_FILE = "identity.key"
KEY_FILE_MAX = 16 * 1024
"""An RSA key of 8192 bits takes under 5 KiB."""


def load_or_create(home: Path, kind: str) -> PrivateKey:
    """The key of a home, made at the first run. Raises ConfigError on a damaged file, Refused when it cannot be read."""
    path = home / KEY_FILE
    try:
        fd, status = open_regular(path)
        with open(fd, "rb") as file:
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise Refused(f"{path} can be read by others: run `chmod 600 {path}`")
            return decode_private(file.read(KEY_FILE_MAX))
    except FileNotFoundError:
        key = generate(kind)
        write_whole(path, key.encode())
        return key
    except DecodeError as error:
        raise ConfigError(f"{path} is damaged ({error}); move it away to start with a new identity") from error
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error


def replace_key(home: Path, key: PrivateKey) -> None:
    """Another identity from now on; a copy of the old key stays beside it, and so do those of earlier ones. The node must not be
    running. Raises NoSpace, Refused: then the identity is what it was."""
    path = home / KEY_FILE
    try:
        with suppress(FileNotFoundError):
            _keep_beside(path, read_regular(path))
        write_whole(path, key.encode())
    except OSError as error:
        raise _refusal(str(error.filename or path), error) from error


def _keep_beside(path: Path, old: bytes) -> None:
    """A copy under a name that no other has. Raises OSError."""
    for number in count(1):
        copy = path.with_name(f"{path.name}.old" if number == 1 else f"{path.name}.old.{number}")
        try:
            if read_regular(copy) == old:
                return  # of a try that has failed
        except FileNotFoundError:
            write_whole(copy, old, new=True)
            return


def _refusal(file: str, error: OSError) -> NoSpace | Refused:
    kind = NoSpace if error.errno in NO_SPACE else Refused
    return kind(f"{file}: {error.strerror}")


def export_key(home: Path, file: str) -> None:
    """Copy the private key to a new file that only its owner can read. Raises Refused when the file exists or cannot be written,
    NoSpace.

    The file is made by this call or refused: in a folder of many, another user may have put a file or a link of that name there.
    """
    path = home / KEY_FILE
    try:
        key = read_regular(path)
    except FileNotFoundError as error:
        raise Refused("this home has no identity yet; `stack id` makes one") from error
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    try:
        write_whole(Path(file), key, new=True)
    except FileExistsError as error:
        raise Refused(f"{file} exists") from error
    except OSError as error:
        raise _refusal(file, error) from error


def import_key(home: Path, file: str) -> PrivateKey:
    """Take the identity from a file. Raises ConfigError when it holds no private key, Refused when it cannot be read; and as
    `replace_key`."""
    try:
        with Path(file).open("rb") as source:
            key = decode_private(source.read(KEY_FILE_MAX))
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from error
    except DecodeError as error:
        raise ConfigError(f"{file} holds no private key: {error}") from error
    replace_key(home, key)
    return key
