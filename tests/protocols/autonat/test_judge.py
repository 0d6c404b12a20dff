"""Whom to ask about which of our addresses, and what to think of the answers."""

import pytest

from stack.multiformats.multiaddr import Multiaddr
from stack.protocols.autonat.judge import (
    ASKING_MAX,
    CANDIDATES_MAX,
    FRESH_SECONDS,
    REST_SECONDS,
    SERVERS_MAX,
    SULK_SECONDS,
    VOTES_MAX,
    WITNESSES,
    Judge,
    Question,
    Said,
    Verdict,
)
from tests.net.identities import peer

HERE = Multiaddr.parse("/ip4/9.1.1.1/tcp/4001")
OTHER = Multiaddr.parse("/ip4/9.1.1.1/tcp/4002")


def judge(servers: int, *candidates: Multiaddr, v2: bool = True) -> Judge:
    machine = Judge()
    machine.candidates_are(candidates or [HERE])
    for number in range(servers):
        machine.server_found(peer(number), f"8.8.{number}.0/24", v2=v2)
    return machine


def questions(machine: Judge, now: float = 0.0) -> list[Question]:
    asked = []
    while (question := machine.next_question(now)) is not None:
        asked.append(question)
    return asked


def answer(machine: Judge, said: Said, now: float = 0.0) -> int:
    """Answer whatever is asked until nothing is; how many questions that were."""
    count = 0
    while asked := questions(machine, now):
        count += len(asked)
        for question in asked:
            machine.answered(question, said, now)
    return count


def test_one_proof_settles_it() -> None:
    machine = judge(5)
    [first, *others] = questions(machine)
    assert len(others) == ASKING_MAX - 1 and first == Question(peer(0), (HERE,), False)
    machine.answered(first, Said.PROVED, 0.0)
    assert machine.verdicts(0.0) == [Verdict(HERE, True, 1)]
    assert machine.next_question(0.0) is None and machine.is_settled(HERE, 0.0)


def test_nobody_is_asked_about_what_is_settled_until_the_answer_is_old() -> None:
    machine = judge(1)
    answer(machine, Said.PROVED)
    assert machine.next_timeout(0.0) == REST_SECONDS and machine.next_timeout(REST_SECONDS) == FRESH_SECONDS
    assert machine.next_question(FRESH_SECONDS - 1) is None
    assert machine.verdicts(FRESH_SECONDS) == [Verdict(HERE, None, 0)]
    assert machine.next_question(FRESH_SECONDS) is not None


def test_one_who_finds_it_shut_is_told_of_as_one_and_others_are_asked() -> None:
    machine = judge(1)
    assert answer(machine, Said.CLOSED) == 1
    assert machine.verdicts(0.0) == [Verdict(HERE, False, 1)] and not machine.is_settled(HERE, 0.0)
    for number in range(1, 5):
        machine.server_found(peer(number), f"8.8.{number}.0/24", v2=True)
    assert answer(machine, Said.CLOSED) >= WITNESSES - 1
    assert machine.is_settled(HERE, 0.0)


def test_the_word_of_one_alone_opens_nothing() -> None:
    machine = judge(1, v2=False)
    answer(machine, Said.OPEN)
    assert machine.verdicts(0.0) == [Verdict(HERE, None, 0)]


def test_the_word_of_three_does_and_many_of_one_neighbourhood_are_one() -> None:
    machine = judge(0)
    for number in range(9):
        machine.server_found(peer(number), "8.8.8.0/24", v2=False)
    answer(machine, Said.OPEN)
    assert machine.verdicts(0.0) == [Verdict(HERE, None, 0)]
    machine = judge(WITNESSES, v2=False)
    answer(machine, Said.OPEN)
    assert machine.verdicts(0.0) == [Verdict(HERE, True, WITNESSES)]


def test_who_says_otherwise_than_most_is_outvoted() -> None:
    machine = judge(3, v2=False)
    for said, question in zip((Said.OPEN, Said.CLOSED, Said.OPEN), questions(machine), strict=True):
        machine.answered(question, said, 0.0)
    assert machine.verdicts(0.0) == [Verdict(HERE, True, 2)]


def test_a_proof_stands_against_words_until_two_come_later() -> None:
    machine = judge(4)
    first, second, third = questions(machine)
    machine.answered(second, Said.CLOSED, 0.0)
    machine.answered(first, Said.PROVED, 1.0)
    machine.answered(third, Said.CLOSED, 2.0)
    assert machine.verdicts(2.0)[0].open is True
    machine.answered(Question(peer(3), (HERE,), False), Said.CLOSED, 3.0)
    assert machine.verdicts(3.0) == [Verdict(HERE, False, 3)]


def test_version_1_is_asked_about_all_at_once_and_version_2_about_one() -> None:
    machine = judge(1, HERE, OTHER)
    machine.server_found(peer(9), "7.7.7.0/24", v2=False)
    assert [question.addresses for question in questions(machine)] == [(HERE,), (HERE, OTHER)]
    machine.answered(Question(peer(9), (HERE, OTHER), True), Said.OPEN, 0.0, OTHER)
    assert machine._votes.keys() == {OTHER}


def test_a_server_rests_between_questions_and_longer_after_one_that_it_refused() -> None:
    machine = judge(1, HERE, OTHER)
    [first] = questions(machine)
    machine.answered(first, Said.PROVED, 0.0)
    assert machine.next_question(0.0) is None and not machine.may_learn(0.0)
    [second] = questions(machine, REST_SECONDS)
    assert second.addresses == (OTHER,) and machine.may_learn(REST_SECONDS)
    machine.failed(second, REST_SECONDS)
    # It was asked about both: about neither again so soon.
    assert questions(machine, REST_SECONDS + SULK_SECONDS) == []


def test_in_another_network_all_is_asked_again() -> None:
    machine = judge(1)
    answer(machine, Said.PROVED)
    machine.moved()
    assert machine.verdicts(0.0) == [Verdict(HERE, None, 0)]
    assert answer(machine, Said.CLOSED) == 1


def test_who_has_gone_is_not_asked_and_its_answer_comes_too_late() -> None:
    machine = judge(1)
    [question] = questions(machine)
    machine.server_gone(peer(0))
    machine.answered(question, Said.PROVED, 0.0)
    machine.failed(question, 0.0)
    assert machine.verdicts(0.0) == [Verdict(HERE, None, 0)]
    assert machine.next_timeout(0.0) is None and machine.servers == 0


def test_an_answer_about_an_address_that_is_ours_no_more_is_forgotten() -> None:
    machine = judge(1)
    [question] = questions(machine)
    machine.candidates_are([OTHER])
    machine.answered(question, Said.PROVED, 0.0)
    assert machine.verdicts(0.0) == [Verdict(OTHER, None, 0)]
    machine.candidates_are([])
    assert machine.next_timeout(0.0) is None


@pytest.mark.parametrize("v2", [True, False])
def test_tables_are_bounded(v2: bool) -> None:
    many = [Multiaddr.parse(f"/ip4/9.1.1.1/tcp/{port}") for port in range(1, 100)]
    machine = judge(0, *many)
    for number in range(SERVERS_MAX + 10):
        machine.server_found(peer(number), f"8.8.{number}.0/24", v2=v2)
    machine.server_found(peer(0), "8.9.0.0/24", v2=v2)
    assert machine.servers == SERVERS_MAX and len(machine.verdicts(0.0)) == CANDIDATES_MAX
    for number in range(SERVERS_MAX):
        machine.answered(Question(peer(number), (many[0],), not v2), Said.CLOSED, 0.0)
    assert machine.verdicts(0.0)[0].peers == VOTES_MAX
