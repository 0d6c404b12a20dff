"""Circuit relay v2: connections to peers that nobody can dial, through one that both can. Source: libp2p/specs, relay/circuit-v2.md."""
