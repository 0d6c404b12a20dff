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


@pytest.mark.parametrize("words", [["--help"], ["-h"], []], ids=" ".join)
def test_the_help_loads_neither_a_command_nor_what_commands_need(place: Path, words: list[str]) -> None:
    """It took three times as long as now."""
    code = f"""if True:
        import atexit, sys
        sys.argv = ["stack", *{words!r}]
        def tell():
            print(sorted(name for name in sys.modules if name.startswith("stack.")), "anyio" in sys.modules, flush=True)
        atexit.register(tell)
        from stack.cli import main
        main()"""
    told = good(Machine(place / "a").python(code)).out
    loaded = ["stack.cli", "stack.cli.app", "stack.cli.groups", "stack.errors", "stack.node", "stack.node.exit_codes"]
    assert told.startswith("Usage: stack") and told.endswith(f"{loaded} False\n")


SELDOM = (
    "OpenSSL", "bz2", "click.shell_completion", "importlib.util", "logging.handlers", "multihash", "segno", "shutil",
    "statistics", "tempfile", "tomllib", "stack.cli.live", "stack.cli.share", "stack.control.client", "stack.control.server",
    "stack.files.add", "stack.files.fetch_tree", "stack.files.pasted", "stack.protocols.code.words",
    *(f"stack.node.handlers.{name}" for name in ("announce", "codes", "jobs", "peers", "pubsub", "reading", "store")),
)  # fmt: skip
"""What a fetch of a file does without: of each of these some wait for others, are seldom needed, or never here."""
MODULES_MAX = 350
"""Of ours, besides those that are loaded when nobody has the file after half a second. 334 are."""


def test_a_fetch_loads_only_what_it_needs(place: Path) -> None:
    """Each of the first took 1 to 3 % of the time of a small file; 700 modules in all were 0.28 of 0.35 s."""
    alice, bob = Machine(place / "a"), Machine(place / "b")
    (place / "small").write_bytes(b"small")
    with alice.sharing(place / "small") as (_, told):
        code = f"""if True:
            import atexit, sys
            sys.argv = ["stack", "get", {told["ticket"]!r}, "-o", {str(place / "got")!r}]
            seldom = set({SELDOM!r}) - set(sys.modules)  # of who measures coverage
            later = ("stack.gossipsub", "stack.announce", "stack.node.announcing", "stack.portmap")
            def tell():
                ours = [name for name in sys.modules if name.startswith("stack.") and not name.startswith(later)]
                print(sorted(seldom & set(sys.modules)), len(ours), flush=True)
            atexit.register(tell)
            from stack.cli import main
            main()"""
        outcome = good(bob.python(code))
    assert (place / "got").read_bytes() == b"small"
    loaded, _, count = outcome.out.splitlines()[-1].rpartition(" ")
    assert loaded == "[]" and int(count) <= MODULES_MAX
