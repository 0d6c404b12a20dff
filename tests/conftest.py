"""Every async test runs on asyncio and on trio."""

import gc
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from stack.testing.lines import LineTransport
from stack.transports.memory import MemoryNetwork

# How fast examples are made says how busy the machine is, not whether what is tried with them is right.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Programs that tests start are told by these to end. Who runs the tests in the background may have them ignored, which is inherited.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


APART = (
    "fuzz/", "lab/", "sim/", "announce/test_floods.py", "announce/test_network.py", "announce/test_question_floods.py",
    "announce/test_worst_questions.py", "bitswap/test_swarm.py", "dag/unixfs/test_huge_nodes.py", "discovery/test_floods.py",
    "gossipsub/test_floods.py", "gossipsub/test_fuzz.py", "gossipsub/test_simulation.py", "protocols/providers/test_floods.py",
    "test_layers.py", "vectors/test_unixfs_dirs.py", "vectors/test_unixfs_import.py",
)  # fmt: skip
"""What computes for long, which would take twice as long under coverage, and reaches hardly anything that others do not."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """`-m apart` is what CI runs without coverage: these, and what runs on trio."""
    if "trio" in item.name or item.nodeid.removeprefix("tests/").startswith(APART):
        item.add_marker("apart")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What has been given most time begins first: nobody waits for it alone when all else has ended."""
    items.sort(key=lambda item: -max((mark.args[0] for mark in item.iter_markers("timeout")), default=0))


def pytest_collection_finish() -> None:
    """What was collected stays: to look through it for garbage takes 0.2 s each time, which tests that measure would pay.

    Hypothesis is loaded by now (above): it asks the garbage collector about trio before that is told to look no more.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a name that is no text, a failure can be told too: a worker that cannot say it ends the whole run."""
    report = yield
    report.sections = [(title, _sayable(text)) for title, text in report.sections]
    if report.longrepr is not None and _sayable(str(report.longrepr)) != str(report.longrepr):
        report.longrepr = _sayable(str(report.longrepr))
    return report


def _sayable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of the test."""
    return str(request.param)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage is not loaded into processes that the test starts: it takes a moment, and modules with it."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(params=["memory", "bad line"])
def any_line(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of the test are connected in memory, then by lines on which everything waits."""
    if request.param == "bad line":
        from tests.net import hosts

        monkeypatch.setattr(hosts, "make_transport", lambda network: LineTransport(network=network))


@pytest.fixture(params=["/ip4/127.0.0.1/tcp/0", "/memory/0"])
def listen_anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where nodes of the test listen: on loopback, then on lines on which everything waits."""
    from stack.node import build

    network, usual = MemoryNetwork(), build.transports
    monkeypatch.setattr(build, "transports", lambda: [LineTransport(network=network), *usual()])
    return str(request.param)
