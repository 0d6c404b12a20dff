"""Commands start at once: what importing and starting cost, printed beside what is promised."""

import os
from pathlib import Path

import pytest

from tests.acceptance.kit import Machine, good

ROUNDS = 5
SLACK = float(os.environ.get("STACK_START_SLACK", "3"))
"""How many times slower than promised a shared machine may be."""


def least(machine: Machine, *arguments: str, code: str | None = None) -> tuple[float, float]:
    """CPU and wall seconds of the best of some runs."""
    runs = [good(machine.python(code) if code is not None else machine.run(*arguments)) for _ in range(ROUNDS)]
    return min(run.cpu_seconds for run in runs), min(run.seconds for run in runs)


@pytest.mark.usefixtures("unmeasured")
def test_start_up_is_quick(place: Path) -> None:
    machine = Machine(place / "a")
    good(machine.run("id"))
    bare, _ = least(machine, code="pass")
    figures = {
        "import stack, CPU": (least(machine, code="import stack")[0] - bare, 0.060),
        "from stack import Node, CPU": (least(machine, code="from stack import Node")[0] - bare, 0.250),
        "stack --version": (least(machine, "--version")[1], 0.150),
        "stack id": (least(machine, "id")[1], 0.300),
    }
    print()
    for name, (seconds, promised) in figures.items():
        print(f"{name:30} {seconds * 1000:4.0f} ms, promised {promised * 1000:.0f} ms")
    late = [name for name, (seconds, promised) in figures.items() if seconds > promised * SLACK]
    assert not late, figures


@pytest.mark.parametrize("module", ["segno", "cryptography", "anyio"])
def test_the_version_is_told_without_loading(place: Path, module: str) -> None:
    machine = Machine(place / "a")
    code = f"import sys; sys.argv = ['stack', '--version']; from stack.cli import main; main(); assert {module!r} not in sys.modules"
    good(machine.python(code))


def test_a_fetch_loads_only_what_it_needs(place: Path) -> None:
    """Each of these took 1 to 3 % of the time of a small file."""
    alice, bob = Machine(place / "a"), Machine(place / "b")
    (place / "small").write_bytes(b"small")
    with alice.sharing(place / "small") as (_, told):
        code = f"""if True:
            import atexit, sys
            sys.argv = ["stack", "get", {told["ticket"]!r}, "-o", {str(place / "got")!r}]
            heavy = {{"multihash", "statistics", "tomllib", "segno", "OpenSSL"}} - set(sys.modules)  # of who measures coverage
            atexit.register(lambda: print(sorted(heavy & set(sys.modules)), flush=True))
            from stack.cli import main
            main()"""
        outcome = good(bob.python(code))
    assert (place / "got").read_bytes() == b"small"
    assert "[]" in outcome.out
