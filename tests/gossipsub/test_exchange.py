"""Peer exchange: naming others when pruning, and dialling those that are named."""

from stack.gossipsub.events import Connect, PeersExchanged
from stack.gossipsub.exchange import ADDRESSES_MAX, RECORD_BYTES_MAX
from stack.gossipsub.messages import PROTOCOL_1_0, PeerInfo, Prune
from stack.gossipsub.params import GossipsubParams, PeerScoreThresholds
from stack.identity import keys
from stack.identity.peer_id import PeerId
from stack.identity.peer_record import PeerRecord
from stack.multiformats.multiaddr import Multiaddr
from tests.gossipsub.lab import STRICT_SCORES, TOPIC, US, Lab, of_kind, peer_id, prunes

ADDRESS = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")
KEY = keys.generate()
NAMED = PeerId.of(KEY.public)
RECORD = PeerRecord(NAMED, 1, (ADDRESS,)).seal(KEY)


def pruned_by(lab: Lab, *peers: PeerInfo) -> list[Connect]:
    """A mesh member prunes us and names these."""
    lab.connect(1)
    assert lab.mesh() == {1}
    return of_kind(lab.control(1, prune=(Prune(TOPIC, peers, 60),)), Connect)


def test_a_peer_with_a_signed_record_is_dialled_at_its_addresses() -> None:
    lab = Lab()
    assert pruned_by(lab, PeerInfo(bytes(NAMED), RECORD)) == [Connect(NAMED, (ADDRESS,), False)]
    assert lab.told(PeersExchanged) == [PeersExchanged(peer=peer_id(1), topic=TOPIC, taken=1, refused=0)]


def test_a_peer_without_a_record_is_dialled_at_whatever_is_known() -> None:
    assert pruned_by(Lab(), PeerInfo(bytes(NAMED))) == [Connect(NAMED, (), False)]


def test_records_that_are_not_what_they_should_be_are_refused() -> None:
    forged = bytearray(RECORD)
    forged[-1] ^= 1
    lab = Lab()
    wrong = [
        PeerInfo(bytes(peer_id(5)), RECORD),
        PeerInfo(bytes(NAMED), bytes(forged)),
        PeerInfo(bytes(NAMED), b"nonsense"),
        PeerInfo(b"no peer id, whatever its length may be"),
    ]
    assert pruned_by(lab, *wrong) == []
    assert lab.told(PeersExchanged)[0].refused == 4


def test_connected_peers_and_ourselves_are_not_dialled() -> None:
    lab = Lab()
    lab.connect(2, topics=())
    assert pruned_by(lab, PeerInfo(bytes(US)), PeerInfo(bytes(peer_id(2)))) == []


def test_sixteen_of_many_are_dialled() -> None:
    assert len(pruned_by(Lab(), *(PeerInfo(bytes(peer_id(number))) for number in range(10, 110)))) == 16


def test_a_record_is_dialled_at_a_bounded_number_of_addresses() -> None:
    many = tuple(Multiaddr.parse(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 101))
    record = PeerRecord(NAMED, 1, many).seal(KEY)
    (connect,) = pruned_by(Lab(), PeerInfo(bytes(NAMED), record))
    assert len(connect.addresses) == ADDRESSES_MAX


def test_only_mesh_members_of_sufficient_score_may_name_others() -> None:
    params = GossipsubParams(score=STRICT_SCORES, thresholds=PeerScoreThresholds(accept_px=10))
    opinion = {peer_id(1): 5.0}
    lab = Lab(params, application_score=lambda peer: opinion.get(peer, 0.0))
    assert pruned_by(lab, PeerInfo(bytes(NAMED), RECORD)) == []
    opinion[peer_id(1)] = 20.0
    lab.advance(70)
    assert len(pruned_by(lab, PeerInfo(bytes(NAMED), RECORD))) == 1
    assert of_kind(lab.control(1, prune=(Prune(TOPIC, (PeerInfo(bytes(NAMED)),), 60),)), Connect) == []


def overfull(lab: Lab) -> Lab:
    lab.connect(*range(1, 21))
    lab.graft(*range(1, 21))
    return lab


def test_whoever_is_pruned_for_want_of_room_is_told_of_others_with_their_records() -> None:
    lab = Lab(GossipsubParams(do_px=True))
    lab.connect(1)
    lab.machine.peer_record(peer_id(1), b"record")
    lab.machine.peer_record(peer_id(1), b"x" * (RECORD_BYTES_MAX + 1))
    lab.machine.peer_record(peer_id(999), b"record")
    overfull(lab)
    pruned = prunes(lab.beat())
    assert len(pruned) == 6
    for prune in pruned:
        assert len(prune.peers) == 16
        assert {info.signed_peer_record for info in prune.peers if info.peer_id == bytes(peer_id(1))} <= {b"record"}
    assert any(info.signed_peer_record for prune in pruned for info in prune.peers)


def test_without_do_px_nobody_is_named() -> None:
    assert all(prune.peers == () for prune in prunes(overfull(Lab()).beat()))


def test_peers_of_1_0_are_told_neither_others_nor_a_back_off() -> None:
    lab = Lab(GossipsubParams(do_px=True))
    lab.connect(1, 2)
    lab.connect(3, protocol=PROTOCOL_1_0)
    lab.machine.unsubscribe(TOPIC, 0)
    effects = lab.drain()
    assert prunes(effects, 3) == [Prune(TOPIC)]
    assert len(prunes(effects, 1)[0].peers) == 2


def test_peers_of_negative_score_are_neither_told_of_others_nor_others_of_them() -> None:
    params = GossipsubParams(do_px=True, score=STRICT_SCORES)
    opinion = {peer_id(number): 0.0 for number in range(1, 4)}
    lab = Lab(params, application_score=opinion.__getitem__)
    lab.connect(1, 2, 3)
    opinion[peer_id(1)] = -1.0
    (prune,) = prunes(lab.advance(1.5))
    assert prune.peers == ()
    lab.machine.unsubscribe(TOPIC, lab.now)
    (prune,) = prunes(lab.drain(), 2)
    assert [info.peer_id for info in prune.peers] == [bytes(peer_id(3))]


def test_a_graft_of_an_unknown_topic_spoils_px_for_the_whole_rpc() -> None:
    lab = overfull(Lab(GossipsubParams(do_px=True)))
    outside = min({*range(1, 21)} - lab.mesh())
    lab.now += 61
    (prune,) = prunes(lab.control(outside, graft=("guess", TOPIC)), outside)
    assert prune.peers == ()
    lab.now += 61
    (prune,) = prunes(lab.control(outside, graft=(TOPIC,)), outside)
    assert len(prune.peers) == 16


def test_without_a_trace_it_works_as_well() -> None:
    assert len(pruned_by(Lab(trace=None), PeerInfo(bytes(NAMED)))) == 1


def test_the_choice_of_peers_depends_on_the_seed_alone() -> None:
    def run() -> list[Prune]:
        return prunes(overfull(Lab(GossipsubParams(do_px=True), seed=7)).beat())

    assert run() == run()
