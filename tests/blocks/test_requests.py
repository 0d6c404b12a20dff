"""Who waits in line, and how a group is made."""

import pytest

from stack.blocks.requests import Line, Request
from stack.errors import CorruptStore, NoSpace, Refused, StoreError


def test_a_group_is_as_many_as_fit_in_order() -> None:
    line: Line[Request] = Line(10)
    requests = [Request(weight) for weight in (4, 4, 4, 20, 1)]
    for request in requests:
        line.submit(request)
    assert [line.take() for _ in range(4)] == [requests[:2], [requests[2]], [requests[3]], [requests[4]]]
    assert line.take() == []


def test_who_has_given_up_is_passed_over() -> None:
    line: Line[Request] = Line(10)
    one, two, three = Request(9), Request(9), Request(1)
    for request in (one, two, three):
        line.submit(request)
    one.given_up = two.given_up = True
    assert line.take() == [three]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(NoSpace("full"), NoSpace), (CorruptStore("bad"), CorruptStore), (ZeroDivisionError("bug"), StoreError)],
)
def test_each_request_of_a_failed_group_has_an_error_of_its_own(error: Exception, kind: type[Exception]) -> None:
    requests = [Request(1), Request(1)]
    for request in requests:
        request.settle(error)
        assert request.done
        assert type(request.error) is kind
        assert str(request.error) == str(error)
    assert requests[0].error is not requests[1].error


def test_an_error_of_a_requests_own_stays() -> None:
    request = Request(1)
    request.error = Refused("not this one")
    request.settle(NoSpace("full"))
    assert isinstance(request.error, Refused)


def test_a_request_without_an_error_is_just_done() -> None:
    request = Request(1)
    request.settle(None)
    assert (request.done, request.error) == (True, None)
