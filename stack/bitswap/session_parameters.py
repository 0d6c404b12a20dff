"""The figures of a session, and why they are what they are."""

from stack.values import dataclass

MIB = 1024 * 1024

TOGETHER_SECONDS = 2.0
"""Of a limited download's rate: what is asked for ahead. More than any round trip, less than anybody's patience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParameters:
    """Figures of a session. Times in seconds, sizes in bytes."""

    window_min: int = 4 * MIB
    """Least a peer is asked for ahead: 16 blocks of 256 KiB hide 40 ms at 100 MiB/s."""
    window_first: int = 512 * 1024
    """Most a peer is asked for before its first block has come: what one that never sends keeps from the others."""
    window_together: int = 16 * MIB
    """Least that all peers together are asked for ahead. Measured on two cores with one provider: 4 MiB gives 160 MiB/s, 16 MiB
    210, 32 MiB no more; event loops and disks stop for longer than any round trip."""
    window_max: int = 32 * MIB
    """Most: 1 Gbit/s over 250 ms. What arrives is bounded by receive buffers, not by this."""
    together_max: int = 64 * 32 * MIB
    """Most that all peers together are asked for ahead; a limited download asks for little, so that what it asks for comes
    before its senders give up. At least one want is asked for."""
    wants_max: int = 512
    """Most wants at one peer: half of what a server keeps, so that two sessions fit (A46)."""
    size_guess: int = 256 * 1024
    """Size of a block before any has been seen: Kubo's default leaf."""
    probes: int = 64
    """Wants for which a peer with unknown parts is asked for HAVE at a time."""
    look_ahead: int = 1024
    """Wants among which the order is free. More spreads better between receivers, and leaves more holes in a file."""
    stall_min: float = 2.0
    stall_max: float = 4.5
    """A peer that owes blocks and sends nothing for this long (20 times its delay, between the two) has stalled: others
    take over. The bound to keep is 5 s a stalled provider."""
    queue_max: float = 10.0
    """Seconds of its own rate a peer is asked for ahead at most: a slow one may not sit on 4 MiB that others could bring."""
    queue_parts: float = 2.0
    """The same of a peer that has parts: it is asked for what others will have soon too, and then whoever is free brings it."""
    overdue_min: float = 10.0
    overdue_max: float = 30.0
    """A single want that a lively peer does not answer for 3 times what its queue should take, between the two, is moved."""
    overdue_slow: float = 300.0
    """The later one while a block is on its way from it: 1 MiB from one of eight receivers of 32 KiB/s takes so long."""
    rest_min: float = 0.25
    rest_max: float = 30.0
    """A peer that is of no use is tried again with one want after a rest that doubles between these."""
    rest_sending: float = 2.0
    """The most for one that was sending when its line paused or broke."""
    retry: float = 5.0
    """How often wants that every peer refused are offered to all again."""
    surplus: int = 4 * MIB
    """More may come than what is owed is reckoned with, but never more than this: a message. Bytes beyond show nothing."""
    breaks: int = 3
    """So many blocks in a row that were begun and broke off, and a peer loses its rank."""
    misses: int = 8
    """So many DONT_HAVE in a row, with no block between them, and a peer loses its rank."""
    endgame_step: float = 0.1
    """How often duplicates are considered once nothing is left to ask for."""
    endgame_least: float = 0.2
    """A want is asked for a second time only when its peer will take this long or longer."""
    time_guess: float = 0.25
    """How long a peer of unknown speed is reckoned to take for a block."""
    peers_max: int = 64
    """Providers that are connected at a time; the swarm protocol names 20 at a time. Who was of no use does not count."""
    dials: int = 8
    dials_starved: int = 32
    dial_patience: float = 1.0
    """Connection attempts at a time, and of peers not tried yet while nobody brings anything. Who takes longer than the last to
    answer no longer counts: where nobody answers, 5 s of TCP are then 160 attempts of the 256 that a host makes at a time."""
    broadcast_peers: int = 32
    broadcast_wants: int = 4
    """To whom, and for how many wants, WANT_HAVE is sent while no provider is known."""

    @classmethod
    def limited(cls, rate: int) -> "SessionParameters":
        """For a download of at most `rate` bytes a second."""
        return cls(together_max=max(int(rate * TOGETHER_SECONDS), 1))
