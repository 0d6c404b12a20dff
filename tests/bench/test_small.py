"""What is read of the tables of `strace`."""

from pathlib import Path

from tests.bench.rows.small import _counted

TABLE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 97.10    0.067000         744        90           syncfs
  2.90    0.002000         100        20         1 fdatasync
  0.00    0.000000           0         3           execve
------ ----------- ----------- --------- --------- ------------------
100.00    0.069000         610       113         1 total
"""


def test_syncs_are_counted_as_soon_as_the_table_is_there(tmp_path: Path) -> None:
    file = tmp_path / "sender.syncs"
    assert _counted(file) is None
    file.touch()
    assert _counted(file) is None
    file.write_text(TABLE)
    assert _counted(file) == 111
    file.write_text("0 0 0 0 execve\n")
    assert _counted(file) == 1, "none, and it is known"
