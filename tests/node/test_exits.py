"""Each of our errors has an exit code."""

import errno
import importlib
import pkgutil

import stack
from stack.errors import StackError
from stack.node.exit_codes import BUG, NO_SPACE, REFUSED
from stack.node.exits import EXIT_CODES, exit_code, what_the_system_says


def all_errors(kind: type[StackError] = StackError) -> set[type[StackError]]:
    """Every class below StackError that is loaded."""
    return {kind}.union(*(all_errors(below) for below in kind.__subclasses__()))


def test_every_error_of_the_package_has_an_exit_code_of_its_own() -> None:
    for module in pkgutil.walk_packages(stack.__path__, "stack."):
        if not module.name.startswith(("stack.testing", "stack.__main__")):
            importlib.import_module(module.name)
    ours = {kind for kind in all_errors() if kind.__module__.startswith("stack.") and kind is not StackError}
    without = {kind.__qualname__ for kind in ours if not any(base in EXIT_CODES for base in kind.__mro__)}
    assert without <= {"NodeError", "NodeGone", "NodeUnreachable"}, without


def test_an_error_of_unknown_kind_is_a_bug() -> None:
    assert exit_code(StackError("x")) == BUG


def test_what_the_system_refuses_is_no_bug_and_is_told_in_a_sentence() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert exit_code(full) == NO_SPACE
    assert exit_code(OSError(errno.EDQUOT, "Disk quota exceeded")) == NO_SPACE
    assert exit_code(PermissionError(errno.EACCES, "Permission denied", "/x")) == REFUSED
    assert what_the_system_says(full) == "the system says: No space left on device"
    assert (
        what_the_system_says(OSError(errno.EIO, "Input/output error", "/x"))
        == "the system says: Input/output error (/x)"
    )
