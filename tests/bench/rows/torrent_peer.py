"""One libtorrent peer, run by an interpreter that has the package `libtorrent`, which stack does not need.

    python torrent_peer.py make FILE TORRENT
    python torrent_peer.py run TORRENT FOLDER ADDRESS RATE [PEER...]

`run` serves what it has until it is ended, and prints a line of JSON ten times a second: which pieces it has, bytes sent, and
the time of the system's monotonic clock.
"""

import json
import sys
import time
from pathlib import Path

import libtorrent

PORT = 6881
STEP_SECONDS = 0.1
PIECE_SIZE = 0
"""What libtorrent thinks best for the file."""


def make(file: Path, torrent: Path) -> None:
    """A torrent of one file, without trackers."""
    storage = libtorrent.file_storage()
    storage.add_file(file.name, file.stat().st_size)
    creator = libtorrent.create_torrent(storage, PIECE_SIZE, libtorrent.create_torrent.v1_only)
    libtorrent.set_piece_hashes(creator, str(file.parent))
    torrent.write_bytes(libtorrent.bencode(creator.generate()))


def run(torrent: Path, folder: Path, address: str, rate: int, peers: list[str]) -> None:
    """Have the file of a torrent in `folder`, from `peers`, and serve it."""
    session = libtorrent.session(
        {
            "listen_interfaces": f"{address}:{PORT}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "upload_rate_limit": rate,
        }
    )
    parameters = libtorrent.add_torrent_params()
    parameters.ti = libtorrent.torrent_info(str(torrent))
    parameters.save_path = str(folder)
    handle = session.add_torrent(parameters)
    for peer in peers:
        handle.connect_peer((peer, PORT))

    while True:
        status = handle.status()
        pieces = [True] * parameters.ti.num_pieces() if status.is_seeding else status.pieces
        say(
            at=time.monotonic(),
            pieces="".join("01"[piece] for piece in pieces),
            complete=status.is_seeding,
            sent=status.total_payload_upload,
        )
        time.sleep(STEP_SECONDS)


def say(**facts: object) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        run(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]), sys.argv[6:])
