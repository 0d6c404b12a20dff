"""`/stack/access/1.0.0` on a host: who has proved to know which secret."""

import secrets
from collections.abc import Callable

import anyio

from stack.blocks.interfaces import RealmId
from stack.errors import RemoteProtocolError
from stack.identity.peer_id import PeerId
from stack.net.connection import Connection
from stack.net.failures import ASK_ERRORS
from stack.net.host import Host
from stack.protocols.access.exchange import NONCE_BYTES, PROTOCOL, Asker, Teller
from stack.protocols.access.keyring import Keyring
from stack.sansio.pace import Pace
from stack.streams.interfaces import Stream
from stack.streams.patience import patient

SECONDS = 15.0
"""For everything on a stream: three round trips; while the line is busy with a fetch, longer (`patient`)."""

STREAMS_PER_PEER_MAX = 8
"""At a time; one that fetches with several tickets proves one after the other or a few together."""

PROOFS_PER_SECOND = 20
PROOFS_BURST = 64
"""Of one peer: nobody guesses a secret of 16 bytes, this only keeps a flood from costing anything."""

Admitted = Callable[[PeerId, frozenset[RealmId]], None]
"""Told that a peer may enter realms, before it hears of it itself."""


class AccessService:
    """Row "access" of `SERVICES`; `Access` of bitswap. What a peer has proved holds until the last connection to it ends.

    Commands: `prove`, `listen`. Getters: `admitted`.
    """

    def __init__(self, host: Host, keyring: Keyring | None = None) -> None:
        self._host = host
        self._keyring = keyring if keyring is not None else Keyring(host.peer_id)
        self._admitted: dict[PeerId, frozenset[RealmId]] = {}
        self._proved: dict[PeerId, set[bytes]] = {}
        """Secrets that a peer and we have proved to each other."""
        self._paces: dict[PeerId, Pace] = {}
        self._listeners: list[Admitted] = []
        host.handle(PROTOCOL, self._serve, streams=STREAMS_PER_PEER_MAX)
        host.listen_to_peers(self)
        host.on_connection(self._connected)

    def __repr__(self) -> str:
        return f"<AccessService: {len(self._admitted)} peers, {self._keyring!r}>"

    def listen(self, listener: Admitted) -> None:
        """Tell of who is admitted from now on."""
        self._listeners.append(listener)

    def admitted(self, peer: PeerId) -> frozenset[RealmId]:
        """The realms a connected peer may enter."""
        return self._admitted.get(peer, frozenset())

    async def prove(self, peer: PeerId, secret: bytes, *, anew: bool = False) -> bool:
        """Prove to a connected peer that we know this, and have it prove the same. False when it does not know it, or does not answer.
        `anew`: what was proved may hold no more, so it is asked again; who does not answer then has not taken it back."""
        if secret in self._proved.get(peer, ()) and not anew:
            return True
        try:
            proved = await self._ask(await self._host.open_stream(peer, PROTOCOL), secret)
        except ASK_ERRORS:
            return secret in self._proved.get(peer, ())
        self._keep(peer, secret, proved)
        return proved

    async def _connected(self, connection: Connection) -> None:
        """One more connection to a peer. It may have lost those that we still have, and with them what we proved on them: a laptop that
        moved. So that is proved again, where it hears us."""
        peer = connection.peer
        for secret in tuple(self._proved.get(peer, ())):
            try:
                stream = await connection.open_stream([PROTOCOL], self._host.protocols(peer))
                self._keep(peer, secret, await self._ask(stream, secret))
            except ASK_ERRORS:
                return  # it has ended, and with it the peer's need to know

    def _keep(self, peer: PeerId, secret: bytes, proved: bool) -> None:
        if proved and self._host.is_connected(peer):
            self._proved.setdefault(peer, set()).add(secret)
            self._admit(peer, secret)
        elif not proved:
            self._proved.get(peer, set()).discard(secret)

    async def _ask(self, stream: Stream, secret: bytes) -> bool:
        nonce = secrets.token_bytes(NONCE_BYTES)
        machine = Asker(secret, asker=self._host.peer_id, teller=stream.remote_peer, nonce=nonce)
        try:
            async with patient(stream, SECONDS):
                while not machine.done:
                    machine.receive_data(await stream.receive())
                    if data := machine.data_to_send():
                        await stream.send(data)
        finally:
            stream.reset()
        return machine.proved

    async def _serve(self, stream: Stream) -> None:
        peer = stream.remote_peer
        try:
            now = anyio.current_time()
            pace = self._paces.setdefault(peer, Pace(PROOFS_PER_SECOND, now, burst=PROOFS_BURST))
            await anyio.sleep(pace.take(1, now))
            async with patient(stream, SECONDS):
                await self._tell(stream, peer)
        except (TimeoutError, anyio.EndOfStream):
            raise RemoteProtocolError("a proof of access was not finished") from None
        finally:
            if not self._host.is_connected(peer):
                self._paces.pop(peer, None)

    async def _tell(self, stream: Stream, peer: PeerId) -> None:
        machine = Teller(
            self._keyring.find,
            asker=peer,
            teller=self._host.peer_id,
            nonce=secrets.token_bytes(NONCE_BYTES),
            decoy=secrets.token_bytes(NONCE_BYTES),
        )
        await stream.send(machine.data_to_send())
        while not machine.done:
            machine.receive_data(await stream.receive())
        if machine.proved is not None:
            self._admit(peer, machine.proved)
        await stream.send(machine.data_to_send())
        await stream.send_eof()

    def _admit(self, peer: PeerId, secret: bytes) -> None:
        realms = self._keyring.realms(secret) - self.admitted(peer)
        if realms and self._host.is_connected(peer):
            self._admitted[peer] = self.admitted(peer) | realms
            for listener in self._listeners:
                listener(peer, realms)

    # PeerListener

    def peer_connected(self, peer: PeerId) -> None:
        """See PeerListener."""

    def peer_identified(self, peer: PeerId, protocols: frozenset[str]) -> None:
        """See PeerListener."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """See PeerListener."""
        self._admitted.pop(peer, None)
        self._proved.pop(peer, None)
        self._paces.pop(peer, None)
