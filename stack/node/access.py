"""For whom it is what this node shares and fetches: realms of the store, and the secrets that open them."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from stack.bitswap.interfaces import Enclosure
from stack.blocks.interfaces import EVERYBODY, BlockStore, Realm, RealmId, RealmState, RealmStore
from stack.errors import Refused
from stack.files.ticket import SECRET_SIZE
from stack.multiformats.cid import Cid
from stack.protocols.access.keyring import Keyring


class Access:
    """Getters: `is_open`, `secret_of`, `secrets_of`, `announced`, `store`. Commands: `restore`, `begin`, `finish`, `for_fetch`,
    `open`, `close`, `ended`, `removed`.

    A root keeps its secret: who shares the same again gives out the same ticket, and whoever was interrupted goes on with it.
    Only `stack shares rm` ends it.
    """

    def __init__(self, blocks: BlockStore, keyring: Keyring) -> None:
        self._blocks = blocks
        self._store = cast(RealmStore, blocks) if hasattr(blocks, "sizes_for") else None
        self._keyring = keyring
        self._realms: dict[RealmId, Realm] = {}
        """Those that are of something."""
        self._of: dict[bytes, dict[RealmId, Realm]] = {}
        """The same, by the multihash of what they are of."""
        self.opened: Callable[[], None] = lambda: None
        """Called when something that was closed is for everybody: whoever waits for it gets it."""

    def __repr__(self) -> str:
        return f"<Access {len(self._realms)} realms>"

    async def restore(self) -> None:
        """Before anybody is served: know again what was known. Raises StoreErrors."""
        if self._store is not None:
            for realm in await self._store.realms():
                if realm.root is not None:
                    self._know(realm)

    def secret_of(self, root: Cid) -> bytes:
        """What a ticket of this root needs; empty when it was last shared for everybody, or is not known. While it is announced
        that ticket is good too, and it stays so."""
        living = self._living(root, RealmState.OPEN, RealmState.CLOSED, RealmState.ANNOUNCED)
        return living[-1].secret if living and living[-1].state is not RealmState.OPEN else b""

    def secrets_of(self, root: Cid) -> list[bytes]:
        """Those of all tickets that are good for this root."""
        return [realm.secret for realm in self._living(root, RealmState.CLOSED, RealmState.ANNOUNCED)]

    def announced(self) -> list[Cid]:
        """What is open only as long as it is announced."""
        realms = self._realms.values()
        return [realm.root for realm in realms if realm.root is not None and realm.state is RealmState.ANNOUNCED]

    def _living(self, root: Cid, *states: RealmState) -> list[Realm]:
        """The realms of a root that are in one of these states, the oldest first."""
        found = self._of.get(root.multihash, {})
        return [found[id] for id in sorted(found) if found[id].state in states]

    def store(self, enclosure: Enclosure | None) -> BlockStore:
        """Where what is fetched or shared for it is kept."""
        return self._blocks if enclosure is None or self._store is None else self._store.within(enclosure.realm)

    async def is_open(self, root: Cid) -> bool:
        """Whether everybody who asks gets this block. Raises StoreErrors."""
        return self._store is None or (await self._store.sizes_for([root], frozenset()))[0] is not None

    async def begin(self, *, is_open: bool) -> Enclosure | None:
        """A realm for a share whose root is not known yet: so far nobody may enter. Raises Refused where the store knows no realms."""
        if self._store is not None:
            secret = secrets.token_bytes(SECRET_SIZE)
            return Enclosure((await self._store.add_realm(secret)).id, secret)
        if not is_open:
            raise Refused("the store of this node cannot keep what is for few from others: share it with --open")
        return None

    async def finish(
        self, begun: Enclosure | None, root: Cid, *, is_open: bool, still_open: bool, announced: bool = False
    ) -> None:
        """The root of a share is known: from now on it can be fetched. `still_open`: it is shared for everybody by others of this home.
        `announced`: it is open only as long as it will be announced, if there are tickets that stay good then."""
        if begun is None or self._store is None:
            return
        closed = self._living(root, RealmState.CLOSED, RealmState.ANNOUNCED)
        if announced and closed:
            is_open, still_open = False, True  # it is the announcement that opens it
        same = self._living(root, RealmState.OPEN) if is_open else closed
        state = RealmState.OPEN if is_open else RealmState.CLOSED
        if same:
            await self._store.merge_realms(begun.realm, same[-1].id)
        else:
            await self._set(Realm(begun.realm, root, begun.secret, state))
        if not is_open and not still_open:
            await self._end(root, RealmState.OPEN)

    async def for_fetch(self, root: Cid, secret: bytes) -> Enclosure | None:
        """For whom what is fetched is to be: for those who know the secret of its ticket; without one for everybody, unless it is
        here for few already. Raises Refused where the store knows no realms, StoreErrors."""
        if self._store is None:
            if secret:
                raise Refused("the store of this node cannot keep what is for few from others: use another one")
            return None
        if not secret:
            return await self._enclosed(root)
        same = [known for known in self._living(root, *RealmState) if known.secret == secret]
        realm = same[-1] if same else await self._store.add_realm(secret, root=root)
        if realm.state is RealmState.ENDED:
            realm = replace(realm, state=RealmState.CLOSED)
            await self._set(realm)
        elif not same:
            self._know(realm)
        return Enclosure(realm.id, secret)

    async def _enclosed(self, root: Cid) -> Enclosure | None:
        assert self._store is not None
        numbers = await self._store.realms_of(root)
        known = [self._realms[number] for number in numbers if number in self._realms]
        living = [realm for realm in known if realm.state is not RealmState.ENDED]
        if EVERYBODY in numbers or not living or any(realm.state.is_open for realm in living):
            return None
        return Enclosure(living[-1].id, living[-1].secret)

    async def open(self, root: Cid) -> None:
        """It is for everybody until `close`. Raises Refused for a part of something that is for few, StoreErrors."""
        closed = self._living(root, RealmState.CLOSED)
        for realm in closed:
            await self._set(replace(realm, state=RealmState.ANNOUNCED))
        if (
            not closed
            and self._store is not None
            and await self._store.realms_of(root)
            and not await self.is_open(root)
        ):
            raise Refused(f"{root} is a part of what only tickets give: share it with --open first")

    async def close(self, root: Cid) -> None:
        """It is not announced any more: what was for few before is so again. Raises StoreErrors."""
        for realm in self._living(root, RealmState.ANNOUNCED):
            await self._set(replace(realm, state=RealmState.CLOSED))

    async def ended(self, root: Cid) -> None:
        """It is not shared any more: should it be shared with a ticket later, it is not for everybody. Raises StoreErrors."""
        await self.close(root)
        await self._end(root, RealmState.OPEN)

    async def removed(self, root: Cid) -> None:
        """The same, and no ticket that was given out for it opens it again."""
        await self.close(root)
        await self._end(root, RealmState.OPEN, RealmState.CLOSED)

    async def _end(self, root: Cid, *states: RealmState) -> None:
        for realm in self._living(root, *states):
            await self._set(replace(realm, state=RealmState.ENDED))

    async def _set(self, realm: Realm) -> None:
        assert self._store is not None
        await self._store.change_realm(realm.id, root=realm.root, state=realm.state)
        self._know(realm)
        if realm.state.is_open:
            self.opened()

    def _know(self, realm: Realm) -> None:
        assert realm.root is not None
        name = realm.root.multihash
        self._realms[realm.id] = self._of.setdefault(name, {})[realm.id] = realm
        self._keyring.remove(realm.id, name)
        if realm.state in (RealmState.CLOSED, RealmState.ANNOUNCED):
            self._keyring.add(realm.secret, realm.id, name)
        if realm.state.is_open:
            self._keyring.open(realm.id, name)
