"""Messages that arrive: signatures, validators, duplicates, praise and blame."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.gossipsub.events import (
    Deliver,
    MessageDuplicate,
    MessageRejected,
    RejectReason,
    Validate,
    Verdict,
)
from stack.gossipsub.messages import Message
from stack.gossipsub.params import GossipsubParams, PeerScoreParams, TopicScoreParams
from stack.gossipsub.signing import UNSIGNED, Author, SignaturePolicy, TopicRules, is_authentic
from stack.identity import keys
from stack.identity.keys import PrivateKey
from stack.identity.peer_id import PeerId
from tests.gossipsub.lab import (
    SCORED,
    TOPIC,
    US,
    Lab,
    delivered,
    id_of,
    message,
    of_kind,
    peer_id,
    receivers,
)

KEYS = {kind: keys.generate(kind) for kind in ("ed25519", "secp256k1", "ecdsa", "rsa")}


def reasons(lab: Lab) -> list[RejectReason]:
    return [event.reason for event in lab.told(MessageRejected)]


def judge(lab: Lab, verdict: Verdict, *validates: Validate) -> list[object]:
    for validate in validates:
        lab.machine.validation_result(validate.token, verdict, lab.now)
    return list(lab.drain())


def invalid(lab: Lab, number: int) -> float:
    stats = lab.machine._state.scores.stats(peer_id(number))
    return stats.topics[TOPIC].invalid_deliveries if stats is not None and TOPIC in stats.topics else 0.0


@pytest.mark.parametrize("kind", KEYS)
def test_what_we_sign_others_take_for_ours(kind: str) -> None:
    author = Author.of(KEYS[kind])
    written = author.write(TOPIC, b"data", 5)
    assert is_authentic(written)
    assert (written.key is None) is (kind in ("ed25519", "secp256k1"))
    assert b"data" not in repr(author).encode()


def resigned(signer: PrivateKey, **changes: bytes | None) -> Message:
    written = Author.of(signer).write(TOPIC, b"data", 5)
    fields = {name: getattr(written, name) for name in ("data", "author", "seqno", "signature", "key")} | changes
    return Message(TOPIC, **fields)


@pytest.mark.parametrize("kind", KEYS)
def test_what_somebody_else_has_signed_or_nobody_is_not_authentic(kind: str) -> None:
    key, other = KEYS[kind], keys.generate()
    wrong = [
        resigned(key, data=b"other"),
        resigned(key, signature=b"garbage"),
        resigned(key, signature=None),
        resigned(key, author=None),
        resigned(key, author=b"no peer id"),
        resigned(key, author=bytes(PeerId.of(other.public))),
        resigned(key, key=other.public.encode()),
        resigned(key, key=b"garbage"),
        Message(TOPIC, b"data", bytes(peer_id(1)), bytes(8), b"signature"),
    ]
    assert [is_authentic(forged) for forged in wrong] == [False] * len(wrong)


def test_an_author_whose_id_holds_no_key_is_not_believed_without_one() -> None:
    assert not is_authentic(resigned(KEYS["rsa"], key=None))


any_bytes = st.none() | st.binary(max_size=80)


@given(any_bytes, any_bytes, any_bytes, st.sampled_from(["ed25519", "secp256k1", "ecdsa", "rsa"]), st.integers(0, 200))
def test_whatever_is_sent_for_keys_and_signatures_is_merely_not_authentic(
    author: bytes | None, signature: bytes | None, key: bytes | None, kind: str, cut: int
) -> None:
    true = Author.of(KEYS[kind]).write(TOPIC, b"data", 1)
    whole = KEYS[kind].public.encode()
    assert not is_authentic(Message(TOPIC, b"data", author, bytes(8), signature, key))
    assert not is_authentic(Message(TOPIC, b"data", true.author, bytes(8), signature, whole[:cut] + (key or b"")))
    assert not is_authentic(Message(TOPIC, b"data", true.author, bytes(8), signature, whole))


def test_a_message_waits_for_its_signature_and_is_then_delivered_and_forwarded() -> None:
    lab = Lab(verify=None)
    lab.connect(1, 2)
    (validate,) = of_kind(lab.publish(1, message(1)), Validate)
    assert validate == Validate(validate.token, peer_id(1), message(1), True)
    effects = judge(lab, Verdict.ACCEPT, validate)
    assert isinstance(effects[0], Deliver)
    assert receivers(effects) == {2}  # type: ignore[arg-type]
    assert judge(lab, Verdict.ACCEPT, validate) == []


def test_with_a_function_that_verifies_only_topics_with_a_validator_wait() -> None:
    lab = Lab()
    lab.connect(1)
    assert of_kind(lab.publish(1, message(1)), Deliver)
    lab.machine.require_validation(TOPIC)
    (validate,) = of_kind(lab.publish(1, message(2)), Validate)
    assert not validate.verify
    lab.machine.require_validation(TOPIC, False)
    assert of_kind(lab.publish(1, message(3)), Deliver)


def test_unsigned_topics_wait_only_for_a_validator() -> None:
    lab = Lab(verify=None)
    lab.machine.set_rules(TOPIC, UNSIGNED)
    lab.connect(1)
    assert of_kind(lab.publish(1, Message(TOPIC, b"data")), Deliver)
    lab.machine.require_validation(TOPIC)
    assert not of_kind(lab.publish(1, Message(TOPIC, b"more")), Validate)[0].verify


def test_ids_can_be_made_by_any_rule() -> None:
    rules = TopicRules(SignaturePolicy.STRICT_SIGN, lambda message: hashlib.sha1(message.data or b"").digest()[:8])
    lab = Lab()
    lab.machine.set_rules(TOPIC, rules)
    lab.connect(1)
    (effect,) = of_kind(lab.publish(1, message(1)), Deliver)
    assert len(effect.message_id) == 8
    assert lab.publish(1, message(2)) == []


def test_a_rejected_message_costs_all_who_sent_it_then_and_later() -> None:
    lab = Lab(SCORED, verify=None)
    lab.connect(1, 2, 3, 4)
    (validate,) = of_kind(lab.publish(1, message(1)), Validate)
    assert lab.publish(2, message(1)) == lab.publish(1, message(1)) == []
    assert judge(lab, Verdict.REJECT, validate) == []
    lab.publish(3, message(1))
    assert [invalid(lab, number) for number in range(1, 5)] == [1, 1, 1, 0]
    assert reasons(lab) == [RejectReason.VALIDATION_FAILED] * 2
    assert lab.machine.score(peer_id(1)) == -10


def test_an_ignored_message_costs_nobody_and_does_not_come_again() -> None:
    lab = Lab(SCORED, verify=None)
    lab.connect(1, 2)
    judge(lab, Verdict.IGNORE, *of_kind(lab.publish(1, message(1)), Validate))
    assert lab.publish(2, message(1)) == []
    assert [invalid(lab, number) for number in (1, 2)] == [0, 0]
    assert reasons(lab) == [RejectReason.VALIDATION_IGNORED]


def test_a_message_there_was_no_time_for_may_come_again() -> None:
    lab = Lab(SCORED, verify=None)
    lab.connect(1, 2)
    judge(lab, Verdict.THROTTLED, *of_kind(lab.publish(1, message(1)), Validate))
    assert of_kind(lab.publish(2, message(1)), Validate)
    assert reasons(lab) == [RejectReason.VALIDATION_THROTTLED]


def test_a_forged_copy_neither_hides_the_true_message_nor_blames_those_who_sent_that() -> None:
    lab = Lab(SCORED, verify=None)
    lab.connect(1, 2, 3)
    forged = message(1, size=11)
    assert id_of(forged) == id_of(message(1))
    (bad,) = of_kind(lab.publish(1, forged), Validate)
    (good,) = of_kind(lab.publish(2, message(1)), Validate)
    judge(lab, Verdict.BAD_SIGNATURE, bad)
    assert delivered(judge(lab, Verdict.ACCEPT, good)) == [message(1)]  # type: ignore[arg-type]
    assert [invalid(lab, number) for number in (1, 2)] == [1, 0]
    assert reasons(lab) == [RejectReason.INVALID_SIGNATURE]


def test_two_messages_under_one_id_are_delivered_once() -> None:
    lab = Lab(verify=None)
    lab.connect(1, 2)
    validates = of_kind(lab.publish(1, message(1), message(1, size=11)), Validate)
    assert len(delivered(judge(lab, Verdict.ACCEPT, *validates))) == 1  # type: ignore[arg-type]
    validates = of_kind(lab.publish(1, message(2), message(2, size=11)), Validate)
    assert judge(lab, Verdict.REJECT, *validates) == []


def test_the_same_message_twice_in_one_rpc_is_delivered_once() -> None:
    lab = Lab()
    lab.connect(1)
    assert len(delivered(lab.publish(1, message(1), message(1)))) == 1


def test_a_signature_that_the_function_refuses_costs_the_sender() -> None:
    lab = Lab(SCORED, verify=lambda message: False)
    lab.connect(1)
    assert lab.publish(1, message(1)) == []
    assert invalid(lab, 1) == 1
    assert reasons(lab) == [RejectReason.INVALID_SIGNATURE]


def test_messages_that_break_the_signing_policy_cost_the_sender() -> None:
    lab = Lab(SCORED)
    lab.machine.set_rules("unsigned", UNSIGNED)
    lab.machine.subscribe("unsigned", 0)
    lab.drain()
    lab.connect(1)
    lab.publish(
        1,
        Message(TOPIC, b"data"),
        Message(TOPIC, b"data", bytes(peer_id(5)), bytes(9), b"signature"),
        message(1, author=0),
        Message("unsigned", b"data", bytes(peer_id(5))),
        Message("unsigned", b"data", seqno=bytes(8)),
        Message("unsigned", b"data", signature=b"signature"),
        Message("unsigned", b"data", key=b"key"),
    )
    assert reasons(lab) == [
        RejectReason.MISSING_SIGNATURE,
        RejectReason.BAD_SEQNO,
        RejectReason.SELF_ORIGIN,
        *[RejectReason.UNEXPECTED_AUTHOR] * 4,
    ]
    assert invalid(lab, 1) == 3


def test_our_own_message_that_comes_back_is_a_duplicate_and_no_offence() -> None:
    lab = Lab(SCORED)
    lab.connect(1)
    lab.machine.publish(TOPIC, b"data", 0)
    (effect,) = of_kind(lab.drain(), Deliver)
    assert lab.publish(1, effect.message) == []
    assert lab.told(MessageDuplicate) == [
        MessageDuplicate(peer=peer_id(1), topic=TOPIC, message_id=id_of(effect.message))
    ]
    assert effect.message.author == bytes(US)


def test_more_than_may_wait_is_dropped_unjudged() -> None:
    lab = Lab(GossipsubParams(pending_per_peer=5, score=SCORED.score), verify=None)
    lab.connect(1, 2)
    assert len(of_kind(lab.publish(1, *(message(number) for number in range(10))), Validate)) == 5
    assert reasons(lab) == [RejectReason.VALIDATION_THROTTLED] * 5
    assert invalid(lab, 1) == 0
    assert len(of_kind(lab.publish(2, message(9)), Validate)) == 1


def test_a_verdict_after_we_have_left_delivers_nothing() -> None:
    lab = Lab(verify=None)
    lab.connect(1, 2)
    (validate,) = of_kind(lab.publish(1, message(1)), Validate)
    lab.machine.unsubscribe(TOPIC, 0)
    lab.drain()
    assert judge(lab, Verdict.ACCEPT, validate) == []


def test_a_verdict_after_the_sender_has_gone_still_counts_for_the_message() -> None:
    lab = Lab(SCORED, verify=None)
    lab.connect(1, 2)
    (validate,) = of_kind(lab.publish(1, message(1)), Validate)
    lab.disconnect(1)
    assert receivers(judge(lab, Verdict.ACCEPT, validate)) == {2}  # type: ignore[arg-type]


def test_who_sent_it_while_it_was_validated_does_not_get_it_again() -> None:
    lab = Lab(verify=None)
    lab.connect(1, 2, 3)
    (validate,) = of_kind(lab.publish(1, message(1)), Validate)
    lab.publish(2, message(1))
    assert receivers(judge(lab, Verdict.ACCEPT, validate)) == {3}  # type: ignore[arg-type]


def test_mesh_members_that_deliver_in_time_are_credited_once_each() -> None:
    topic = TopicScoreParams(mesh_message_deliveries_window=1.0)
    lab = Lab(GossipsubParams(score=PeerScoreParams(other_topics=topic)), verify=None)
    lab.connect(*range(1, 8))
    outside = ({*range(1, 8)} - lab.mesh()).pop()
    first, second, third, late, *_ = sorted(lab.mesh())
    (validate,) = of_kind(lab.publish(first, message(1)), Validate)
    lab.publish(second, message(1))
    judge(lab, Verdict.ACCEPT, validate)
    for number in (first, second, third, third, outside):
        lab.publish(number, message(1))
    lab.now += 2
    lab.publish(late, message(1))

    def mesh_deliveries(number: int) -> float:
        stats = lab.machine._state.scores.stats(peer_id(number))
        assert stats is not None
        return stats.topics[TOPIC].mesh_deliveries if TOPIC in stats.topics else 0

    assert [mesh_deliveries(number) for number in (first, second, third, late, outside)] == [1, 1, 1, 0, 0]
