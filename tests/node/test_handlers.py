"""The tables between requests and the functions that answer them."""

import ast
import inspect
from pathlib import Path

import pytest

from stack.node import api, handlers
from stack.node.api import Ask, Read, Watch, Write

TABLES = {Ask: handlers.ASKS, Watch: handlers.WATCHES, Read: handlers.READS, Write: handlers.WRITES}
REQUESTS = [kind for kind in vars(api).values() if isinstance(kind, type) and kind.__mro__[1] in TABLES]


@pytest.mark.parametrize("request_kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_every_request_has_a_handler_that_takes_it(request_kind: type) -> None:
    handler = handlers.handler(TABLES[request_kind.__mro__[1]], request_kind)  # type: ignore[index]
    parameters = list(inspect.signature(inspect.unwrap(handler)).parameters.values())
    assert [parameter.annotation.__name__ for parameter in parameters[:2]] == ["Handled", request_kind.__name__]


def test_handlers_do_not_know_the_node() -> None:
    """They were one circle with it, tied by an import for types."""
    for path in Path(handlers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.module in ("stack.node.node", "stack.node.build")), (
                path
            )
