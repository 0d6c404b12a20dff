"""RPCs as values and as bytes, against the library's own protobuf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.errors import RemoteProtocolError
from stack.gossipsub.decoding import (
    CONTROL_BYTES_MAX,
    FIELDS_MAX,
    MESSAGE_ID_BYTES_MAX,
    PX_PEERS_MAX,
    SUBSCRIPTIONS_MAX,
    decode_rpc,
)
from stack.gossipsub.messages import (
    RPC_BYTES_MAX,
    TOPIC_BYTES_MAX,
    Control,
    IHave,
    Message,
    PeerInfo,
    Prune,
    Rpc,
    encode_message,
    encode_rpc,
    id_size,
    message_size,
    pack,
    prune_size,
    signed_fields,
    topic_size,
)
from stack.multiformats import varint
from stack.pb import gossipsub_pb2 as pb

topics = st.text(min_size=1, max_size=20)
ids = st.binary(max_size=60)
optional_bytes = st.none() | st.binary(max_size=300)
messages = st.builds(
    Message,
    topics,
    st.binary(max_size=300),
    optional_bytes,
    optional_bytes,
    optional_bytes,
    optional_bytes,
    st.just(b""),
)
peers = st.builds(PeerInfo, st.binary(min_size=34, max_size=40), optional_bytes)
prunes = st.builds(
    Prune, topics, st.lists(peers, max_size=3).map(tuple), st.none() | st.integers(min_value=0, max_value=2**63 - 1)
)
controls = st.builds(
    Control,
    ihave=st.lists(st.builds(IHave, topics, st.lists(ids, min_size=1, max_size=4).map(tuple)), max_size=3).map(tuple),
    iwant=st.lists(ids, max_size=4).map(tuple),
    graft=st.lists(topics, max_size=4).map(tuple),
    prune=st.lists(prunes, max_size=3).map(tuple),
    idontwant=st.lists(ids, max_size=4).map(tuple),
)
rpcs = st.builds(
    Rpc,
    subscriptions=st.lists(st.tuples(st.booleans(), topics), max_size=4).map(tuple),
    publish=st.lists(messages, max_size=4).map(tuple),
    control=st.none() | controls,
)


def field(number: int, data: bytes) -> bytes:
    return varint.encode(number << 3 | 2) + varint.encode(len(data)) + data


def as_protobuf(rpc: Rpc) -> pb.RPC:
    """The same by the library."""
    out = pb.RPC()
    for joined, topic in rpc.subscriptions:
        out.subscriptions.add(subscribe=joined, topic_id=topic)
    for message in rpc.publish:
        target = out.publish.add(
            data=message.data, seqno=message.seqno, topic=message.topic, signature=message.signature, key=message.key
        )
        if message.author is not None:
            setattr(target, "from", message.author)
    if rpc.control is not None:
        out.control.SetInParent()
        for entry in rpc.control.ihave:
            out.control.ihave.add(topic_id=entry.topic, message_ids=entry.message_ids)
        if rpc.control.iwant:
            out.control.iwant.add(message_ids=rpc.control.iwant)
        for topic in rpc.control.graft:
            out.control.graft.add(topic_id=topic)
        for prune in rpc.control.prune:
            pruned = out.control.prune.add(topic_id=prune.topic, backoff=prune.backoff)
            for peer in prune.peers:
                pruned.peers.add(peer_id=peer.peer_id, signed_peer_record=peer.signed_peer_record)
        if rpc.control.idontwant:
            out.control.idontwant.add(message_ids=rpc.control.idontwant)
    return out


@given(rpcs)
def test_rpcs_are_written_as_protobuf_does_and_read_back(rpc: Rpc) -> None:
    data = encode_rpc(rpc)
    assert data == as_protobuf(rpc).SerializeToString()
    assert decode_rpc(data) == rpc


@given(st.binary(max_size=200))
def test_any_bytes_are_an_rpc_or_our_error(data: bytes) -> None:
    try:
        decode_rpc(data)
    except RemoteProtocolError:
        pass


@given(rpcs, st.data())
def test_every_cut_of_an_rpc_is_an_rpc_or_our_error(rpc: Rpc, data: st.DataObject) -> None:
    encoded = encode_rpc(rpc)
    cut = data.draw(st.integers(min_value=0, max_value=len(encoded)))
    try:
        decode_rpc(encoded[:cut])
    except RemoteProtocolError:
        pass


def test_fields_newer_than_this_program_are_kept_in_messages_and_skipped_elsewhere() -> None:
    body = field(4, b"topic") + field(9, b"new") + b"\x50\x07" + field(2, b"data")
    (message,) = decode_rpc(field(2, body) + field(10, b"partial") + b"\x58\x01").publish
    assert message == Message("topic", b"data", unknown=field(9, b"new") + b"\x50\x07")
    assert signed_fields(message) == field(2, b"data") + field(4, b"topic") + field(9, b"new") + b"\x50\x07"
    assert encode_message(message) == signed_fields(message)


def test_fixed_width_fields_are_skipped() -> None:
    assert decode_rpc(b"\x51" + bytes(8) + b"\x55" + bytes(4)) == Rpc()


def test_long_keys_and_lengths_are_read() -> None:
    assert decode_rpc(b"\x82\x08" + b"\x83\x00abc") == Rpc()


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05",
        b"\x0a\x80",
        b"\x08",
        b"\x08" + b"\x80" * 10 + b"\x01",
        b"\x51" + bytes(7),
        b"\x0b",
        b"\x0a\x01\x10",
        b"\x12\x02\x20\x01",
        b"\x80",
    ],
    ids=["no length", "cut", "length cut", "no value", "value too long", "fixed cut", "group", "inside", "type", "key"],
)
def test_malformed_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_rpc(data)


def test_what_has_no_topic_and_messages_without_content_are_left_out() -> None:
    no_topic = field(2, field(2, b"data")) + field(2, field(4, b"t")) + field(1, b"\x08\x01")
    control = field(1, field(2, b"id")) + field(3, b"") + field(4, b"\x18\x05")
    assert decode_rpc(no_topic + field(3, control)) == Rpc(control=Control())


@pytest.mark.parametrize("topic", [b"", b"\xff\xfe", b"x" * (TOPIC_BYTES_MAX + 1)], ids=["empty", "not UTF-8", "long"])
def test_topics_that_nobody_can_be_in_are_left_out(topic: bytes) -> None:
    data = field(2, field(4, topic)) + field(1, b"\x08\x01" + field(2, topic))
    assert decode_rpc(data + field(3, field(3, field(1, topic)))) == Rpc(control=Control())


def test_ids_that_are_too_long_are_left_out() -> None:
    entry = field(1, b"t") + field(2, b"x" * (MESSAGE_ID_BYTES_MAX + 1)) + field(2, b"id")
    control = decode_rpc(field(3, field(1, entry))).control
    assert control == Control(ihave=(IHave("t", (b"id",)),))


def test_an_ihave_without_ids_is_left_out() -> None:
    assert decode_rpc(field(3, field(1, field(1, b"t")))).control == Control()


def test_peers_with_ids_that_are_none_are_left_out_and_many_are_cut() -> None:
    good = field(2, field(1, bytes(34)))
    prune = field(1, b"t") + field(2, field(1, b"short")) + good * (PX_PEERS_MAX + 5)
    control = decode_rpc(field(3, field(4, prune))).control
    assert control is not None
    assert control.prune[0].peers == (PeerInfo(bytes(34)),) * PX_PEERS_MAX


def test_fields_of_other_types_inside_control_mean_nothing() -> None:
    odd = b"\x20\x01"
    control = odd + field(1, odd + field(1, b"t") + field(2, b"id")) + field(4, odd + field(1, b"t") + field(2, odd))
    assert decode_rpc(field(3, control + field(7, b""))).control == Control(
        ihave=(IHave("t", (b"id",)),), prune=(Prune("t"),)
    )
    assert decode_rpc(field(1, b"\x18\x01" + field(2, b"t"))) == Rpc(subscriptions=((False, "t"),))


def test_control_in_several_fields_is_one() -> None:
    graft = field(3, field(3, field(1, b"t")))
    assert decode_rpc(graft + graft).control == Control(graft=("t", "t"))


def test_ids_of_several_entries_are_one_list() -> None:
    control = field(2, field(1, b"a")) + field(2, field(1, b"b")) + field(5, field(1, b"c")) + field(5, field(1, b"d"))
    assert decode_rpc(field(3, control)).control == Control(iwant=(b"a", b"b"), idontwant=(b"c", b"d"))


def test_an_rpc_has_at_most_a_mebibyte() -> None:
    with pytest.raises(RemoteProtocolError, match="1048577 bytes"):
        decode_rpc(bytes(RPC_BYTES_MAX + 1))


def test_an_rpc_has_a_bounded_number_of_fields_and_subscriptions() -> None:
    with pytest.raises(RemoteProtocolError, match="fields"):
        decode_rpc(b"\x48\x01" * (FIELDS_MAX + 1))
    assert len(decode_rpc(field(1, field(2, b"t")) * SUBSCRIPTIONS_MAX).subscriptions) == SUBSCRIPTIONS_MAX
    with pytest.raises(RemoteProtocolError, match="subscriptions"):
        decode_rpc(b"\x0a\x00" * (SUBSCRIPTIONS_MAX + 1))


def test_control_over_the_limit_is_skipped_and_the_rest_is_read() -> None:
    part = field(3, field(2, field(1, b"x" * 200) * 600))
    rpc = decode_rpc(part * 3 + field(1, b"\x08\x01" + field(2, b"t")))
    assert rpc.control is None
    assert rpc.skipped_bytes > CONTROL_BYTES_MAX
    assert rpc.subscriptions == ((True, "t"),)


@given(st.lists(st.integers(min_value=0, max_value=50), max_size=40))
def test_packing_keeps_order_and_bound(sizes: list[int]) -> None:
    groups = list(pack(sizes, lambda size: size, 60))
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= 60 for group in groups)


def test_one_item_over_the_limit_is_a_group_by_itself() -> None:
    assert list(pack([1, 99, 1], lambda size: size, 10)) == [(1,), (99,), (1,)]


@given(messages, prunes, topics, ids)
def test_sizes_are_never_too_small(message: Message, prune: Prune, topic: str, message_id: bytes) -> None:
    assert len(encode_rpc(Rpc(publish=(message,)))) <= message_size(message)
    assert len(encode_rpc(Rpc(control=Control(prune=(prune,))))) <= prune_size(prune) + 16
    assert len(encode_rpc(Rpc(subscriptions=((True, topic),)))) <= topic_size(topic)
    assert len(field(1, message_id)) <= id_size(message_id)
