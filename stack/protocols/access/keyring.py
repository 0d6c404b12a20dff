"""The secrets that a node knows, and what they open. Pure."""

import hmac

from stack.blocks.interfaces import RealmId
from stack.identity.peer_id import PeerId

KEY_BYTES = 16
KEY_DOMAIN = b"stack/access/1 key"


def access_key(secret: bytes, teller: PeerId) -> bytes:
    """What an asker says for a secret to one teller. Two tellers cannot tell that it was the same secret, and who does not know the
    secret learns nothing from it."""
    return hmac.digest(secret, KEY_DOMAIN + bytes(teller), "sha256")[:KEY_BYTES]


class Keyring:
    """Realms by their secrets, and by what they are of. Change it only on the event loop.

    Commands: `add`, `remove`, `open`. Getters: `find`, `realms`, `is_for`.
    """

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._secrets: dict[bytes, bytes] = {}
        """By what askers say for them to us: one look, however many there are."""
        self._realms: dict[bytes, set[RealmId]] = {}
        self._roots: dict[bytes, dict[RealmId, bytes]] = {}
        """By the multihash of what they are of."""
        self._open: dict[bytes, set[RealmId]] = {}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._realms)} secrets>"

    def add(self, secret: bytes, realm: RealmId, root: bytes) -> None:
        """Who proves to know this secret may enter this realm, which is of a root with this multihash."""
        self._secrets[access_key(secret, self._own)] = secret
        self._realms.setdefault(secret, set()).add(realm)
        self._roots.setdefault(root, {})[realm] = secret

    def open(self, realm: RealmId, root: bytes) -> None:
        """Everybody may enter a realm of this root."""
        self._open.setdefault(root, set()).add(realm)

    def remove(self, realm: RealmId, root: bytes) -> None:
        """Nobody may enter it any more."""
        opened = self._open.get(root, set())
        opened.discard(realm)
        if not opened:
            self._open.pop(root, None)
        closed = self._roots.get(root, {})
        secret = closed.pop(realm, None)
        if not closed:
            self._roots.pop(root, None)
        if secret is not None:
            self._realms[secret].discard(realm)
            if not self._realms[secret]:
                del self._realms[secret]
                del self._secrets[access_key(secret, self._own)]

    def find(self, key: bytes) -> bytes | None:
        """The secret that an asker means."""
        return self._secrets.get(key)

    def realms(self, secret: bytes) -> frozenset[RealmId]:
        """What it opens."""
        return frozenset(self._realms.get(secret, ()))

    def is_for(self, root: bytes, admitted: frozenset[RealmId]) -> bool:
        """Whether a peer that was admitted to these realms may hear that the root is here."""
        closed = self._roots.get(root)
        return not closed or root in self._open or not admitted.isdisjoint(closed)
