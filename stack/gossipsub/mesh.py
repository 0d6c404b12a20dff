"""The mesh of each topic: who joins, who leaves, and its upkeep at each heartbeat. Source: gossipsub v1.0, "GRAFT", "PRUNE",
"Heartbeat"; v1.1, "Outbound Mesh Quotas", "Heartbeat Maintenance", "Opportunistic Grafting".
"""

from collections.abc import Callable, Sequence

from stack.gossipsub.backoff import Backoffs
from stack.gossipsub.events import ControlIgnored, Grafted, IgnoreReason, Protect, Pruned, PruneReason
from stack.gossipsub.exchange import Exchange
from stack.gossipsub.messages import Prune
from stack.gossipsub.params import GossipsubParams, MeshSize
from stack.gossipsub.peers import Peer
from stack.gossipsub.state import Drafts, Members, State

BACKOFF_TICKS = 15
"""Heartbeats between looks through all back-offs."""


class Mesh:
    """Facts: `receive_graft`, `receive_prune`, `peer_joined`, `peer_left`, `peer_gone`. Commands: `join`, `leave`, `maintain`."""

    __slots__ = ("_backoffs", "_exchange", "_state")

    def __init__(self, state: State, backoffs: Backoffs, exchange: Exchange) -> None:
        self._state = state
        self._backoffs = backoffs
        self._exchange = exchange

    def join(self, topic: str, known: Sequence[Peer], now: float) -> None:
        """We have subscribed: graft `known` peers of it (the fanout so far), and others until there are d."""
        state = self._state
        mesh = state.mesh[topic] = {}
        eligible = self._eligible(topic, mesh, now)
        for peer in known:
            if eligible(peer):
                self._add(peer, topic, now, by_peer=False)
        for peer in state.candidates(topic, state.mesh_size(topic).d - len(mesh), eligible):
            self._add(peer, topic, now, by_peer=False)
        for peer in mesh:
            state.send_meshing(peer, graft=(topic,))

    def leave(self, topic: str, now: float) -> None:
        """We have unsubscribed: prune all. `unsubscribe_backoff` is short, so that one may soon come back."""
        state = self._state
        backoff = state.params.unsubscribe_backoff
        for peer in list(state.mesh[topic]):
            self._remove(peer, topic, PruneReason.LEFT_TOPIC)
            self._backoffs.add(topic, peer.id, now + backoff)
            state.send_meshing(peer, prune=(self._exchange.write_prune(peer, topic, backoff, px=True),))
        del state.mesh[topic]

    def receive_graft(self, peer: Peer, topics: Sequence[str], now: float) -> None:
        """A peer wants into meshes of ours; what is refused is answered by PRUNE, all in one."""
        state = self._state
        params = state.params
        px = True
        refused: list[str] = []
        for topic in topics:
            mesh = state.mesh.get(topic)
            if mesh is None:
                # v1.1, "Spam Protection Measures": "GRAFT messages for unknown topics are ignored"; no PX either, so
                # that nobody learns our peers by guessing topics.
                px = False
                continue
            if peer in mesh or topic in refused:
                continue
            reason = self._objection(peer, topic, mesh, now)
            if reason is None:
                self._add(peer, topic, now, by_peer=True)
                continue
            refused.append(topic)
            px = px and reason is IgnoreReason.FULL
            if reason is not IgnoreReason.DIRECT:
                self._backoffs.add(topic, peer.id, now + params.prune_backoff)
            if state.trace is not None:
                state.trace(ControlIgnored(peer=peer.id, kind="graft", reason=reason))
        if refused:
            backoff = params.prune_backoff
            prunes = [self._exchange.write_prune(peer, topic, backoff, px=px) for topic in refused]
            state.send_meshing(peer, prune=prunes)

    def _objection(self, peer: Peer, topic: str, mesh: Members, now: float) -> IgnoreReason | None:
        state = self._state
        if peer.direct:
            return IgnoreReason.DIRECT
        until = self._backoffs.until(topic, peer.id)
        if until is not None and now < until:
            params = state.params
            flooding = now < until + params.graft_flood_threshold - params.prune_backoff
            state.scores.penalize(peer.id, 2 if flooding else 1)
            return IgnoreReason.BACKOFF
        if state.score(peer) < 0:
            return IgnoreReason.LOW_SCORE
        if len(mesh) >= state.mesh_size(topic).d_high and not peer.outbound:
            # v1.1, "Outbound Mesh Quotas": sybils that dial us cannot push everybody else out.
            return IgnoreReason.FULL
        return None

    def receive_prune(self, peer: Peer, prunes: Sequence[Prune], now: float) -> None:
        """A peer has taken us out of meshes; it says for how long, and whom to turn to instead."""
        state = self._state
        params = state.params
        score = state.score(peer)
        for prune in prunes:
            mesh = state.mesh.get(prune.topic)
            if mesh is None:
                continue
            # CVE-2026-33040: a back-off of 2**64 - 1 seconds must not overflow anything, nor last.
            backoff = min(prune.backoff, params.backoff_max) if prune.backoff else params.prune_backoff
            self._backoffs.add(prune.topic, peer.id, now + backoff)
            if peer not in mesh:
                continue
            self._remove(peer, prune.topic, PruneReason.BY_PEER)
            if prune.peers and score >= params.thresholds.accept_px:
                self._exchange.receive(peer, prune.topic, prune.peers)

    def peer_joined(self, peer: Peer, topic: str, now: float) -> None:
        """A peer has subscribed: when our mesh has too few, it need not wait for the next heartbeat."""
        mesh = self._state.mesh.get(topic)
        if mesh is None or len(mesh) >= self._state.mesh_size(topic).d_low or not peer.takes_mesh:
            return
        if self._eligible(topic, mesh, now)(peer):
            self._add(peer, topic, now, by_peer=False)
            self._state.send_meshing(peer, graft=(topic,))

    def peer_left(self, peer: Peer, topic: str) -> None:
        """A peer has unsubscribed."""
        if peer in self._state.mesh.get(topic, ()):
            self._remove(peer, topic, PruneReason.PEER_LEFT_TOPIC)

    def peer_gone(self, peer: Peer) -> None:
        """A peer has disconnected; its score is settled by whoever calls."""
        for topic, mesh in self._state.mesh.items():
            if peer in mesh:
                del mesh[peer]
                if self._state.trace is not None:
                    self._state.trace(Pruned(peer=peer.id, topic=topic, reason=PruneReason.DISCONNECTED))
        if peer.mesh_count:
            peer.mesh_count = 0
            self._state.effects.append(Protect(peer.id, False))

    def maintain(self, drafts: Drafts, now: float) -> None:
        """The upkeep of all meshes; what is to be sent is added to `drafts`."""
        params = self._state.params
        if self._state.ticks % BACKOFF_TICKS == 0:
            self._backoffs.expire(now)
        opportunistic = self._state.ticks % params.opportunistic_graft_ticks == 0
        for topic, mesh in self._state.mesh.items():
            for peer in [peer for peer in mesh if self._state.score(peer) < 0]:
                drafts[peer].prune.append(self._pruned(peer, topic, PruneReason.NEGATIVE_SCORE, now))
            size = self._state.mesh_size(topic)
            if len(mesh) < size.d_low:
                self._graft(topic, mesh, size.d - len(mesh), drafts, now)
            if len(mesh) >= size.d_high:
                for peer in self._excess(mesh, size):
                    drafts[peer].prune.append(self._pruned(peer, topic, PruneReason.OVERSUBSCRIBED, now))
            if len(mesh) >= size.d_low:
                missing = size.d_out - sum(peer.outbound for peer in mesh)
                if missing > 0:
                    self._graft(topic, mesh, missing, drafts, now, lambda peer: peer.outbound)
            if opportunistic and len(mesh) > 1:
                self._graft_better(topic, mesh, drafts, now)

    def _excess(self, mesh: Members, size: MeshSize | GossipsubParams) -> list[Peer]:
        """Who has to go: all but d; the best d_score stay, and d_out that we dialled, as far as there are any."""
        state = self._state
        ranked = list(mesh)
        state.random.shuffle(ranked)
        ranked.sort(key=state.score, reverse=True)
        rest = ranked[size.d_score :]
        state.random.shuffle(rest)
        ranked[size.d_score :] = rest
        kept, excess = ranked[: size.d], ranked[size.d :]
        missing = size.d_out - sum(peer.outbound for peer in kept)
        for peer in [peer for peer in excess if peer.outbound][: max(missing, 0)]:
            # The last that we did not dial makes room: those in front have the better scores.
            last = max(index for index, other in enumerate(kept) if not other.outbound)
            excess[excess.index(peer)] = kept[last]
            kept[last] = peer
        return excess

    def _graft_better(self, topic: str, mesh: Members, drafts: Drafts, now: float) -> None:
        """v1.1, "Opportunistic Grafting": out of a mesh of poor peers, step by step."""
        state = self._state
        median = sorted(map(state.score, mesh))[len(mesh) // 2]
        if median < state.params.thresholds.opportunistic_graft:
            count = state.params.opportunistic_graft_peers
            self._graft(topic, mesh, count, drafts, now, lambda peer: state.score(peer) > median)

    def _graft(
        self,
        topic: str,
        mesh: Members,
        count: int,
        drafts: Drafts,
        now: float,
        accept: Callable[[Peer], bool] = lambda peer: True,
    ) -> None:
        eligible = self._eligible(topic, mesh, now)
        for peer in self._state.candidates(topic, count, lambda peer: accept(peer) and eligible(peer)):
            self._add(peer, topic, now, by_peer=False)
            drafts[peer].graft.append(topic)

    def _eligible(self, topic: str, mesh: Members, now: float) -> Callable[[Peer], bool]:
        """Who may be grafted by us."""
        state = self._state
        blocks_us = self._backoffs.blocks_us
        return lambda peer: (
            peer not in mesh and not peer.direct and state.score(peer) >= 0 and not blocks_us(topic, peer.id, now)
        )

    def _pruned(self, peer: Peer, topic: str, reason: PruneReason, now: float) -> Prune:
        """Take a peer out of a mesh; returns what to tell it."""
        self._remove(peer, topic, reason)
        backoff = self._state.params.prune_backoff
        self._backoffs.add(topic, peer.id, now + backoff)
        return self._exchange.write_prune(peer, topic, backoff, px=reason is PruneReason.OVERSUBSCRIBED)

    def _add(self, peer: Peer, topic: str, now: float, *, by_peer: bool) -> None:
        state = self._state
        state.mesh[topic][peer] = None
        peer.mesh_count += 1
        if peer.mesh_count == 1:
            state.effects.append(Protect(peer.id, True))
        state.scores.grafted(peer.stats, topic, now)
        if state.trace is not None:
            state.trace(Grafted(peer=peer.id, topic=topic, by_peer=by_peer))

    def _remove(self, peer: Peer, topic: str, reason: PruneReason) -> None:
        state = self._state
        del state.mesh[topic][peer]
        peer.mesh_count -= 1
        if peer.mesh_count == 0:
            state.effects.append(Protect(peer.id, False))
        state.scores.pruned(peer.stats, topic)
        if state.trace is not None:
            state.trace(Pruned(peer=peer.id, topic=topic, reason=reason))
